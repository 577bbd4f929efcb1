"""From a run and its judgement to what the user gets."""

from __future__ import annotations

import math
import time

from tiltflow.fitting.posterior.judgement import Judgement
from tiltflow.fitting.posterior.result import Mode, Posterior
from tiltflow.fitting.posterior.state import State


def concluded(state: State, found: Judgement) -> Posterior:
    """All of it."""
    chains, facts, regions = state.chains, found.facts, found.regions
    assert chains is not None
    state.budget.ended = time.monotonic()
    _, y, _, value = chains.drawn()
    draws = {n: v.reshape(*value.shape, *v.shape[1:]) for n, v in found.values.items()}
    density = value - found.log_weights.reshape(value.shape) + state.reference
    each = zip(regions.known, regions.known_errors, regions.found_by, strict=True)
    modes = tuple(
        Mode(
            share=float(share),
            error=float(error),
            log_z=found.log_z.mean + math.log(share),
            mean={n: v[regions.labels == k].mean(axis=0) for n, v in draws.items()},
            found_by=int(found_by),
        )
        for k, (share, error, found_by) in enumerate(each)
        if share > 0 and (regions.labels == k).any()
    )
    worst = {
        "rhat": facts.rhat,
        "rhat_of": facts.rhat_of,
        "ess_bulk": facts.ess_bulk,
        "ess_tail": facts.ess_tail,
        "pareto_k": facts.pareto_k,
        "effective_share": facts.effective,
    }
    return Posterior(
        verdict=found.verdict,
        log_z=found.log_z,
        draws=draws,
        log_density=density,
        modes=modes,
        labels=regions.labels,
        worst=worst,
        trail=tuple(state.trail),
        budget=state.budget,
        target=state.target,
        proposal=chains.proposal,
        positions=y,
    )
