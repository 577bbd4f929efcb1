"""Moves without a gradient: elliptical slices under the component that a row belongs to.

Let r be a mixture of t components near the density pi. A row belongs to a component with the
probability that r says, and, in a t component, to a normal one of random width. Given these, pi is
that normal density times exp(log pi - log r), which an elliptical slice move leaves invariant
(`mcmc/elliptical.py`). Where r is good, angles are seldom refused and rows all but renewed; but so
they are by jumps alone, for one evaluation or two each, and chains then move but now and then.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.fitting.posterior.compiled import compiled
from tiltflow.fitting.posterior.jumps import landing
from tiltflow.fitting.posterior.proposal import pushed
from tiltflow.fitting.posterior.starts import PRIORS, SIZES
from tiltflow.fitting.posterior.tailed import Tailed, TailedDensity
from tiltflow.fitting.posterior.target import Target
from tiltflow.learning.gaussian_mixture import best_mixture
from tiltflow.mcmc import elliptical

FREEDOM = 5.0  # of what is put around particles
LEAST = 100  # particles that a mixture is fitted to


def around(y: np.ndarray, factor: np.ndarray, *, mixed: bool, seed: int) -> Tailed:
    """A density near particles `[n, dim]`: a t density, or a mixture and a tenth of that."""
    y = y.astype(np.float64)
    mean = y.mean(axis=0)
    if not mixed or len(y) < LEAST:
        return Tailed.single(mean, factor, FREEDOM)
    y = y[np.random.default_rng(seed).permutation(len(y))]
    held, rest = np.split(y, [len(y) // 5])
    found = best_mixture(rest, held, priors=PRIORS, sizes=SIZES[:1], seed=seed).mixture
    return Tailed.around(found, mean, factor, 0.1)._replace(
        freedoms=np.full(len(found.means) + 1, FREEDOM)
    )


def move(
    key: PRNGKeyArray,
    z: Float[Array, "n dim"],
    value: Float[Array, " n"],
    log_ratio: Callable[[Array], Array],
    base: TailedDensity,
    tries: int,
) -> elliptical.Moved:
    """One move of every row; `log_ratio` is the log of pi over `base`, `value` that at z."""
    which_key, width_key, key = jr.split(key, 3)
    away = jnp.einsum("kij,nkj->nki", base.whiteners, z[:, None] - base.means)
    square = jnp.sum(away**2, axis=2)
    half = 0.5 * (base.freedoms + z.shape[1])
    which = jr.categorical(which_key, base.constants - half * jnp.log1p(square / base.freedoms))
    rows = jnp.arange(len(z))
    width = jr.gamma(width_key, half[which], dtype=z.dtype) / (
        0.5 * (base.freedoms[which] + square[rows, which])
    )
    whitener = base.whiteners[which] * jnp.sqrt(width)[:, None, None]
    return elliptical.step(
        key, z, value, log_ratio, base.means[which], whitener, tries=tries
    )  # fmt: skip


@compiled
def tempered(
    target: Target,
    base: TailedDensity,
    near: TailedDensity,
    key: PRNGKeyArray,
    y: Float[Array, "particles dim"],
    shares: Float[Array, "2"],
    transitions: Array,
    tries: int,
) -> tuple[Array, Array, Array, Array]:
    """Particles after moves at a rung, under the target to the first share, the base to the second.

    Their log-densities under target and base, and the share of the last moves that moved.
    """

    def log_ratio(rows: Array) -> Array:
        tilted = shares[0] * jax.vmap(target)(rows) + shares[1] * jax.vmap(base)(rows)
        return _number(tilted - jax.vmap(near)(rows))

    def transition(index: Array, carry: tuple) -> tuple:
        y, value, _ = carry
        new = move(jr.fold_in(key, index), y, value, log_ratio, near, tries)
        return new.position, new.value, jnp.mean(new.is_accepted)

    start = y, log_ratio(y), jnp.zeros((), jnp.float32)
    y, _, moved = jax.lax.fori_loop(0, transitions, transition, start)
    return y, jax.vmap(target.wide)(y), jax.vmap(base)(y), moved


@compiled
def advanced(
    target: Target,
    flow: CouplingFlow,
    base: TailedDensity,
    key: PRNGKeyArray,
    z: Float[Array, "chains dim"],
    pool_z: Float[Array, "block chains jumps_to dim"],
    pool_f: Float[Array, "block chains jumps_to"],
    tries: int,
    every: Array,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """A block of jumps: z, y, f and log|det J| after each, `[block, chains, ...]`.

    Before the first of so many as `every` says there is a move. Then whether chains moved, NaN
    where they were not to, `[block, chains]`; and the share of jumps made.
    """

    def log_ratio(z: Array) -> Array:
        def one(z: Array) -> Array:
            y, log_det = pushed(flow, z)
            return target(y) + log_det - base(z)

        return _number(jax.vmap(one)(z))

    def transition(carry: tuple, given: tuple) -> tuple:
        z, f = carry
        key, number, fresh_z, fresh_f = given
        move_key, choice_key = jr.split(key)

        def moved(z: Array, f: Array) -> tuple[Array, Array, Array]:
            new = move(move_key, z, f, log_ratio, base, tries)
            return new.position, new.value, new.is_accepted.astype(jnp.float32)

        def left(z: Array, f: Array) -> tuple[Array, Array, Array]:
            return z, f, jnp.full(f.shape, jnp.nan, jnp.float32)

        z, f, told = jax.lax.cond(number % every == 0, moved, left, z, f)
        log_weights = jnp.concatenate([f[:, None], fresh_f], axis=1)
        gumbel = jr.gumbel(choice_key, log_weights.shape, f.dtype)
        winner = landing(f, fresh_f, gumbel)[:, None]
        among = jnp.concatenate([z[:, None], fresh_z], axis=1)
        z = jnp.take_along_axis(among, winner[..., None], axis=1)[:, 0]
        f = jnp.take_along_axis(log_weights, winner, axis=1)[:, 0]
        y, log_det = jax.vmap(lambda z: pushed(flow, z))(z)
        return (z, f), (z, y, f, log_det, told, jnp.mean(winner > 0))

    given = jr.split(key, len(pool_z)), jnp.arange(len(pool_z)), pool_z, pool_f
    _, (z, y, f, log_det, told, jumped) = jax.lax.scan(transition, (z, log_ratio(z)), given)
    return z, y, f, log_det, told, jnp.mean(jumped)


def _number(values: Array) -> Array:
    """What is not a number has no mass."""
    return jnp.where(jnp.isnan(values), -jnp.inf, values)
