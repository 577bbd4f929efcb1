"""A population of particles, tempered from where it can be drawn to the target.

    log p_beta(y) = (1 - beta) log r(y) + beta l(y)

r is an exact density with exact draws. From rung to rung particles are reweighted, resampled and
moved by HMC in a metric that they themselves make: Del Moral, Doucet and Jasra 2006, "Sequential
Monte Carlo samplers", section 3. The next rung is as far as half of the particles stay effective.

What the increments say of log Z comes with the variance that the genealogy shows: descendants of
one first particle are not independent (Lee and Whiteley 2018, "Variance estimation in the particle
filter", Biometrika 105, equation 7). It is an alarm, not the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import logsumexp

from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.tailed import Tailed, TailedDensity
from tiltflow.fitting.posterior.target import Target, values_at
from tiltflow.mcmc import hmc

Metric = Literal["diagonal", "dense"]
SHARE = 0.5  # of the particles that stay effective at the next rung
MOST_RUNGS = 200
LEAPFROGS, TRANSITIONS, LAST = 6, 3, 6  # transitions a rung, and at the last one
ACCEPTED = 0.8
SHORTEST = 0.03


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


def temper(
    target: Target,
    base: Tailed,
    *,
    name: str,
    metric: Metric,
    particles: int,
    budget: Budget,
    reserve: float,
    seed: int,
) -> Population:
    """Particles from draws of `base` to the target.

    It breaks off, unfinished, when less than a share `reserve` of the budget is left.
    """
    rng, key = np.random.default_rng(seed), jr.key(seed)
    y = base.draws(rng, particles).astype(np.float32)
    value, start = _finite(values_at(target, y)), base.log_prob(y)
    outside = float(np.mean(~np.isfinite(value)))
    ancestors = np.arange(particles)
    beta, step, log_z, rungs, spent = 0.0, 0.5, 0.0, 0, particles
    density = base.compiled()
    while beta < 1.0 and rungs < MOST_RUNGS and np.isfinite(value).any():
        rise = next_rise(value - start, 1.0 - beta)
        log_weights = rise * (value - start)
        log_z += float(logsumexp(log_weights) - np.log(particles))
        chosen = resampled(rng, log_weights)
        y, ancestors = y[chosen], ancestors[chosen]
        beta = 1.0 if rise >= 1.0 - beta else beta + rise
        factor = spread_factor(y, metric)
        transitions = TRANSITIONS if beta < 1.0 else LAST
        key, move_key = jr.split(key)
        with target.scope:
            moved = _moved(
                target, density, move_key, jnp.asarray(y), jnp.asarray(factor, jnp.float32),
                jnp.asarray([beta, step], jnp.float32), jnp.asarray(transitions, jnp.int32),
            )  # fmt: skip
            new, value, start, told = (np.asarray(x) for x in moved)
        y, value, start = new, _finite(value.astype(np.float64)), start.astype(np.float64)
        step, rungs = float(told[0]), rungs + 1
        cost = particles * (transitions * LEAPFROGS + 2)
        spent += cost
        budget.spend(name, spent, f"beta {beta:.3g}, acceptance {told[1]:.2f}")
        spent = 0
        if beta < 1.0 and not budget.keeps(reserve, cost):
            break
    counts = np.bincount(ancestors, minlength=particles) / particles
    error = float(np.sqrt(np.sum((counts - 1 / particles) ** 2)))
    return Population(name, y, ancestors, log_z, error, rungs, outside, beta >= 1.0)


def next_rise(tilt: np.ndarray, most: float) -> float:
    """The rise of beta, at most `most`, at which weights exp(rise tilt) keep `SHARE` effective.

    Particles of weight 0 do not count.
    """
    tilt = tilt[np.isfinite(tilt)]

    def share(rise: float) -> float:
        log_w = rise * tilt
        squared, summed = np.asarray(logsumexp(2 * log_w)), np.asarray(logsumexp(log_w))
        return float(np.exp(2 * summed - squared)) / len(tilt)

    if share(most) >= SHARE:
        return most
    low, high = 0.0, most
    for _ in range(60):
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


@eqx.filter_jit
def _moved(
    target: Target,
    base: TailedDensity,
    key: PRNGKeyArray,
    y: Float[Array, "particles dim"],
    factor: Float[Array, "dim dim"],
    numbers: Float[Array, "2"],
    transitions: Array,
) -> tuple[Array, Array, Array, Array]:
    """Particles after HMC at beta, their log-densities under target and base, what was learned.

    `numbers` are beta and the step size; what was learned, step size and acceptance.
    """
    beta = numbers[0]

    def tempered(w: Array) -> Array:
        rows = w @ factor.T
        return beta * jax.vmap(target)(rows) + (1.0 - beta) * jax.vmap(base)(rows)

    value_and_grad = hmc.value_and_gradient(tempered)

    def transition(index: Array, carry: tuple) -> tuple:
        state, step, _ = carry
        move_key, step_key = jr.split(jr.fold_in(key, index))
        shorter = scattered(step_key, len(y))
        state, info = hmc.step(
            move_key, state, value_and_grad, step * shorter, num_leapfrogs=LEAPFROGS
        )
        accepted = jnp.mean(info.acceptance_rate, where=shorter == 1.0)
        factor = jnp.clip(jnp.exp(2.0 * (accepted - ACCEPTED)), 0.4, 1.4)
        return state, jnp.clip(step * factor, 1e-5, 2.0), accepted

    w = jax.scipy.linalg.solve_triangular(factor, y.T, lower=True).T
    start = (hmc.init(w, value_and_grad), numbers[1], jnp.zeros((), jnp.float32))
    state, step, accepted = jax.lax.fori_loop(0, transitions, transition, start)
    y = state.position @ factor.T
    return y, jax.vmap(target.wide)(y), jax.vmap(base)(y), jnp.stack([step, accepted])


def scattered(key: PRNGKeyArray, number: int) -> Float[Array, " number"]:
    """Factors of step sizes: half of them 1, half shorter, down to `SHORTEST`.

    Where a density narrows, as in the neck of a funnel, only short steps go on; with one step size
    for all, every particle would agree that there is nothing.
    """
    coin, length = jr.uniform(key, (2, number), jnp.float32)
    return jnp.where(coin < 0.5, 1.0, SHORTEST**length)


def _finite(values: np.ndarray) -> np.ndarray:
    """What is not a number has no weight."""
    return np.where(np.isnan(values), -np.inf, values)
