"""The verdict on a density: reasons, each a number held against its limit.

An evidence *holds* only where two independent sides agree and the chains have converged: chains
that have not are draws of another density, whose evidence both sides will agree on. What has not
been searched cannot be judged, so nothing here says that all modes were found.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from tiltflow.diagnostics.verdict import Check, Severity
from tiltflow.fitting.posterior.flux import Flux
from tiltflow.normalizer.estimate import LogZ

Status = Literal["ok", "draw more", "caution", "failed"]

CONVERGED, MIXED, APART = 1.01, 1.02, 1.05  # R-hat: enough, draw more, caution; beyond: failed
LEAST_SIZE = 400.0  # effective draws
WIDEST = 0.2  # nats between the bounds of log Z
FARTHEST = 1.0  # nats between a tempering and the bridge
FARTHEST_HALVES, FARTHEST_SIDES, FARTHEST_FLUX = 4.0, 4.0, 4.0  # standard errors
LEAST_FLUX = 0.08
SLOWEST = 0.3  # of the usual acceptance
WIDENED = 1.7  # the spread of one population over that of the other
MOST_RISEN = 3.0  # nats
FARTHEST_OUT = 2.0  # times as far as the farthest draw
HEAVIEST, TOO_HEAVY = 0.7, 1.0  # Pareto k-hat of p over q
FIRST, TOLD = {"improper"}, 4  # of the words, and how many of the reasons they hold
MORE = {"R-hat", "bulk ESS", "tail ESS", "interval of log Z", "effective draws of log Z", "bounds"}
MORE |= {"flux, at most", "error of shares"}


@dataclass(frozen=True)
class Facts:
    """What has been found, before it is judged.

    Attributes:
        rhat, rhat_of: the largest, and of what.
        ess_bulk, ess_tail: the smallest effective sizes.
        log_z: the estimate.
        within: half the width that its 95% interval may have.
        least: the effective size that is asked for.
        agreed: the R-hat that is.
        halves: standard errors between log Z by the first half of the chains and by the second.
        sides: standard errors between shares of tails and parts, by weighted exact draws of the
            proposal and by chains, at the most.
        flux: of the chains' draws out of where they have been; None without a gradient.
        moving: how likely trajectories from tails are accepted, over what is usual, at the least.
        pareto_k: of the weights of p over the proposal.
        effective: the share of the proposal's draws that is effective, in [0, 1].
        apart: nats between the estimate and the nearer tempering, beyond 4 of its errors.
        far_out: how many times farther out than all draws the density is as high as there.
        shares, shared: the total variation by which shares of modes are expected to be wrong, and
            by which they may be.
        lacking: modes that fewer than two populations have found.
        outward: how much farther out the second half of the draws is than the first, as a ratio.
        growth: of the spread from the narrow population to the wide one, the largest ratio.
        rise: nats by which log Z rose over the last looks, if it did three times or more; or 0.
        edge, edge_of: the share of draws within 1% of a bound, and of which parameter.
        nan, nan_of: the share of draws, given or of the proposal, at which the density is none.
        divergent: the share of trajectories that broke off.
        rounding: nats, of a value of the density.
        gradient: its relative error.
        unfinished: what had to be left out for want of time or evaluations.
    """

    rhat: float
    rhat_of: str
    ess_bulk: float
    ess_tail: float
    log_z: LogZ
    within: float
    least: float
    agreed: float
    halves: float
    sides: float
    flux: Flux | None
    moving: float
    pareto_k: float
    effective: float
    apart: float
    far_out: float
    shares: float
    shared: float
    lacking: int
    outward: float
    growth: float
    rise: float
    edge: float
    edge_of: str
    nan: float
    nan_of: str
    divergent: float
    rounding: float
    gradient: float
    unfinished: str


@dataclass(frozen=True)
class Verdict:
    """What to think of the draws and of the evidence.

    Attributes:
        status: `"ok"`; `"draw more"`: nothing is wrong but the numbers are not as precise as asked;
            `"caution"`; or `"failed"`.
        reasons: all checks, broken or not.
        searched: where the density was looked for.
        helped: what was tried beyond the first plan, and what came of it.
    """

    status: Status
    reasons: tuple[Check, ...]
    searched: str
    helped: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[Check, ...]:
        """Those that were not passed."""
        return tuple(check for check in self.reasons if not check.ok)

    @property
    def converged(self) -> bool:
        """Whether it is not failed, and the chains agree, or nearly so."""
        apart = any(c.name == "R-hat" and c.value > MIXED for c in self.broken)
        return self.status != "failed" and not apart

    @property
    def words(self) -> str:
        """The verdict in a sentence or two."""
        if self.status == "ok":
            return (
                "ok: chains have converged, and both sides of log Z agree with them, as far as was "
                f"searched: {self.searched}"
            )
        # What tells most comes first: of a density that is improper chains disagree as well.
        broken = sorted(self.broken, key=lambda c: (c.name not in FIRST, c.severity != "failed"))
        told = "; ".join(f"{c.name} {c.value:.3g} (limit {c.limit:g})" for c in broken[:TOLD])
        if len(broken) > TOLD:
            told += f"; and {len(broken) - TOLD} more"
        return f"{self.status}: {told}. {broken[0].means} {broken[0].try_}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "status": self.status,
            "converged": self.converged,
            "text": self.words,
            "searched": self.searched,
            "helped": list(self.helped),
            # The parts of a fit's verdict are not those of a density.
            "checks": [
                {k: v for k, v in check.to_dict().items() if k != "part"} for check in self.reasons
            ],
        }


def judged(facts: Facts, searched: str, helped: tuple[str, ...] = ()) -> Verdict:
    """All reasons, and what they amount to."""
    reasons = tuple(_checks(facts))
    broken = [check for check in reasons if not check.ok]
    status: Status = "ok"
    if broken:
        more = all(c.name in MORE and c.severity == "caution" for c in broken)
        more &= not facts.rhat > MIXED
        failed = any(check.severity == "failed" for check in broken)
        status = "failed" if failed else "draw more" if more else "caution"
    return Verdict(status, reasons, searched, helped)


def _checks(facts: Facts) -> list[Check]:
    log_z = facts.log_z
    half = (log_z.high - log_z.low) / 2
    # Particles of populations are far from equilibrium where tails are heavy: chains decide.
    growth = facts.growth if facts.rhat > MIXED or facts.pareto_k > HEAVIEST else 1.0
    growing = facts.rhat > APART and facts.rise > MOST_RISEN
    growth = max(growth, math.exp(min(facts.rise, 50.0))) if growing else growth
    wide = log_z.upper - log_z.lower
    apart = "" if log_z.holds else f": {log_z.words.rstrip('.')}"
    rhat: Severity = "failed" if not facts.rhat <= APART else "caution"
    few: Severity = "failed" if not min(facts.ess_bulk, facts.ess_tail) >= 50 else "caution"
    return [
        _check(
            "R-hat", facts.rhat, facts.agreed, rhat,
            f"The chains disagree, most in {facts.rhat_of}: what they draw is not the density yet, "
            "and an evidence made of it may be wrong though both of its sides agree.",
            "Give it more time; scale or reparameterise what is badly curved.",
        ),
        _check(
            "bulk ESS", facts.ess_bulk, facts.least, few,
            "Means rest on too few independent draws.", "Ask for more draws.", least=True,
        ),
        _check(
            "tail ESS", facts.ess_tail, facts.least, few,
            "Quantiles rest on too few independent draws.", "Ask for more draws.", least=True,
        ),
        _check(
            "log Z contradicts itself", float(not log_z.holds), 0.0, "failed",
            f"The two sides of log Z do not fit together{apart}.",
            "Do not use log Z; give it more time.",
        ),
        _check(
            "effective draws of log Z", log_z.ess_p, LEAST_SIZE, "caution",
            "log Z rests on few independent draws of the density.", "Ask for more draws.",
            least=True,
        ),
        _check(
            "log Z of halves", facts.halves, FARTHEST_HALVES, "caution",
            "The first half of the chains has another log Z than the second.",
            "Give it more time.",
        ),
        _check(
            "shares from two sides", facts.sides, FARTHEST_SIDES, "caution",
            "Exact draws of the proposal, weighted, are oftener in a tail or in a mode, or more "
            "rarely, than the chains are: chains have not been everywhere.",
            "Give it more time; reparameterise what narrows or has heavy tails.",
        ),
        *_of_flux(facts.flux, facts.within),
        _check(
            "as high far out", facts.far_out, FARTHEST_OUT, "caution",
            "The density is as high as among the draws at places far beyond all of them: along a "
            "ridge or a flat that leads there, mass may be missing from the draws and from log Z.",
            "Reparameterise what grows so fast, or give it a prior that falls there.",
        ),
        _check(
            "error of shares", facts.shares, facts.shared, "caution",
            "The shares of the modes are less certain than so many draws should tell.",
            "Ask for more draws.",
        ),
        _check(
            "moves in tails", facts.moving, SLOWEST, "caution",
            "Trajectories from a tail are seldom accepted: what lies farther out is not reached.",
            "Reparameterise what narrows or bends far out.", least=True,
        ),
        _check(
            "interval of log Z", half, facts.within, "caution",
            "log Z is less certain than was asked.", "Give it more time or evaluations.",
        ),
        _check(
            "bounds", wide, max(WIDEST, 2.5 * facts.within), "caution",
            "Bounds of log Z from the two sides are far apart: the proposal does not fit well.",
            "Give it more time; look at the tails.",
        ),
        _check(
            "tempering against bridge", facts.apart, FARTHEST, "caution",
            "All populations that were tempered from afar have another log Z than the chains. The "
            "bridge is the better one, unless the chains have missed a mode.",
            "Run it again with another seed and compare, or start elsewhere.",
        ),
        _check(
            "modes that one population lacks", facts.lacking, 0, "caution",
            "A mode was found by one population alone, so that others may have been missed by all.",
            "Start from draws that cover more, or give it more time.",
        ),
        _check(
            "tails", facts.pareto_k, HEAVIEST,
            "failed" if not facts.pareto_k <= TOO_HEAVY else "caution",
            "Tails of the density are heavier than those of the proposal: mass that no draw has "
            "met may be missing from log Z and from the draws.",
            "Reparameterise, so that tails fall faster.",
        ),
        _check(
            "draws move outward", facts.outward, 1.25, "caution",
            "Later draws are farther out than earlier ones: chains have not seen the tails.",
            "Give it more time; is the density proper?",
        ),
        _check(
            "improper", growth, WIDENED, "failed",
            "The spread grows with that of the start, or log Z from one look to the next: the "
            "density may have no finite integral.",
            "Give every parameter a proper prior.",
        ),
        _check(
            f"edge of {facts.edge_of}" if facts.edge_of else "edge", facts.edge, 0.05, "caution",
            "Many draws lie at a bound: the density does not fall there.",
            "Look whether the bound is meant; log Z depends on it.",
        ),
        _check(
            f"not a number near {facts.nan_of}" if facts.nan_of else "not a number",
            facts.nan, 0.001, "caution",
            "The density is NaN at some points, which count as having no mass.",
            "Look for a logarithm or a root of a negative number, an overflow, or 0 / 0.",
        ),
        _check(
            "divergences", facts.divergent, 0.1, "caution",
            "Trajectories broke off where the density is too steep or not finite.",
            "Look at where it is steep; state bounds as kinds of parameters.",
        ),
        _check(
            "rounding", facts.rounding, 0.01, "failed" if facts.rounding > 0.5 else "caution",
            "The density's values are rounded by so many nats.",
            "Compute in float64, or leave large constants out.",
        ),
        _check(
            "gradient", facts.gradient, 0.2, "caution",
            "The gradient is not the derivative of the density: moves are poor.",
            "Mend the gradient; steps and clipped values have none.",
        ),
        _check(
            "unfinished", float(bool(facts.unfinished)), 0.0, "caution",
            f"{facts.unfinished.capitalize() or 'Nothing'} was left out for want of time.",
            "Allow more time or evaluations.",
        ),
    ]  # fmt: skip


def _of_flux(flux: Flux | None, within: float) -> list[Check]:
    if flux is None:
        return []
    return [
        _check(
            "flux", flux.errors, FARTHEST_FLUX, "caution",
            "The chains' draws are cut off where the density is not small: there is a tail, a neck "
            "or a wall that they have not crossed.",
            "Give it more time; reparameterise what narrows; state walls as kinds of parameters.",
        ),
        _check(
            "flux, at most", flux.bound, max(5 * within, LEAST_FLUX), "caution",
            "It is not known well enough whether the chains have been in all tails.",
            "Give it more time.",
        ),
    ]  # fmt: skip


def _check(
    name: str,
    value: float,
    limit: float,
    severity: Severity,
    means: str,
    try_: str,
    *,
    least: bool = False,
) -> Check:
    """A number that has to be at most the limit, or at least; NaN is not."""
    ok = value >= limit if least else value <= limit
    return Check(
        name, float(value), limit, bool(ok) and not math.isnan(value), severity, means, try_
    )
