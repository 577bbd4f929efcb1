"""What can be done in a run, one stage a function of its state; each may ask for others next.

A stage that goes on for long, such as sampling, does a little and puts itself first again, so that
the run can be kept, or ended, in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tiltflow.errors import InputError
from tiltflow.fitting.posterior import probe, starts
from tiltflow.fitting.posterior.chains import Chains
from tiltflow.fitting.posterior.evidence import effective_share
from tiltflow.fitting.posterior.landscape import Landscape
from tiltflow.fitting.posterior.modes import balanced, lost_by_all_but_one, surveyed_by
from tiltflow.fitting.posterior.plan import Sizes
from tiltflow.fitting.posterior.proposal import Proposal, Scored, fitted
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.target import PART, Target, values_at
from tiltflow.fitting.posterior.tempering import (
    RARER,
    Metric,
    beyond,
    first_rung,
    next_rung,
    resampled,
)
from tiltflow.fitting.posterior.verdict import HEAVIEST
from tiltflow.normalizer.pareto import pareto_k

LEAST_BLOCKS, LEAST_DRAWS = 3, 160  # of each chain; without gradients, draws
HEAVY = 0.3  # Pareto's k of a coordinate's tail, from which on it is bent
FIT_ROWS, MOST_STEPS, FEW_ROWS = 6_000, 3_000, 600
AGAIN, POOREST, FINE = 2, 0.01, 0.6  # fits of a flow to its own draws, and shares between which
GOOD = 0.7  # effective share of the mixture alone, from which on no flow is needed
RESERVE = {0: 0.6, 1: 0.4}  # shares of the budget that the first temperings leave
AT_ONCE = 16_384  # exact draws
DEAREST = 0.05  # share of a limit that a race may take
CHEAP = 4e-6  # seconds of an evaluation, below which programs are compiled lightly


def look(state: State) -> None:
    """Probe the density where it is to start, and place the temperings' bases."""
    seed, budget = state.asked.seed, state.budget
    if state.free is None:
        u = starts.first_starts(state.target.parameters.size, seed, _ascents(state))
    else:
        u = state.free
        state.target = starts.located(state.target, u)
    y = state.target.from_free(u)
    state.target, state.nan = probe.referenced(state.target, y)
    if state.nan:
        value = values_at(state.target, y)
        state.nan_of = probe.nan_where(state.target, y, np.isnan(value))
    if budget.seconds is not None:
        each = budget.pace["evaluation"] = probe.seconds_each(state.target, y)
        fits = 0.5 * (budget.seconds - budget.elapsed) / each
        if state.target.foreign is None and each > CHEAP:
            state.target = state.target.compiled_well()
        most = math.inf if budget.evaluations is None else budget.evaluations
        if fits < most:
            state.sizes = Sizes.fitting(
                state.target.parameters.size, max(fits, 5_000.0), sloped=state.target.differentiable
            )
    elif budget.evaluations is None:
        state.target = state.target.compiled_well()
    if state.free is None:
        state.target, state.bases = starts.from_descents(state.target, u, budget)
    else:
        state.bases = starts.from_draws(state.target, u, seed)
    budget.spend("probe", len(u), f"largest log-density {state.reference:.6g}")


def temper(state: State, base: str, metric: Metric, times: int) -> None:
    """One more population, from one of the bases, a rung at a time."""
    assert state.bases is not None
    number = len(state.populations) + 1
    name = f"tempering {number}"
    state.rung = first_rung(
        state.target,
        state.bases.narrow if base == "narrow" else state.bases.wide,
        name=name,
        metric=metric,
        particles=times * state.sizes.particles,
        part=-(-state.sizes.particles // RARER),
        seed=state.asked.seed + 1_000_003 * number,
    )
    state.budget.spend(name, len(state.rung.value))
    state.todo.insert(0, ["rung", base])


def rung(state: State, base: str) -> None:
    """The next rung of the tempering, or its end.

    It breaks off, unfinished, when too little of the budget would be left.
    """
    assert state.rung is not None
    assert state.bases is not None
    now, budget = state.rung, state.budget
    alone = now.goal != 1.0
    reserve = RESERVE.get(len(state.populations) - alone, 0.3)
    fits = budget.keeps(reserve, now.cost)
    if now.done or not (fits or now.population.rungs == 0):
        state.rung = None
        if alone:
            (state.cold if now.goal > 1.0 else state.hot).append(now.population.y)
            return
        if not now.population.finished:
            state.unfinished = "tempering up to the density itself"
        state.populations.append(now.population)
        if now.population.finished and len(state.populations) <= 2:
            state.todo[:0] = [["go beyond", hot, now.step] for hot in (False, True)]
        return
    density = state.bases.narrow if base == "narrow" else state.bases.wide
    state.rung, cost, words = next_rung(state.target, density, now, state.bases.components)
    budget.spend("beyond" if alone else now.population.name, cost, words)
    state.todo.insert(0, ["rung", base])


def go_beyond(state: State, hot: bool, step: float) -> None:
    """Some of the last population on to another temperature."""
    last, moves = state.populations[-1], state.sizes.beyond
    state.rung = beyond(state.target, last, step, moves, hot=hot)
    state.budget.spend("beyond", len(state.rung.value))
    state.todo.insert(0, ["rung", "narrow"])


def bend(state: State) -> None:
    """Other coordinates where tails are heavy: particles and bases go along."""
    before, flat = state.target, np.concatenate([p.y for p in state.populations])
    away = np.abs(flat - np.median(flat, axis=0)).astype(np.float64)
    heavy = np.array([pareto_k(np.log(column + 1e-12)) for column in away.T]) > HEAVY
    if not heavy.any() or not np.isfinite(flat).all():
        return
    state.target = before.bent(np.where(heavy, 1.0, 0.0))

    def moved(y: np.ndarray) -> np.ndarray:
        return state.target.from_free(before.to_free(y.astype(np.float64)))

    state.populations = [replace(p, y=moved(p.y)) for p in state.populations]
    state.cold, state.hot = ([moved(y) for y in rows] for rows in (state.cold, state.hot))
    if state.free is not None:
        state.bases = starts.from_draws(state.target, state.free, state.asked.seed)


def settle(state: State) -> None:
    """Take the reference at the mass, and float64 where values are rounded there."""
    pooled, rng = np.concatenate([p.y for p in state.populations]), state.rng()
    before = state.reference
    state.target, _ = probe.referenced(state.target, pooled)
    if not state.target.precise:
        found = probe.roughness(state.target, pooled, rng)
        state.budget.spend("probe", 3 * probe.ROWS)
        if found.rounding > probe.MOST_ROUNDED:
            state.target = state.target.made_precise()
    state.rough = probe.roughness(state.target, pooled, rng)
    state.populations = [p.over(before - state.reference) for p in state.populations]
    state.budget.spend("probe", len(pooled) + 3 * probe.ROWS)


def search(state: State) -> None:
    """Ascents from far and near: an optimum that no particle has met makes two more populations."""
    pooled, number = np.concatenate([p.y for p in state.populations]), _ascents(state)
    each = 1 if state.target.differentiable else pooled.shape[1] + 1
    cost = number * each * (starts.DESCENT_STEPS + pooled.shape[1] + 2)
    if not state.budget.keeps(0.35, cost):
        return
    wide = pooled.astype(np.float64)
    assert state.bases is not None
    y = starts.scattered_starts(state.bases, number, state.asked.seed)
    most = max((p.log_z for p in state.populations if p.finished), default=-math.inf)
    state.ends = starts.ascents(state.target, y)
    ends, height, more = _raced(state)
    state.tried, cost = number + more // (starts.RACE_STEPS + 1), cost + more
    places, spreads = starts.optima(state.target, ends, height, most)
    new = np.zeros(0, bool)
    if len(places):
        new = starts.unmet(state.target, wide, places, spreads)
    cost += starts.PATHS * len(places)
    state.budget.spend("search", cost, f"{len(places)} optima, {new.sum()} of them new")
    if new.any() and state.budget.keeps(0.3):
        state.bases = state.bases.around(places[new], spreads[new])
        state.helped.append(f"{new.sum()} optima that only ascents met")
        state.todo[:0] = [["temper", "narrow", "diagonal", 1], ["temper", "wide", "dense", 1]]


def _raced(state: State) -> tuple[np.ndarray, np.ndarray, int]:
    """Ends of ascents, with those of a race, their log-densities, and evaluations of the race.

    It is smaller, or left out, where it would be dear.
    """
    ends, height = state.ends or (np.zeros((0, 0)), np.zeros(0))
    each = starts.RACE_STEPS + 1
    most, budget = starts.RACED, state.budget
    if budget.evaluations is not None:
        most = min(most, int(DEAREST * budget.evaluations) // each)
        most -= most % PART
    took = budget.pace.get("evaluation", 0.0)
    while budget.seconds is not None and most * each * took > DEAREST * budget.seconds:
        most //= 2
    assert state.bases is not None
    if most < PART or not state.target.differentiable or not budget.keeps(0.35, most * each):
        return ends, height, 0
    first = starts.raced(state.target, state.bases, most, state.asked.seed)
    more, higher = starts.ascents(state.target, first, starts.CAREFUL)
    cost = most * each + len(first) * (starts.DESCENT_STEPS + 1)
    return np.concatenate([ends, more]), np.append(height, higher), cost


def fit(state: State) -> None:
    """A proposal for all particles: a mixture, and a flow where that is not enough.

    Where a population lacks what another has, one more is made before that. A flow is fitted again
    to its own weighted draws as long as these gain by that, which is cheaper than chains under a
    poor one. Half of the chains start from particles at the target, half from those colder and
    hotter.
    """
    pooled, rng, sizes = _particles(state), state.rng(), state.sizes
    seed, until = state.asked.seed, state.budget.until(0.5)
    proposal = fitted(pooled, seed=seed, steps=0, blocks=sizes.blocks, width=sizes.width)
    first = [proposal.scored(state.target, rng, sizes.exact // 2)]
    share = effective_share(first[0].f)
    poor = share < GOOD or pareto_k(first[0].f[np.isfinite(first[0].f)]) > HEAVIEST
    landscape, before = _landscape(state, proposal), proposal
    labels = _parts_of(landscape, state.target, before, pooled)
    if len(state.populations) == 2 and state.budget.keeps(0.4):
        sizes_of = [len(population.y) for population in state.populations]
        if lost_by_all_but_one(labels, sizes_of):
            state.helped.append("another population of twice the size")
            state.todo[:0] = [["temper", "wide", "diagonal", 2], ["fit"]]
            return
    if (poor or len(pooled) < FEW_ROWS) and math.isfinite(share):
        for time_of in range(1 + (AGAIN if poor else 0)):
            more = _weighted(first, _effective(first), rng)
            of_more = _parts_of(landscape, state.target, before, more)
            rows = np.concatenate([pooled, more])
            rows = rows[balanced(np.append(labels, of_more), rng, FIT_ROWS)]
            proposal = fitted(
                rows, seed=seed + time_of, steps=sizes.steps if poor else 0, blocks=sizes.blocks,
                width=sizes.width, before=proposal if time_of else None, until=until,
            )  # fmt: skip
            if time_of == AGAIN or not (poor and state.budget.keeps(0.5, sizes.exact)):
                break
            last, first = share, [proposal.scored(state.target, rng, sizes.exact)]
            share = effective_share(first[0].f)
            state.budget.spend("fit", sizes.exact, f"effective share of a flow {share:.2f}")
            if not POOREST < share < FINE or share < 1.2 * last:
                break
    state.budget.spend("fit", sizes.exact // 2, f"effective share {share:.2f}")
    number = sizes.chains // 2 if state.cold or state.hot else 0
    y = pooled[balanced(labels, rng, sizes.chains - number)]
    if number:
        others = np.concatenate([*state.cold, *state.hot])
        y = np.concatenate([y, others[rng.choice(len(others), number)]])
    _begin(state, proposal, y)


def refit(state: State, pooling: bool, why: str) -> None:
    """Another proposal, learned from the chains' draws, and particles if `pooling`."""
    assert state.chains is not None
    rng, before = state.rng(), state.chains.proposal
    _, y, _, _ = state.chains.drawn()
    flat = y.reshape(-1, y.shape[-1])
    flat = flat[rng.choice(len(flat), min(len(flat), FIT_ROWS), replace=False)]
    more = min(len(flat), _effective(state.exact))
    flat = np.concatenate([flat, _weighted(state.exact, more, rng)])
    if pooling:
        flat = np.concatenate([flat, _particles(state)])
        labels = _parts_of(_landscape(state, before), state.target, before, flat)
        flat = flat[balanced(labels, rng, FIT_ROWS)]
    state.refits += 1
    begun, budget = time.monotonic(), state.budget
    remaining = budget.left()[0]
    proposal = fitted(
        flat,
        seed=state.asked.seed + state.refits,
        steps=min(MOST_STEPS, state.sizes.steps * 2**state.refits),
        blocks=state.sizes.blocks,
        width=state.sizes.width,
        before=before,
        until=begun + 0.4 * remaining,
    )
    budget.spend("fit", 0, f"again, on {len(flat):,} draws", units=1.0)
    state.helped.append(f"refit {state.refits} of the proposal ({why})")
    half, last = state.sizes.chains // 2, y[:, -1]
    others = _weighted(state.exact, len(last) - half, rng)
    _begin(state, proposal, np.concatenate([last[rng.permutation(len(last))[:half]], others]))


def warm(state: State, blocks: int) -> None:
    """So many blocks whose draws are not kept."""
    _advance(state, warming=True)
    if blocks > 1 and state.budget.keeps(0.2, state.chains.cost if state.chains else 0):
        state.todo.insert(0, ["warm", blocks - 1])


def sample(state: State, times: int, least: int = 0) -> None:
    """A block, and another one after it, until there are enough or the budget ends.

    Args:
        state: of the run.
        times: how many times the draws that were asked for.
        least: how many blocks at least.
    """
    chains = state.chains
    assert chains is not None
    wanted = math.ceil(times * state.asked.draws / (len(chains.z) * chains.block))
    free = 0 if state.target.differentiable else LEAST_DRAWS // chains.block
    wanted = max(LEAST_BLOCKS, wanted, least, free)
    if len(chains.kept) >= wanted or (chains.kept and not another_fits(state)):
        return
    _advance(state, warming=False)
    state.todo.insert(0, ["sample", times, least])


def another_fits(state: State, blocks: int = 1) -> bool:
    """Whether so many blocks more, and what they ask for, stay within the budget."""
    chains, budget = state.chains, state.budget
    assert chains is not None
    more = blocks * chains.block * len(chains.z)
    draws = state.drawn + more
    matching = min(2 * draws, max(0, 2 * draws - state.matched))
    seconds = budget.expected({"chains": blocks, "log Z": matching, "verdict": draws})
    evaluations = blocks * chains.cost + min(matching, state.sizes.exact) + state.sizes.survey
    return budget.allows(1.2 * seconds + 0.03 * (budget.seconds or 0.0), evaluations)


def match(state: State) -> None:
    """Exact draws of the proposal, twice as many as those of chains, a part of them at a time."""
    assert state.chains is not None
    budget = state.budget
    each = 2.0 if state.target.differentiable else 0.5  # draws of chains are dear, or not
    wanted = int(max(state.sizes.exact, each * state.drawn)) - state.matched
    some = state.matched > 0
    left = budget.left()[1] - state.sizes.survey
    wanted = min(wanted, AT_ONCE, left if some else max(left, 256))
    if wanted < 1 or (some and not budget.allows(budget.expected({"verdict": state.drawn}), 0)):
        return
    scored = state.chains.proposal.scored(state.target, state.rng(), int(wanted))
    state.exact.append(scored)
    budget.spend("log Z", int(wanted), units=float(wanted))
    state.todo.insert(0, ["match"])


def _ascents(state: State) -> int:
    """How many; fewer where each step takes as many values as there are coordinates."""
    number, dim = state.sizes.starts, state.target.parameters.size
    return number if state.target.differentiable else max(6, number // (dim + 1))


def _particles(state: State) -> np.ndarray:
    """Those of all populations, and the colder ones; hotter ones are too far out to learn from."""
    return np.concatenate([*(p.y for p in state.populations), *state.cold])


def _advance(state: State, *, warming: bool) -> None:
    """A block of all chains."""
    assert state.chains is not None
    state.chains.advance(state.target, state.rng(), state.key(), warming=warming)
    state.budget.spend("chains", state.chains.cost, units=1.0)


def _landscape(state: State, proposal: Proposal) -> Landscape:
    """The parts that a survey of the particles tells apart."""
    landscape = surveyed_by(
        state.target, proposal, state.populations, state.rng(), state.sizes.seeds
    )
    state.budget.spend("modes", landscape.cost)
    return landscape


def _parts_of(
    landscape: Landscape, target: Target, proposal: Proposal, y: np.ndarray
) -> np.ndarray:
    """The part of each row y, as it was surveyed under the proposal."""
    return landscape.labels(proposal.noise(target, y), y.astype(np.float64))


def _begin(state: State, proposal: Proposal, y: np.ndarray) -> None:
    """Chains under `proposal` from rows y `[chains, dim]`, and no draws yet."""
    sizes, before = state.sizes, state.chains
    state.chains = Chains(
        proposal,
        proposal.noise(state.target, y),
        sizes.leapfrogs,
        sizes.jumps_to,
        block=sizes.block,
        step=0.3 if before is None else max(before.step, 0.1),
    )
    state.exact = []
    state.todo.insert(0, ["warm", sizes.warming * state.effort])


def _effective(exact: list[Scored]) -> int:
    """How many independent draws the weighted ones are worth: no more are to be learned from."""
    f = np.concatenate([scored.f for scored in exact])
    return int(effective_share(f) * len(f))


def _weighted(exact: list[Scored], number: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the proposal resampled by p / q, which may be where no chain has come.

    Weights are cut at sqrt(n) times their mean (Ionides 2008, "Truncated importance sampling").
    """
    y = np.concatenate([scored.y for scored in exact])
    f = np.concatenate([scored.f for scored in exact])
    most = np.logaddexp.reduce(f) - 0.5 * math.log(len(f))
    return y[rng.permutation(resampled(rng, np.minimum(f, most)))[:number]]


LONG = {"rung", "warm", "sample", "match"}
"""Stages that do a little at a time."""
STAGES: dict[str, Callable[..., None]] = {
    "look": look,
    "temper": temper,
    "rung": rung,
    "go beyond": go_beyond,
    "bend": bend,
    "settle": settle,
    "search": search,
    "fit": fit,
    "refit": refit,
    "warm": warm,
    "sample": sample,
    "match": match,
}


def done(state: State, what: str, *how: object) -> None:
    """Do one stage.

    Raises:
        InputError: a name that no stage has, as a run of another version may hold.
    """
    if what not in STAGES:
        raise InputError(f"there is no stage {what!r}: the run is of another version; begin anew")
    STAGES[what](state, *how)
