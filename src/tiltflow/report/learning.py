"""Pictures of learning: does the tilt gain on data it has not seen, at equilibrium?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import palette
from .figures import Picture, Span, axes_with, few_ticks, key, label_ends, line
from .numbers import finite, nats, readable
from .run_folder import SECOND, Run, column

Stages = dict[str, list[Mapping[str, Any]]]
"""The stages of each learner, in their order."""

MAX_LEARNERS = 3
AGREEMENT = 2.5
"""Standard errors that learners and witnesses may differ by before a stage ends."""
HEALTHY_ACCEPTANCE = (0.6, 0.95)

_GAINS = (("gain_train", "train", ":"), ("gain_val", "held out", "-"))
_CURVES: tuple[tuple[str, str, tuple[float, float] | None, Span, str], ...] = (
    ("share", "Share of witnesses", (0.0, 1.02), "third",
     "The effective part of the witnesses, particles that never teach, that still counts after "
     "reweighting. Near zero, weights have collapsed and the model has left its particles "
     "behind."),
    ("acceptance", "Acceptance", (0.0, 1.02), "third",
     "How often HMC moves are accepted, the healthy range shaded. A fall means that the tilt "
     "grows steep faster than the step size shrinks."),
    ("transitions", "Transitions per stage", None, "third",
     "How many moves the particles needed before they forgot what they were trained on. A "
     "rising count is the price of a stronger tilt."),
)  # fmt: skip


def learning_pictures(run: Run) -> list[Picture]:
    """All curves of the tilt's learning for which there are events."""
    stages: Stages = {}
    for event in run.while_learning("stage"):
        name = str(event.get("learner") or "tilt")[:24]
        name = f"{name}, on data" if event.get("phase") == SECOND else name
        if name in stages or len(stages) < MAX_LEARNERS:
            stages.setdefault(name, []).append(event)
    pictures = [_gain(run, stages), _fresh(run), _log_z(run, stages)]
    pictures += [_curve(stages, *curve) for curve in _CURVES]
    for learner, events in stages.items():
        title = "Mean of f" if len(stages) == 1 else f"Mean of f, {learner} learner"
        pictures.append(_mean_f(learner, title, events, first=learner == next(iter(stages))))
    pictures.append(_agreement(stages))
    return [p for p in pictures if p is not None]


def backbone_pictures(run: Run) -> list[Picture]:
    """The training curve of the backbone."""
    progress = run.happened("backbone", "progress")
    kept = column(run.happened("backbone", "kept"), "step", "nll_val")
    curves = [
        (column(progress, "step", "nll_train"), "train", "--"),
        (column(progress, "step", "nll_val"), "validation", "-"),
    ]
    curves = [curve for curve in curves if curve[0].size]
    if not curves:
        return []

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "step", "nats, lower is better")
        for xy, _, dashes in curves:
            line(axes, xy, color=palette.BACKBONE, linestyle=dashes)
        heights = np.concatenate([xy[:, 1] for xy, _, _ in curves])
        low, high = heights.min(), np.percentile(heights, 95)
        if high > low:
            axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        if kept.size:
            _ring(axes, kept[-1, 0], kept[-1, 1], palette.BACKBONE)
        label_ends(axes, [(xy[-1, 1], word, palette.BACKBONE) for xy, word, _ in curves])

    ring = "; the ring marks the state that was kept" if kept.size else ""
    caption = (
        f"Negative log-likelihood while the backbone was fitted{ring}. Where validation turns "
        "upward while train falls, the backbone begins to memorise."
    )
    best = min(xy[:, 1].min() for xy, word, _ in curves if word == curves[-1][1])
    alt = f"Backbone training curves against step; lowest {curves[-1][1]} value {nats(best)} nats."
    return [Picture("backbone", "Fitting the backbone", caption, alt, draw, "beside")]


def _gain(run: Run, stages: Stages) -> Picture | None:
    if not _has(stages, "gain_val") and not _has(stages, "gain_train"):
        return None
    kept = _kept_stage(run, stages)

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, "nats gained")
        labels = []
        for i, (learner, events) in enumerate(stages.items()):
            short = f"{learner}, " if len(stages) > 1 else ""
            for field, word, dashes in _GAINS:
                curve = column(events, "seconds", field)
                if curve.size:
                    line(axes, curve, color=_colour(i), linestyle=dashes)
                    labels.append((curve[-1, 1], short + word, _colour(i)))
        if kept is not None:
            _ring(axes, *kept, palette.TILTED)
        axes.set_ylim(*_robust(axes))
        label_ends(axes, labels)

    ring = "" if kept is None else "; the ring marks the state that was kept"
    caption = (
        f"Nats gained over the backbone, normalised by the witnesses{ring}. Held-out gain is the "
        "one to believe: a widening gap is overfitting."
    )
    last = {k: column(v, "seconds", "gain_val")[-1:] for k, v in stages.items()}
    ends = ", ".join(f"{k} {nats(float(v[0, 1]))}" for k, v in last.items() if v.size)
    alt = f"Gain against seconds; last held-out gain in nats: {ends or 'unknown'}."
    return Picture("gain", "Gain over the backbone", caption, alt, draw)


def _fresh(run: Run) -> Picture | None:
    """The gain by the particles that learn, and by chains started afresh, at the same moments."""
    events = run.while_learning("fresh")
    told, found = (column(events, "seconds", field) for field in ("gain_val", "gain_fresh"))
    if not (told.size and found.size):
        return None
    low, high = finite(run.metric("gain_nats", "low")), finite(run.metric("gain_nats", "high"))

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, "nats gained")
        line(axes, told, color=palette.BACKBONE, linestyle="--")
        line(axes, found, color=palette.TILTED, linestyle="-")
        axes.plot(found[:, 0], found[:, 1], "o", color=palette.TILTED, markersize=4)
        if low is not None and high is not None:
            axes.axhspan(low, high, color=palette.TILTED, alpha=0.15, linewidth=0)
        label_ends(
            axes,
            [
                (told[-1, 1], "as learning tells it", palette.BACKBONE),
                (found[-1, 1], "by fresh chains", palette.TILTED),
            ],
        )

    band = "" if low is None else " The band is the final gain on test data, with its interval."
    caption = (
        "At set times chains are started afresh from the backbone, under the tilt as it is then. "
        "Where their mean of f is another than that of the particles, learning had left "
        f"equilibrium, and begins again where these chains are.{band}"
    )
    alt = (
        f"Gain against seconds; at the last look {nats(float(told[-1, 1]))} nats as learning tells "
        f"it and {nats(float(found[-1, 1]))} nats by fresh chains."
    )
    return Picture("fresh", "Learning against fresh chains", caption, alt, draw)


def _kept_stage(run: Run, stages: Stages) -> tuple[float, float] | None:
    """Seconds and held-out gain of the stage that was kept last, of whichever learner."""
    at = column(_all(stages), "step", "seconds", "gain_val")
    for step, gain in column(run.while_learning("kept"), "step", "gain_val")[-1:]:
        same = at[at[:, 0] == step]
        if len(same):
            _, when, height = same[np.abs(same[:, 2] - gain).argmin()]
            return float(when), float(height)
    return None


def _log_z(run: Run, stages: Stages) -> Picture | None:
    if not _has(stages, "log_z"):
        return None
    final = finite(run.metric("log_z", "mean"))

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, "log Z, nats")
        labels = _lines(axes, stages, "log_z")
        if _has(stages, "log_z_running"):
            _lines(axes, stages, "log_z_running", dots=True)
        low, high = finite(run.metric("log_z", "low")), finite(run.metric("log_z", "high"))
        if low is not None and high is not None:
            axes.axhspan(low, high, color=palette.GRID, zorder=0)
        if final is not None:
            axes.axhline(final, color=palette.DATA, linewidth=0.9, linestyle=(0, (4, 3)))
            labels.append((final, "fresh chains", palette.DATA))
        label_ends(axes, labels)

    caption = (
        "The log-normaliser while learning, as a bridge from the backbone to the witnesses has it "
        "for the averaged tilt; dots: by the witnesses’ annealing weights since the bridge before, "
        "for the tilt of the moment. "
    )
    caption += (
        "The estimate made afterwards will show whether learning stayed at equilibrium."
        if final is None
        else "The dashed line is the estimate that chains started afresh made for the state that "
        "was kept; passing through it when that state was kept means that learning stayed at "
        "equilibrium."
    )
    alt = f"Running log Z against seconds; estimate at the end {nats(final)} nats."
    return Picture("log_z", "Running log Z", caption, alt, draw)


def _curve(
    stages: Stages,
    field: str,
    title: str,
    limits: tuple[float, float] | None,
    span: Span,
    caption: str,
) -> Picture | None:
    """One number of each stage against time, one line for each learner."""
    if not _has(stages, field):
        return None

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, title.lower() if limits is None else "share")
        if field == "acceptance":
            axes.set_ylabel("accepted")
            axes.axhspan(*HEALTHY_ACCEPTANCE, color=palette.GRID, zorder=0)
        if field == "transitions":
            few_ticks(axes.yaxis, 5, whole=True)
        labels = _lines(axes, stages, field, steps=field == "transitions")
        axes.set_ylim(*(limits or (0, 1.08 * max(axes.get_ylim()[1], 1))))
        label_ends(axes, labels)

    values = column(_all(stages), field)
    ends = f"from {readable(float(values.min()))} to {readable(float(values.max()))}"
    return Picture(field, title, caption, f"{title} against seconds, {ends}.", draw, span)


def _mean_f(
    learner: str, title: str, events: list[Mapping[str, Any]], *, first: bool
) -> Picture | None:
    kinds = (
        ("f_val", "validation data", palette.DATA, "-"),
        ("f_witnesses", "witnesses", palette.TILTED_DARK, "-"),
        ("f_learners", "learners", palette.TILTED, (0, (3, 1.5))),
    )
    curves = [(column(events, "seconds", k), word, c, dash) for k, word, c, dash in kinds]
    curves = [curve for curve in curves if curve[0].size]
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, "mean of f")
        for xy, _, colour, dashes in curves:
            line(axes, xy, color=colour, linestyle=dashes, linewidth=1.5)
        key(axes, [(word, colour) for _, word, colour, _ in curves])

    caption = (
        "Particles that teach, particles that only watch, and unseen data. All three together is "
        "equilibrium; learners below witnesses means that the tilt pushes its own particles away."
        if first
        else f"The same for the {learner} learner."
    )
    ends = ", ".join(f"{word} {readable(float(xy[-1, 1]))}" for xy, word, _, _ in curves)
    alt = f"Mean of f against seconds; at the end {ends}."
    return Picture(f"mean_f_{_slug(learner)}", title, caption, alt, draw)


def _agreement(stages: Stages) -> Picture | None:
    if not _has(stages, "agreement"):
        return None

    def draw(figure: Figure) -> None:
        axes = _over_time(figure, "standard errors")
        labels = _lines(axes, stages, "agreement", dots=True)
        values = column(_all(stages), "agreement")
        reach = max(1.3 * AGREEMENT, float(np.percentile(np.abs(values), 98)) * 1.1)
        axes.set_ylim(-reach if values.min() < 0 else 0, reach)
        axes.axhspan(-AGREEMENT, AGREEMENT, color=palette.GRID, zorder=0)
        axes.axhline(0, color=palette.HAIRLINE, linewidth=0.8)
        limits = [(AGREEMENT, f"+{AGREEMENT}", palette.MUTED)]
        limits += [(-AGREEMENT, f"−{AGREEMENT}", palette.MUTED)] if values.min() < 0 else []
        label_ends(axes, labels or limits)

    caption = (
        "The difference of the two means of f, learners against witnesses, at the end of each "
        "stage. Inside the shaded band it is noise; outside, the particles still remember."
    )
    values = column(_all(stages), "agreement")
    inside = float((np.abs(values) <= AGREEMENT).mean())
    alt = f"Agreement of learners and witnesses; {inside:.0%} of stages within {AGREEMENT}."
    span: Span = "half" if len(stages) == 1 else "beside"  # without leaving a hole in the page
    return Picture("agreement", "Learners against witnesses", caption, alt, draw, span)


def _over_time(figure: Figure, y: str) -> Axes:
    """Axes over seconds of learning, from zero on."""
    axes = axes_with(figure, "seconds of learning", y)
    axes.update_datalim([(0.0, 0.0)], updatey=False)
    return axes


def _lines(
    axes: Axes, stages: Stages, field: str, *, steps: bool = False, dots: bool = False
) -> list[tuple[float, str, str]]:
    """Draw a field of every learner; the labels for its ends, none for a single learner."""
    labels = []
    for i, (learner, events) in enumerate(stages.items()):
        curve = column(events, "seconds", field)
        if not curve.size:
            continue
        look = {"color": _colour(i), "linestyle": "-" if i == 0 else (0, (4, 1.5))}
        if dots:
            look |= {"linestyle": "none", "marker": "o" if i == 0 else "s", "markersize": 3.2}
            look |= {"markeredgewidth": 0}
        line(axes, curve, drawstyle="steps-pre" if steps else "default", **look)
        labels.append((float(curve[-1, 1]), learner, _colour(i)))
    return labels if len(stages) > 1 else []


def _ring(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot(
        [x], [y], marker="o", markersize=8, color=colour, markerfacecolor="white",
        markeredgewidth=1.6, clip_on=False, zorder=5,
    )  # fmt: skip


def _robust(axes: Axes) -> tuple[float, float]:
    """Vertical limits that one exploding stage cannot take over, with zero in sight."""
    heights = np.concatenate([np.asarray(drawn.get_ydata(), float) for drawn in axes.get_lines()])
    low, high = np.nanpercentile(heights, [4, 100])
    low = min(0.0, low)
    pad = 0.07 * (high - low) or 0.5
    return low - pad * (low < 0), high + pad


def _colour(i: int) -> str:
    return palette.TILTED if i == 0 else palette.BASELINE


def _has(stages: Stages, field: str) -> bool:
    return column(_all(stages), "seconds", field).size > 0


def _all(stages: Stages) -> list[Mapping[str, Any]]:
    return [event for events in stages.values() for event in events]


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
