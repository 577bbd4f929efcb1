"""The verdict: numbers held against limits, in words that say what to do.

It has five parts: the data, the backbone, the tilt, the chains and log Z. Each check belongs to
one, and each part is `ok`; `draw more`, where nothing is wrong but a number is not as precise as it
should be; `caution`, where something is doubtful; or `failed`, where numbers are not to be used.
The whole is as its worst part.

What fails takes other numbers with it: where log Z is wrong, so is the distance to a simple model.
A check says which parts its number rests on, and is not heard where one of them has failed before;
of parts that are equally bad the first is named, since each works on what those before it made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Severity = Literal["draw more", "caution", "failed"]
Part = Literal["data", "backbone", "tilt", "chains", "log Z"]
STATUSES = ("ok", "draw more", "caution", "failed")
PARTS: tuple[Part, ...] = get_args(Part)
MOST_RHAT, NEARLY, DISAGREE = 1.01, 1.02, 1.05  # beyond: draw more, caution, failed
LEAST_ESS, FEWEST_ESS = 400.0, 100.0  # below: draw more, failed
LEAST_ACCEPTED, MOST_ACCEPTED = 0.6, 0.95


@dataclass(frozen=True)
class Check:
    """One number, held against its limit.

    Attributes:
        name: of the number.
        value, limit: as they are shown.
        ok: whether the check is passed; False if the value is NaN.
        severity: what the verdict becomes if it is not.
        means: what a failure means.
        try_: what to try then.
        part: of the verdict that it belongs to.
        rests_on: parts without which the number means nothing.
    """

    name: str
    value: float
    limit: float
    ok: bool
    severity: Severity
    means: str
    try_: str
    part: Part = "chains"
    rests_on: tuple[Part, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `try_` is called `try`."""
        return {
            "part": self.part,
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "limit": self.limit,
            "ok": self.ok,
            "severity": self.severity,
            "means": self.means,
            "try": self.try_,
        }


def judge(
    *,
    rhat_max: float,
    ess_bulk_min: float,
    ess_tail_min: float,
    acceptance: float | None,
    divergences: int | None,
    draws_total: int,
    extra: Sequence[Check] = (),
) -> dict[str, Any]:
    """Judge chains by their worst numbers, and by `extra` checks.

    Limits on R-hat and effective sizes are those of Vehtari et al. 2021, section 4. What was not
    recorded, or means nothing for a kernel, is None, and not judged.

    Returns:
        `status` (one of `STATUSES`), `text`, `parts` and `checks`, as `conclude`.
    """
    checks = [
        Check(
            name="R-hat",
            value=rhat_max,
            limit=MOST_RHAT,
            ok=rhat_max <= MOST_RHAT,
            severity=_of_rhat(rhat_max),
            means="The chains do not agree with one another: they have not forgotten where they "
            "started.",
            try_="Draw more, or warm up longer; if it stays, the model has modes that the chains "
            "do not travel between.",
        ),
        Check(
            name="bulk ESS",
            value=ess_bulk_min,
            limit=LEAST_ESS,
            ok=ess_bulk_min >= LEAST_ESS,
            severity="draw more" if ess_bulk_min >= FEWEST_ESS else "failed",
            means="Means rest on too few independent draws.",
            try_="Draw more from each chain.",
        ),
        Check(
            name="tail ESS",
            value=ess_tail_min,
            limit=LEAST_ESS,
            ok=ess_tail_min >= LEAST_ESS,
            severity="draw more" if ess_tail_min >= FEWEST_ESS else "failed",
            means="Quantiles in the tails rest on too few independent draws.",
            try_="Draw more from each chain.",
        ),
    ]
    if divergences is not None:
        checks.append(_divergent(divergences / max(draws_total, 1)))
    if acceptance is not None:
        checks.append(_accepted(acceptance))
    return conclude([*checks, *extra])


def _of_rhat(rhat: float) -> Severity:
    return "draw more" if rhat <= NEARLY else "caution" if rhat <= DISAGREE else "failed"


def _divergent(share: float) -> Check:
    return Check(
        name="divergences, share",
        value=share,
        limit=0.001,
        ok=share <= 0.001,
        severity="caution" if share <= 0.01 else "failed",
        means="Trajectories broke off where the energy is too steep or not finite: such "
        "regions are not explored.",
        try_="Raise the target acceptance, and look at where f is steep.",
    )


def _accepted(acceptance: float) -> Check:
    """The limit is the one that is nearer."""
    timid = acceptance > MOST_ACCEPTED
    return Check(
        name="acceptance",
        value=acceptance,
        limit=MOST_ACCEPTED if timid else LEAST_ACCEPTED,
        ok=LEAST_ACCEPTED <= acceptance <= MOST_ACCEPTED,
        severity="caution" if acceptance >= 0.3 else "failed",
        means="The step size does not suit the target: "
        + ("steps are timid, and cost more than they need." if timid else "too many are refused."),
        try_="Warm up longer; where nearly every step is accepted however large it is, take fewer "
        "leapfrogs."
        if timid
        else "Warm up longer.",
    )


def is_tuned(target: float | None) -> bool:
    """Whether a kernel that aims at this acceptance can be judged by it.

    The limits are those of kernels whose steps are adapted, to an acceptance between them.
    """
    return target is not None and LEAST_ACCEPTED <= target <= MOST_ACCEPTED


def biased(kernel: str) -> Check:
    """What is said of draws of a kernel that is biased."""
    return Check(
        name="bias of the kernel",
        value=1.0,
        limit=0.0,
        ok=False,
        severity="caution",
        means=f"{kernel} has no Metropolis test: its draws are not the model's, however "
        "long the chains, and agreement between chains does not show it.",
        try_="Use another kernel (hmc), or smaller steps and compare.",
    )


def conclude(checks: Sequence[Check]) -> dict[str, Any]:
    """What checks amount to: the worst severity among those that are not passed, in words.

    Checks that rest on a part that has failed are left out; those they rest on come before them.

    Returns:
        `status`, one of `STATUSES`; `part`, where the trouble begins: the first of those that are
        as bad as the whole, None if it is ok; `text`; `parts`, the status of each part that was
        looked at; and `checks`.
    """
    checks = _heard(checks)
    broken = [check for check in checks if not check.ok]
    looked_at = {check.part for check in checks}
    parts = {
        part: _worst([check for check in broken if check.part == part])
        for part in PARTS
        if part in looked_at
    }
    status = _worst(broken)
    # Of a failure the doubts beside it are not the news.
    names = _listed([check.name for check in broken if check.severity == status])
    bad = [part for part in parts if parts[part] == status and broken]
    return {
        "status": status,
        "part": bad[0] if bad else None,
        "text": _TEXTS[status].format(names=names, where=_place(bad)) if bad else _praise(checks),
        "parts": parts,
        "checks": [check.to_dict() for check in checks],
    }


def _heard(checks: Sequence[Check]) -> list[Check]:
    """Those checks that rest on no part that has failed before them."""
    heard, failed = [], set()
    for check in checks:
        if failed.isdisjoint(check.rests_on):
            heard.append(check)
            if not check.ok and check.severity == "failed":
                failed.add(check.part)
    return heard


def _place(parts: Sequence[str]) -> str:
    """Where the trouble begins, and what it takes with it."""
    first, *others = [part if part == "log Z" else f"the {part}" for part in parts]
    return f"{first}, and with it {_listed(others)}" if others else first


def _worst(broken: Sequence[Check]) -> str:
    """The status that checks that are not passed amount to."""
    return max((check.severity for check in broken), key=STATUSES.index, default="ok")


_TEXTS = {
    "draw more": "Draw more: nothing is wrong, but {names} missed the limit.",
    "caution": "Use with caution ({where}): {names} missed the limit.",
    "failed": "Failed ({where}): do not use these numbers. {names} failed.",
}
_CONVERGED = (
    "The chains have converged: they agree with one another, and every number rests on enough "
    "independent draws."
)


def _praise(checks: Sequence[Check]) -> str:
    """What is said where all checks are passed: of every part, how many looked at it."""
    counts = {part: sum(check.part == part for check in checks) for part in PARTS}
    told = [
        f"{part if part == 'log Z' else f'the {part}'} ({count} check{'s' * (count > 1)})"
        for part, count in counts.items()
        if count
    ]
    words = [f"Nothing speaks against {_listed(told, 'or')}."] if len(told) > 1 else []
    return " ".join([*words, *([_CONVERGED] if counts["chains"] else [])])


def _listed(names: list[str], joined: str = "and") -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {joined} {names[-1]}"


def refusal(reason: str) -> dict[str, Any]:
    """The verdict on a model that is not worth checking, for `reason`."""
    text = f"{_TEXTS['failed'].format(names='The model', where='the backbone')} {reason}"
    parts = {"backbone": "failed"}
    return {"status": "failed", "part": "backbone", "text": text, "parts": parts, "checks": []}
