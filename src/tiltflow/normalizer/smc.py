"""Sequential Monte Carlo along beta * f, in either direction, and the ladder it climbs.

pi_beta(u) ∝ exp(beta f(g(u)) - |u|^2 / 2) leads from the backbone (beta = 0) to the tilted model
(beta = 1). Particles that start as exact draws of one end are reweighted from rung to rung,
resampled, and moved by HMC. The product of the mean weights is then an unbiased estimate of the
ratio of the normalising constants, whether or not the moves mix (Del Moral, Doucet and Jasra
2006, "Sequential Monte Carlo samplers", section 3.2; Neal 2001, arXiv physics/9803008).

That holds for rungs and step sizes that are fixed in advance: `plan` finds them with particles
of its own. A passage is one compiled program for both directions and any ladder. Densities are
evaluated for some particles at a time, so that a large model needs no more memory for many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.mcmc import hmc
from tiltflow.mcmc.batch import half_square
from tiltflow.normalizer.resampling import systematic
from tiltflow.parallel.devices import over_devices, spread, together

Made = TypeVar("Made")

MOST_RUNGS = 128
HALVINGS = 30  # of the interval in which the next rung is sought
SMALLEST_RISE = 1e-6
LENIENCE = 0.75  # of the share, seen from above: it would otherwise be missed by a hair, often
PLAN_TRANSITIONS = 5  # a rung, while its step size is found
TRANSITIONS, LEAPFROGS = 2, 8
TARGET = 0.8  # acceptance
MADE = 2**31  # bytes made in an evaluation, of which about a sixth are in memory at a time


class Ladder(NamedTuple):
    """Rungs in climbing order; beyond `steps` they are unspecified.

    Attributes:
        betas: `[MOST_RUNGS + 1]`, from 0 to 1.
        step_sizes: of the leapfrogs at each rung.
        steps: how many lead from beta = 0 to the last rung.
        reached: the last rung; below 1 if `MOST_RUNGS` steps were too few.
    """

    betas: Float[Array, " rungs"]
    step_sizes: Float[Array, " rungs"]
    steps: Int[Array, ""]
    reached: Float[Array, ""]

    def reverse(self) -> Ladder:
        """The same rungs from the last to the first."""
        index = jnp.clip(self.steps - jnp.arange(len(self.betas)), 0)
        return self._replace(betas=self.betas[index], step_sizes=self.step_sizes[index])


class Passage(NamedTuple):
    """What particles, in independent groups, met on their way along a ladder.

    Attributes:
        log_ratio: `[groups]`: the log of each group's unbiased estimate of the ratio of the
            normalising constants at the end and at the start.
        f: `[MOST_RUNGS + 1, groups, particles]` after the moves at each rung, in the ladder's
            order; f at the start comes first.
        u: `[groups, particles, ...]`, where they have arrived.
    """

    log_ratio: Float[Array, " groups"]
    f: Float[Array, "rungs groups particles"]
    u: Float[Array, "groups particles ..."]


@over_devices
def plan(
    log_density: hmc.LogDensity,
    key: PRNGKeyArray,
    u: Float[Array, "particles ..."],
    share: Float[Array, ""] | float,
    base: hmc.LogDensity | None = None,
    at_once: int | None = 0,
) -> Ladder:
    """A ladder from the backbone to the tilted model.

    Args:
        log_density: of the tilted model in latent space, f(g(u)) - |u|^2 / 2, batched.
        key: random key.
        u: exact draws of the ladder's lower end.
        share: a rung is as far as the effective share of the weights over *twice* the rise is
            this: for normal f the fourth root of it over the rise itself. Twice, because weights
            that are fine and just about to lose their variance make intervals that are wrong.
        base: the log-density of the lower end, batched; N(0, I), the backbone's, if None.
        at_once: particles that a device has in hand at a time; 0: all of them, as must be for
            a density that is another one for each particle; None: as many as `that_fit`.
    """
    path = _path(log_density, base, at_once, u)

    def climbing(carry: tuple) -> Array:
        _, _, ladder, _, _ = carry
        return (ladder.reached < 1.0) & (ladder.steps < MOST_RUNGS)

    def climb(carry: tuple) -> tuple:
        u, f, ladder, longest, key = carry
        key, resample_key, move_key = jr.split(key, 3)
        rise = _next_rise(f, jnp.minimum(longest, 1.0 - ladder.reached), share)
        beta = jnp.where(rise >= 1.0 - ladder.reached, jnp.ones_like(rise), ladder.reached + rise)
        steps = ladder.steps + 1
        new_u, new_f, step_size = _move(
            move_key,
            path,
            together(u)[systematic(resample_key, rise * f)],
            beta,
            ladder.step_sizes[ladder.steps],
            PLAN_TRANSITIONS,
            adapting=True,
        )
        betas = ladder.betas.at[steps].set(beta)
        step_sizes = ladder.step_sizes.at[steps].set(step_size)
        higher = (new_u, new_f, Ladder(betas, step_sizes, steps, beta), jnp.ones_like(rise), key)
        lower = (u, f, ladder, rise / 2, key)
        # A rung must be near from above too, or the way down is noisy.
        near = _log_share(-2 * rise, new_f) >= jnp.log(LENIENCE * share)
        good = near | (rise <= SMALLEST_RISE)
        return jax.tree.map(lambda yes, no: jnp.where(good, yes, no), higher, lower)

    zeros = jnp.zeros(MOST_RUNGS + 1, u.dtype)
    start = Ladder(zeros, zeros.at[0].set(0.5), jnp.zeros((), int), zeros[0])
    carry = (u, together(path.tilt(spread(u))), start, jnp.ones_like(zeros[0]), key)
    return jax.lax.while_loop(climbing, climb, carry)[2]


@over_devices
def paced(
    log_density: hmc.LogDensity,
    key: PRNGKeyArray,
    u: Float[Array, "particles ..."],
    rungs: int,
) -> Ladder:
    """A ladder of so many equal steps; particles that are never resampled find its step sizes.

    For a density that is another one for each particle, where `plan` would mix them up.

    Args:
        log_density: of the upper end, batched, times N(0, I) as the lower.
        key: random key.
        u: draws of N(0, I), not those that will travel.
        rungs: at most `MOST_RUNGS`.
    """
    path = _path(log_density, None, 0, u)

    def climb(carry: tuple, index: Array) -> tuple[tuple, Array]:
        u, step_size = carry
        u, _, step_size = _move(
            jr.fold_in(key, index),
            path,
            u,
            (index + 1) / rungs,
            step_size,
            PLAN_TRANSITIONS,
            adapting=True,
        )
        return (u, step_size), step_size

    _, step_sizes = jax.lax.scan(climb, (u, jnp.asarray(0.5, u.dtype)), jnp.arange(rungs))
    zeros = jnp.zeros(MOST_RUNGS + 1, u.dtype)
    betas = zeros.at[: rungs + 1].set(jnp.linspace(0.0, 1.0, rungs + 1))
    step_sizes = zeros.at[1 : rungs + 1].set(step_sizes)
    return Ladder(betas, step_sizes, jnp.asarray(rungs), jnp.ones((), u.dtype))


@over_devices
def travel(
    log_density: hmc.LogDensity,
    key: PRNGKeyArray,
    ladder: Ladder,
    u: Float[Array, "groups particles ..."],
    base: hmc.LogDensity | None = None,
    at_once: int | None = 0,
) -> Passage:
    """Particles along `ladder`, upwards as planned or downwards (`Ladder.reverse`).

    Args:
        log_density: of the tilted model in latent space, batched.
        key: random key.
        ladder: fixed, whatever these particles meet.
        u: draws of the density at the ladder's start. Groups are to be independent of one
            another; within a group it is enough that each particle is such a draw.
        base, at_once: as in `plan`.
    """
    groups, particles = u.shape[:2]
    event = u.shape[2:]
    path = _path(log_density, base, at_once, u[0])

    def rung(index: Array, carry: tuple) -> tuple:
        u, f, log_ratio, fs = carry
        resample_key, move_key = jr.split(jr.fold_in(key, index))
        log_weights = (ladder.betas[index + 1] - ladder.betas[index]) * f
        log_ratio += jax.nn.logsumexp(log_weights, axis=1) - jnp.log(particles)
        chosen = jax.vmap(systematic)(jr.split(resample_key, groups), log_weights)
        u = jax.vmap(lambda u, index: u[index])(spread(u), chosen).reshape(-1, *event)
        beta, step_size = ladder.betas[index + 1], ladder.step_sizes[index + 1]
        u, f, _ = _move(move_key, path, u, beta, step_size, TRANSITIONS, adapting=False)
        u, f = u.reshape(groups, particles, *event), f.reshape(groups, particles)
        return u, f, log_ratio, fs.at[index + 1].set(f)

    u = spread(u)  # groups do not meet: where they are divided, nothing goes between devices
    f = path.tilt(spread(u.reshape(-1, *event))).reshape(groups, particles)
    rungs = len(ladder.betas)
    start = (
        u,
        f,
        jnp.zeros(groups, f.dtype),
        jnp.zeros((rungs, groups, particles), f.dtype).at[0].set(f),
    )
    u, _, log_ratio, f = jax.lax.fori_loop(0, ladder.steps, rung, start)
    return Passage(log_ratio, f, u)


def tilt(
    log_density: hmc.LogDensity,
    u: Float[Array, "particles ..."],
    base: hmc.LogDensity | None = None,
) -> Float[Array, " particles"]:
    """f(g(u)), from the latent log-density of the tilted model; or what it adds to `base`."""
    return log_density(u) + (half_square(u) if base is None else -base(u))


def that_fit(
    log_density: hmc.LogDensity, u: Float[Array, "particles ..."], most: int = MADE
) -> int:
    """Of how many particles like `u` an evaluation makes at most so many bytes; at least 1.

    `log_density` is traced for that; nothing is computed.
    """

    def made(number: int) -> int:
        some = jax.ShapeDtypeStruct((number, *u.shape[1:]), u.dtype)
        return _bytes_made(jax.make_jaxpr(log_density)(some))

    each = made(2) - made(1)  # without what is made of the weights
    return max(1, most // max(1, each))


def _bytes_made(jaxpr: Any) -> int:
    """The size of all values in a jaxpr and what it calls; those of a scan once for each turn."""
    total = 0
    for equation in jaxpr.eqns:
        called = [p for p in jax.tree.leaves(equation.params) if hasattr(p, "eqns")]
        if called:
            total += sum(map(_bytes_made, called)) * equation.params.get("length", 1)
        else:
            avals = (v.aval for v in equation.outvars)
            total += sum(math.prod(x.shape) * x.dtype.itemsize for x in avals)
    return total


def in_parts(
    function: Callable[[Array], Made], u: Float[Array, "particles ..."], at_once: int
) -> Made:
    """`function`, batched, of at most `at_once` particles at a time on each device; 0: of all.

    Its rows must not depend on one another. The parts are of one size, so that it is compiled
    once; the last is filled up with particles of the first.
    """
    number, devices = len(u), jax.device_count()
    if not at_once or number <= at_once * devices:
        return function(u)
    parts = math.ceil(number / (at_once * devices))
    size = math.ceil(number / (parts * devices)) * devices
    filled = jnp.concatenate([u, u[: parts * size - number]])
    done = jax.lax.map(
        lambda part: spread(function(spread(part))), filled.reshape(parts, size, *u.shape[1:])
    )
    return jax.tree.map(lambda x: x.reshape(parts * size, *x.shape[2:])[:number], done)


class _Path(NamedTuple):
    """The densities between the ends of a ladder.

    Attributes:
        upper: the log-density of the upper end, batched.
        lower: of the lower one; None: N(0, I).
        at_once: particles that a device has in hand at a time; 0: all of them.
    """

    upper: hmc.LogDensity
    lower: hmc.LogDensity | None
    at_once: int

    def tilt(self, u: Float[Array, "particles ..."]) -> Float[Array, " particles"]:
        """What is added from the lower end to the upper."""
        return in_parts(lambda u: tilt(self.upper, u, self.lower), u, self.at_once)

    def value_and_gradient(self, beta: Array) -> hmc.ValueAndGradient:
        """The log-density at `beta` and its gradient."""

        def tempered(u: Array) -> Array:
            lower = -half_square(u) if self.lower is None else self.lower(u)
            return beta * self.upper(u) + (1.0 - beta) * lower

        evaluate = hmc.value_and_gradient(tempered)
        return lambda u: in_parts(evaluate, u, self.at_once)


def _path(
    log_density: hmc.LogDensity,
    base: hmc.LogDensity | None,
    at_once: int | None,
    u: Float[Array, "particles ..."],
) -> _Path:
    if at_once is None:
        at_once = that_fit(log_density, u)
    return _Path(log_density, base, at_once)


def _move(
    key: PRNGKeyArray,
    path: _Path,
    u: Array,
    beta: Array,
    step_size: Array,
    transitions: int,
    *,
    adapting: bool,
) -> tuple[Array, Array, Array]:
    """HMC at `beta`: u, f there, and the step size, adapted if asked."""
    value_and_grad = path.value_and_gradient(beta)

    def transition(index: Array, carry: tuple) -> tuple:
        state, step_size = carry
        state, info = hmc.step(
            jr.fold_in(key, index), state, value_and_grad, step_size, num_leapfrogs=LEAPFROGS
        )
        if adapting:
            excess = jnp.mean(together(info.acceptance_rate)) - TARGET
            factor = jnp.clip(jnp.exp(2.0 * excess), 0.4, 1.3)
            step_size = jnp.clip(step_size * factor, 1e-4, 2.0)
        return spread(state), step_size

    start = (spread(hmc.init(spread(u), value_and_grad)), step_size)
    state, step_size = jax.lax.fori_loop(0, transitions, transition, start)
    return state.position, together(path.tilt(state.position)), step_size


def _next_rise(f: Float[Array, " particles"], most: Array, share: Array | float) -> Array:
    """The rise of beta, at most `most`, at which weights over twice of it have `share`."""

    def halve(_, bracket: tuple) -> tuple:
        low, high = bracket
        middle = (low + high) / 2
        enough = _log_share(2 * middle, f) >= jnp.log(share)
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    rise, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))
    return jnp.where(
        _log_share(2 * most, f) >= jnp.log(share), most, jnp.maximum(rise, SMALLEST_RISE)
    )


def _log_share(rise: Array, f: Float[Array, " particles"]) -> Array:
    """Log of (sum w)^2 / (n sum w^2) for the weights exp(rise f)."""
    log_w = rise * f
    log_w = log_w - jnp.max(log_w)
    return 2 * jax.nn.logsumexp(log_w) - jax.nn.logsumexp(2 * log_w) - jnp.log(len(f))
