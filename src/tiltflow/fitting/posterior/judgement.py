"""What a run's draws and densities amount to: facts, and the verdict on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltflow.diagnostics.convergence import convergence
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.chains import Chains
from tiltflow.fitting.posterior.evidence import bridged, effective_share, halves_apart
from tiltflow.fitting.posterior.far_out import farthest_high
from tiltflow.fitting.posterior.flux import flux_of
from tiltflow.fitting.posterior.modes import Regions, regions_of, surveyed_by
from tiltflow.fitting.posterior.sides import farthest, tail_acceptance
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.target import natural_at
from tiltflow.fitting.posterior.tempering import Population
from tiltflow.fitting.posterior.verdict import Facts, Verdict, judged
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.pareto import pareto_k

FINE_SHARES = 0.015  # total variation of the shares of modes that is always good enough
PROVEN, PROVEN_K = 0.5, 0.5  # effective share and k-hat: exact draws know log Z from below
RISES = 3  # of log Z in turn, from which on it may have no end
TOLD = 300  # ascents, from which on it is said how rare a mode may be that they miss
SIDES_ROWS = 65_536  # exact draws whose shares are looked at


@dataclass(frozen=True)
class Judgement:
    """What is known of a run at some moment.

    Attributes:
        facts, verdict, log_z, regions: as their types say.
        values: draws by name, `[chains * draws, *shape]`.
        log_weights: of the kinds at the draws, `[chains * draws]`.
    """

    facts: Facts
    verdict: Verdict
    log_z: LogZ
    regions: Regions
    values: dict[str, np.ndarray]
    log_weights: np.ndarray

    def told(self, budget: Budget) -> dict[str, Any]:
        """The moment, in plain values."""
        numbers = ("mean", "low", "high", "lower", "upper")
        return {
            "evaluations": budget.used,
            "seconds": budget.elapsed,
            "status": self.verdict.status,
            "rhat": self.facts.rhat,
            **{name: getattr(self.log_z, name) for name in numbers},
        }


def judge(state: State) -> Judgement:
    """Hold what there is against the limits."""
    chains, exact = state.chains, state.exact
    assert chains is not None
    assert state.rough is not None
    z, y, f, value = chains.drawn()
    f_q = np.concatenate([scored.f for scored in exact])
    log_z = bridged(f_q, f, state.reference)
    flat_z, flat_y = (x.reshape(-1, z.shape[-1]).astype(np.float64) for x in (z, y))
    landscape = surveyed_by(
        state.target, chains.proposal, state.populations,
        np.random.default_rng((state.asked.seed, state.drawn)), state.sizes.seeds,
        (flat_z, flat_y, _latent(chains, z, f).ravel()),
    )  # fmt: skip
    regions = regions_of(
        state.target, landscape, chains, state.populations,
        tuple(np.concatenate([scored[place] for scored in exact]) for place in (0, 1, 3)),
    )  # fmt: skip
    marks = regions.indicators()
    seen = np.concatenate([y.astype(np.float64), value[..., None], f[..., None], marks], axis=2)
    names = [*state.target.parameters.labels, "the log-density", "the weight of draws"]
    names += [f"the share of mode {k + 1}" for k in range(marks.shape[2])]
    found = convergence(seen)
    worst = int(np.nanargmax(np.append(found.rhat, 0.0)[:-1]))
    z_q, y_q = (
        np.concatenate([scored[place] for scored in exact])[:SIDES_ROWS] for place in (0, 1)
    )
    values, log_weights = natural_at(state.target, flat_y)
    edge, edge_of = _at_edge(state, values)
    heavy, share = pareto_k(f_q[np.isfinite(f_q)]), effective_share(f_q)
    facts = Facts(
        rhat=float(np.max(found.rhat)),
        rhat_of=names[worst],
        ess_bulk=float(np.min(found.ess_bulk)),
        ess_tail=float(np.min(found.ess_tail[: y.shape[2] + 2])),  # 0 or 1 has no tails
        log_z=log_z,
        within=state.asked.log_z_within,
        least=state.asked.ess,
        agreed=state.asked.rhat,
        halves=halves_apart(f_q, f),
        sides=farthest(
            landscape.over(z_q), f_q[:SIDES_ROWS], landscape.over(z), landscape.labels(z_q, y_q),
            landscape.labels(flat_z, flat_y).reshape(f.shape),
        ),
        flux=flux_of(chains.flux()) if state.target.differentiable else None,
        moving=tail_acceptance(np.concatenate([y, z], axis=2), chains.chances()),
        pareto_k=heavy,
        effective=share,
        apart=_apart(
            state.populations, log_z.mean - state.reference,
            proven=share >= PROVEN and heavy <= PROVEN_K,
        ),
        far_out=0.0 if state.ends is None else farthest_high(flat_y, value.ravel(), *state.ends),
        shares=regions.expected_error,
        shared=max(FINE_SHARES, regions.error_of(state.asked.draws)),
        lacking=regions.lacking,
        outward=_outward(y),
        growth=_growth(state.populations),
        rise=_rise([*(told["mean"] for told in state.trail), log_z.mean]),
        edge=edge,
        edge_of=edge_of,
        nan=max(_nan_of_start(state), float(np.mean([scored.nan for scored in exact]))),
        nan_of=state.nan_of,
        divergent=chains.divergent,
        rounding=state.rough.rounding,
        gradient=state.rough.gradient,
        unfinished=state.unfinished,
    )  # fmt: skip
    verdict = judged(facts, _searched(state, regions), tuple(state.helped))
    told = (
        f"{state.drawn:,} draws, log Z {log_z.mean:.3f} ± {(log_z.high - log_z.low) / 2:.3f}, "
        f"R-hat {facts.rhat:.3f}, overlap {log_z.overlap:.2f}, {verdict.status}"
        + "".join(f", {check.name} {check.value:.3g}" for check in verdict.broken)
    )
    state.budget.spend("verdict", landscape.cost, told, units=float(state.drawn))
    return Judgement(facts, verdict, log_z, regions, values, log_weights)


def _searched(state: State, regions: Regions) -> str:
    assert state.bases is not None
    each = ", ".join(str(int(n)) for n in np.sum(regions.particles > 0, axis=1))
    return (
        f"{len(state.populations)} populations of {len(state.populations[0].y):,} or more, "
        f"{state.bases.words}; modes found by each: {each}{_missed(state)}"
    )


def _missed(state: State) -> str:
    """Which modes ascents may have missed: of what n of them reach, 3 / n and more is met (95%)."""
    if state.tried < TOLD:
        return ""
    return (
        f"; of {state.tried:,} ascents from there: a mode that fewer than one in "
        f"{state.tried // 3:,} starts leads to may have been missed"
    )


def _latent(chains: Chains, z: np.ndarray, f: np.ndarray) -> np.ndarray:
    """The log-density of z at the draws, `[chains, draws]`."""
    rows = z.reshape(-1, z.shape[-1]).astype(np.float64)
    return f + chains.proposal.base.log_prob(rows).reshape(f.shape)


def _apart(populations: list[Population], log_z: float, *, proven: bool) -> float:
    """Nats between log Z and the nearer of the finished temperings, beyond 4 of its errors.

    Where exact draws of the proposal have proven, by their weights, that there is so much mass, a
    tempering that says less is wrong, and no alarm.
    """
    gaps = [(p.log_z - log_z, 4 * p.log_z_error) for p in populations if p.finished]
    far = [(gap if proven else abs(gap)) - error for gap, error in gaps]
    return max(0.0, min(far, default=0.0))


def _growth(populations: list[Population]) -> float:
    """How much wider the wide population has ended than the narrow one, at the most."""
    low, high = (
        np.subtract(*np.quantile(p.y.astype(np.float64), (0.98, 0.02), axis=0))
        for p in populations[:2]
    )
    return float(np.max(high / np.maximum(low, 1e-12)))


def _rise(means: list[float]) -> float:
    """How much the last of log Z's means is above where they began to rise; 0 after few rises."""
    rises = 0
    while rises + 1 < len(means) and means[-rises - 1] > means[-rises - 2]:
        rises += 1
    return means[-1] - means[-rises - 1] if rises >= RISES else 0.0


def _nan_of_start(state: State) -> float:
    """The share of draws given to start from that are no number; of wild starts it says nothing."""
    return 0.0 if state.free is None else state.nan


def _at_edge(state: State, values: dict[str, np.ndarray]) -> tuple[float, str]:
    """The largest share of draws within a hundredth of a bound, and of which parameter."""
    found = [(0.0, "")]
    parameters = state.target.parameters
    for name, kind in zip(parameters.names, parameters.kinds, strict=True):
        near = kind.edge(values[name]) < 0.01
        found.append((float(np.max(np.mean(near, axis=0))), name))
    return max(found)


def _outward(y: np.ndarray) -> float:
    """How much farther from the middle the second half of draws is than the first, as a ratio.

    1 where it may be chance: chains differ by as much.
    """
    flat = y.reshape(-1, y.shape[-1]).astype(np.float64)
    middle = np.median(flat, axis=0)
    spread = np.maximum(np.mean(np.abs(flat - middle), axis=0), 1e-12)
    radius = np.max(np.abs(y - middle) / spread, axis=2)
    half = radius.shape[1] // 2
    first, second = radius[:, :half], radius[:, -half:]
    at = np.quantile(radius, 0.99)
    change = (second > at).mean(axis=1) - (first > at).mean(axis=1)
    error = float(change.std(ddof=1)) / len(change) ** 0.5
    if change.mean() < 3 * error:
        return 1.0
    return float(np.quantile(second, 0.99) / max(np.quantile(first, 0.99), 1e-12))
