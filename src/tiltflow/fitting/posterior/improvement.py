"""What is done about a verdict that is not ok, as long as the budget allows."""

from __future__ import annotations

import math

from tiltflow.fitting.posterior.judgement import Judgement
from tiltflow.fitting.posterior.plan import MOST_DRAWS, Step
from tiltflow.fitting.posterior.stages import another_fits
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.verdict import (
    FARTHEST_FLUX,
    FARTHEST_SIDES,
    HEAVIEST,
    LEAST_FLUX,
    LEAST_SIZE,
    MIXED,
    SLOWEST,
    WIDEST,
    Facts,
)

HARDER = 4  # times more of both, after a refit that disagreeing chains have made needful
MOST_ROUNDS, MOST_REFITS, MOST_POPULATIONS = 16, 8, 4
GROWTH = 4.0  # of the number of draws in a round, at most
POOR = 0.4  # effective share below which another fit helps


def next_steps(state: State, found: Judgement) -> list[Step]:
    """Stages that may help most, within the budget; none if nothing is to be done, or can be."""
    if found.verdict.status == "ok" or state.rounds >= MOST_ROUNDS:
        return []
    state.rounds += 1
    facts = found.facts
    spare = state.budget.evaluations is None
    disagree = _disagree(facts)
    state.effort = HARDER if spare and (disagree or state.effort > 1) else 1
    again: list[Step] = [["sample", state.effort], ["match"], ["judge"]]
    if facts.lacking and len(state.populations) < MOST_POPULATIONS and _fits(state, 0.3):
        state.helped.append("another population of twice the size")
        why = "with the particles of another population"
        return [["temper", "wide", "diagonal", 2], ["refit", True, why], *again]
    poor = disagree or not facts.log_z.holds or facts.effective < POOR
    poor |= facts.log_z.upper - facts.log_z.lower > WIDEST or facts.pareto_k > HEAVIEST
    poor |= facts.moving < SLOWEST
    if poor and state.refits < MOST_REFITS and _gains(state, facts) and _fits(state, 0.3):
        return [["refit", disagree, f"R-hat was {facts.rhat:.3f}"], *again]
    blocks = _blocks_wanted(state, facts)
    return [["sample", state.effort, blocks], ["match"], ["judge"]] if blocks else []


def _disagree(facts: Facts) -> bool:
    """Whether chains have not been where they should have been."""
    cut = facts.flux is not None and facts.flux.errors > FARTHEST_FLUX
    return cut or facts.rhat > MIXED or facts.sides > FARTHEST_SIDES


def _fits(state: State, reserve: float) -> bool:
    """Whether there is room for another fit, chains under it, and a verdict."""
    chains, budget = state.chains, state.budget
    assert chains is not None
    blocks = 2 + state.sizes.warming * state.effort
    draws = blocks * chains.block * len(chains.z)
    seconds = budget.expected({"fit": 1, "chains": blocks, "log Z": 2 * draws, "verdict": draws})
    evaluations = blocks * chains.cost + 3 * state.sizes.survey + state.sizes.exact
    return budget.keeps(reserve) and budget.allows(1.5 * seconds, evaluations)


def _gains(state: State, facts: Facts) -> bool:
    """Whether one of the last two refits has made the proposal better."""
    state.overlaps.append(facts.log_z.overlap)
    recent, former = state.overlaps[-2:], state.overlaps[:-2]
    return max(recent) > 1.02 * max(former, default=0.0)


def _blocks_wanted(state: State, facts: Facts) -> int:
    """More draws, as many as the widest of all limits wants; 0 if there is no room or no need."""
    chains = state.chains
    assert chains is not None
    half = (facts.log_z.high - facts.log_z.low) / 2
    doubted = facts.rhat > facts.agreed or _disagree(facts)
    bound = 0.0 if facts.flux is None or math.isnan(facts.flux.bound) else facts.flux.bound
    lack = max(
        (half / facts.within) ** 2,
        (bound / max(5 * facts.within, LEAST_FLUX)) ** 2,
        (facts.shares / facts.shared) ** 2,
        1.2 * LEAST_SIZE / max(facts.log_z.ess_p, 1.0),
        1.2 * facts.least / max(min(facts.ess_bulk, facts.ess_tail), 1.0),
        2.0 if doubted or facts.pareto_k > HEAVIEST else 0.0,
        1.0,
    )
    blocks = len(chains.kept)
    wanted = math.ceil(blocks * min(1.1 * lack, GROWTH)) if lack > 1 else 0
    if wanted <= blocks or wanted * chains.block * len(chains.z) > MOST_DRAWS:
        return 0
    return wanted if another_fits(state) else 0
