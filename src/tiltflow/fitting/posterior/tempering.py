"""A population of particles, tempered from where it can be drawn to the target.

    log p_beta(y) = (1 - beta) log r(y) + beta l(y)

r is an exact density with exact draws. From rung to rung particles are reweighted, resampled and
moved by HMC in a metric that they themselves make, or, without a gradient, by elliptical slices
around a density that they make: Del Moral, Doucet and Jasra 2006, "Sequential
Monte Carlo samplers", section 3. The next rung is as far as half of the particles stay effective.

What the increments say of log Z comes with the variance that the genealogy shows: descendants of
one first particle are not independent (Lee and Whiteley 2018, "Variance estimation in the particle
filter", Biometrika 105, equation 7). It is an alarm, not the estimate.

Where a density narrows, as in the neck of a funnel, all that is tempered arrives late or never:
p^beta has no mass there. So some particles go on from the target to p^beta, beta > 1, until the
mean log-density has risen by `BEYOND` of its standard deviations; and others to beta < 1, until it
has fallen as much, but not so far that p^beta may have no integral. Chains that start there as well
start overdispersed in log p, and disagree until they have found their way to one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import logsumexp

from tiltflow.fitting.posterior import free_moves, trajectory
from tiltflow.fitting.posterior.compiled import compiled
from tiltflow.fitting.posterior.tailed import Tailed, TailedDensity
from tiltflow.fitting.posterior.target import Target, values_at

Metric = Literal["diagonal", "dense"]
SHARE = 0.5  # of the particles that stay effective at the next rung
MOST_RUNGS = 200
LEAPFROGS, TRANSITIONS, LAST = 6, 3, 6  # transitions a rung, and at the last one
ACCEPTED = 0.8
SHORTEST = 0.03
INSIDE = -1 + 1e-7, 1 - 1e-7
BEYOND, RARER = 1.5, 4  # standard deviations of the log-density; of so many particles one
HOTTEST = 0.7  # beta


@dataclass(frozen=True, eq=False)
class Population:
    """Where particles have arrived.

    Attributes:
        name: what its metric was, and where it began.
        y: `[particles, dim]`.
        ancestors: the number of the first particle that each descends from, `[particles]`.
        log_z, log_z_error: of the increments, over the target's reference; an alarm.
        rungs: how many it took.
        outside: the share of first particles at which the density is not finite.
        finished: whether beta = 1 was reached.
    """

    name: str
    y: np.ndarray
    ancestors: np.ndarray
    log_z: float
    log_z_error: float
    rungs: int
    outside: float
    finished: bool

    def over(self, shift: float) -> Population:
        """The same, its log Z taken over another reference."""
        return replace(self, log_z=self.log_z + shift)

    def share_error(self, inside: np.ndarray) -> tuple[float, float]:
        """The share of the particles for which `inside` holds, and its genealogical error."""
        share = float(np.mean(inside))
        sums = np.bincount(self.ancestors, inside - share, minlength=len(self.y))
        return share, float(np.sqrt(np.sum(sums**2))) / len(self.y)


@dataclass(frozen=True, eq=False)
class Rung:
    """Particles on their way.

    Attributes:
        population: where they are; finished once beta is 1.
        name, metric: of the tempering.
        seed: of it; what is random on a rung follows from the seed and the rung's number.
        value, start: log-densities of the target and of the base at the particles, `[particles]`.
        beta, step: how far it has come, and the step size there.
        part: particles that are moved at a time, so that one program does for all numbers of them.
        goal: of beta.
        transitions: moves on a rung, and on the last one.
    """

    population: Population
    metric: Metric
    seed: int
    value: np.ndarray
    start: np.ndarray
    part: int
    beta: float = 0.0
    step: float = 0.5
    goal: float = 1.0
    transitions: tuple[int, int] = (TRANSITIONS, LAST)

    @property
    def done(self) -> bool:
        """Whether there is no rung left, or no particle with any mass."""
        return (
            self.beta == self.goal
            or self.population.rungs >= MOST_RUNGS
            or not np.isfinite(self.value).any()
        )

    @property
    def cost(self) -> int:
        """Evaluations of the next rung, at most."""
        return len(self.value) * (max(self.transitions) * LEAPFROGS + 2)


def beyond(target: Target, population: Population, step: float, moves: int, *, hot: bool) -> Rung:
    """One of `RARER` particles, on the way from the target to a higher beta, or to a lower one.

    The mean log-density changes by its variance times what beta does. As many evaluations as there
    are particles.
    """
    y = population.y[::RARER]
    value = _finite(values_at(target, y))
    low, high = np.quantile(value[np.isfinite(value)], (0.1, 0.9))
    change = BEYOND * 2.56 / max(float(high - low), 1e-3 * BEYOND)
    return Rung(
        replace(population, y=y, ancestors=np.arange(len(y)), rungs=0),
        "diagonal",
        int(population.rungs),
        value,
        np.zeros(len(y)),
        len(y),
        beta=1.0,
        step=step,
        goal=max(HOTTEST, 1.0 - change) if hot else 1.0 + change,
        transitions=(moves, moves),
    )


def first_rung(
    target: Target,
    base: Tailed,
    *,
    name: str,
    metric: Metric,
    particles: int,
    part: int,
    seed: int,
) -> Rung:
    """Draws of `base`, so many, to be moved `part` at a time; as many evaluations."""
    y = base.draws(np.random.default_rng((seed, 0)), particles).astype(np.float32)
    value = _finite(values_at(target, y))
    outside = float(np.mean(~np.isfinite(value)))
    population = Population(name, y, np.arange(particles), 0.0, 0.0, 0, outside, False)
    return Rung(population, metric, seed, value, base.log_prob(y), part)


def next_rung(
    target: Target, base: Tailed, rung: Rung, components: int = 4
) -> tuple[Rung, int, str]:
    """The particles a rung farther on; how many evaluations that took; and what to tell.

    `components` are what programs make room for in `base`, at least.
    """
    before, particles = rung.population, len(rung.value)
    number = before.rungs + 1
    rng, key = np.random.default_rng((rung.seed, number)), jr.fold_in(jr.key(rung.seed), number)
    alone = rung.goal != 1.0  # without the base
    tilt, way = rung.value - (0.0 if alone else rung.start), abs(rung.goal - rung.beta)
    tilt = np.sign(rung.goal - rung.beta) * tilt
    rise = next_rise(tilt, way)
    log_weights = rise * tilt
    chosen = resampled(rng, log_weights)
    y, ancestors = before.y[chosen], before.ancestors[chosen]
    beta = float(rung.beta + np.sign(rung.goal - rung.beta) * rise)
    beta = rung.goal if rise >= way else beta
    factor = spread_factor(y, rung.metric)
    transitions = rung.transitions[int(beta == rung.goal)]
    numbers = [beta, 0.0 if alone else 1.0 - beta, rung.step]
    if target.differentiable:
        moved = _moved_in_parts(
            target, base.compiled(components), key, y, factor, numbers, transitions, rung.part
        )
    else:
        mixed = rung.metric == "dense"
        near = free_moves.around(y, factor, mixed=mixed, seed=rung.seed + number)
        with target.scope:
            *moved, share = free_moves.tempered(
                target, base.compiled(components), near.compiled(), key, jnp.asarray(y),
                jnp.asarray(numbers[:2], jnp.float32), jnp.asarray(transitions, jnp.int32),
                LEAPFROGS,
            )  # fmt: skip
        moved.append(jnp.stack([jnp.float32(rung.step), share]))
    y, value, start, told = (np.asarray(x) for x in moved)
    counts = np.bincount(ancestors, minlength=particles) / particles
    population = replace(
        before,
        y=y,
        ancestors=ancestors,
        log_z=before.log_z + float(logsumexp(log_weights) - np.log(particles)),
        log_z_error=float(np.sqrt(np.sum((counts - 1 / particles) ** 2))),
        rungs=number,
        finished=bool(beta >= 1.0 or alone),
    )
    gone_on = replace(
        rung,
        population=population,
        value=_finite(value.astype(np.float64)),
        start=start.astype(np.float64),
        beta=beta,
        step=float(told[0]),
    )
    cost = particles * (transitions * LEAPFROGS + 2)
    return gone_on, cost, f"beta {beta:.3g}, acceptance {told[1]:.2f}"


def next_rise(tilt: np.ndarray, most: float) -> float:
    """The rise of beta, at most `most`, at which weights exp(rise tilt) keep `SHARE` effective.

    Particles of weight 0 do not count.
    """
    tilt = tilt[np.isfinite(tilt)]
    tilt = tilt - np.max(tilt, initial=-np.inf)

    def share(rise: float) -> float:
        weights = np.exp(rise * tilt)  # of at most 1
        return float(weights.sum() ** 2 / (weights @ weights)) / len(tilt)

    if share(most) >= SHARE:
        return most
    low, high = 0.0, most
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) >= SHARE else (low, middle)
    return max(low, 1e-9)


def resampled(rng: np.random.Generator, log_weights: np.ndarray) -> np.ndarray:
    """Systematic resampling: indices, each about as often as its weight."""
    number = len(log_weights)
    cumulated = np.cumsum(np.exp(log_weights - log_weights.max()))
    places = (np.arange(number) + rng.random()) / number * cumulated[-1]
    return np.minimum(np.searchsorted(cumulated, places), number - 1)


def spread_factor(y: np.ndarray, metric: Metric) -> np.ndarray:
    """A factor of the covariance of rows `[n, dim]`, `[dim, dim]`; diagonal if the metric is."""
    wide = y.astype(np.float64)
    scale = np.maximum(wide.std(axis=0), 1e-12)
    if metric == "diagonal":
        return np.diag(scale)
    correlation = np.atleast_2d(np.corrcoef(wide / scale, rowvar=False))
    correlation = 0.98 * np.nan_to_num(correlation) + 0.02 * np.eye(y.shape[1])
    np.fill_diagonal(correlation, 1.0)
    return scale[:, None] * np.linalg.cholesky(correlation)


def _moved_in_parts(
    target: Target,
    density: TailedDensity,
    key: PRNGKeyArray,
    y: np.ndarray,
    factor: np.ndarray,
    numbers: list[float],
    transitions: int,
    part: int,
) -> list[np.ndarray]:
    """`_moved`, so many rows at a time; the step is the geometric mean of those of all parts."""
    filled = np.concatenate([y, np.repeat(y[-1:], -len(y) % part, axis=0)])
    done = []
    with target.scope:
        for first in range(0, len(filled), part):
            found = _moved(
                target, density, jr.fold_in(key, first), jnp.asarray(filled[first : first + part]),
                jnp.asarray(factor, jnp.float32), jnp.asarray(numbers, jnp.float32),
                jnp.asarray(transitions, jnp.int32),
            )  # fmt: skip
            done.append([np.asarray(x) for x in found])
    *rows, told = (list(each) for each in zip(*done, strict=True))
    steps, accepted = np.transpose(told)
    learned = np.array([np.exp(np.log(steps).mean()), accepted.mean()])
    return [*(np.concatenate(parts)[: len(y)] for parts in rows), learned]


@compiled
def _moved(
    target: Target,
    base: TailedDensity,
    key: PRNGKeyArray,
    y: Float[Array, "particles dim"],
    factor: Float[Array, "dim dim"],
    numbers: Float[Array, "3"],
    transitions: Array,
) -> tuple[Array, Array, Array, Array]:
    """Particles after HMC at beta, their log-densities under target and base, what was learned.

    `numbers` are beta, the share of the base and the step size; what was learned, step size and
    acceptance.
    """
    beta, rest = numbers[0], numbers[1]

    number, dim = y.shape

    def tempered(w: Array) -> tuple[Array, tuple[Array, Array]]:
        rows = w @ factor.T
        wide, start = jax.vmap(target.wide)(rows), jax.vmap(base)(rows)
        return beta * wide.astype(jnp.float32) + rest * start, (wide, start)

    def transition(index: Array, carry: tuple) -> tuple:
        w, known, step, _ = carry
        drawn = jr.uniform(jr.fold_in(key, index), (dim + 4, number), jnp.float32)
        momentum = math.sqrt(2) * jax.scipy.special.erfinv(jnp.clip(2 * drawn[4:] - 1, *INSIDE))
        stretch, whole = scattered(drawn[:2])
        stretch = stretch * (1 + trajectory.JITTER * (2 * drawn[2] - 1))
        moved = trajectory.followed(
            tempered, w, known, index > 0, momentum.T, drawn[3], step * stretch, LEAPFROGS
        )
        accepted = jnp.mean(moved.chance, where=whole)
        change = jnp.clip(jnp.exp(2.0 * (accepted - ACCEPTED)), 0.4, 1.4)
        return moved.position, moved.known, jnp.clip(step * change, 1e-5, 2.0), accepted

    w = jax.scipy.linalg.solve_triangular(factor, y.T, lower=True).T
    nothing = trajectory.nothing_known(tempered, w)
    start = (w, nothing, numbers[2], jnp.zeros((), jnp.float32))
    w, known, step, accepted = jax.lax.fori_loop(0, transitions, transition, start)
    return w @ factor.T, *known.more, jnp.stack([step, accepted])


def scattered(uniform: Any) -> tuple[Any, Any]:
    """Factors of step sizes and where they are 1, of uniform numbers `[2, ...]`; `[...]` each.

    Half of them are 1, half shorter, down to `SHORTEST`. Where a density narrows, as in the neck of
    a funnel, only short steps go on; with one step size for all, every particle would agree that
    there is nothing.
    """
    coin, length = uniform
    whole = coin < 0.5
    return whole + ~whole * SHORTEST**length, whole


def _finite(values: np.ndarray) -> np.ndarray:
    """What is not a number has no weight."""
    return np.where(np.isnan(values), -np.inf, values)
