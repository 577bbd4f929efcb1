"""Trajectories of HMC in whose programs the density stands once.

Most of what a program takes to compile is the density, its gradient and the flow, each time that
they stand in it. So a start whose log-density is not known, as after a jump, is evaluated by a step
of length 0 in the same loop as the steps of the trajectory, and what else is to be known of its end
comes along with the log-density. Otherwise this is `mcmc/trajectory.py` with leapfrogs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tiltflow.mcmc.metropolis import decide
from tiltflow.mcmc.trajectory import LARGEST_ENERGY_ERROR

JITTER = 0.2  # of the step size of each chain


class Known(NamedTuple):
    """What is known of a point of each chain.

    Attributes:
        value: its log-density, `[chains]`.
        slope: the gradient, `[chains, dim]`.
        more: whatever comes along, a pytree of arrays `[chains, ...]`.
    """

    value: Float[Array, " chains"]
    slope: Float[Array, "chains dim"]
    more: Any


Density = Callable[[Array], tuple[Array, Any]]
"""Positions `[chains, dim]` to log-densities `[chains]` and `Known.more`."""


class Moved(NamedTuple):
    """Where chains are after a trajectory and its test.

    Attributes:
        position: `[chains, dim]`.
        known: of it.
        chance: the Metropolis probability, `[chains]`.
        is_divergent: `[chains]`.
    """

    position: Float[Array, "chains dim"]
    known: Known
    chance: Float[Array, " chains"]
    is_divergent: Bool[Array, " chains"]


def nothing_known(density: Density, position: Float[Array, "chains dim"]) -> Known:
    """Zeros in the shapes of what is to be known."""
    value, more = jax.eval_shape(density, position)

    def zeros(like: Any) -> Array:
        return jnp.zeros(like.shape, like.dtype)

    return Known(zeros(value), jnp.zeros_like(position), jax.tree.map(zeros, more))


def followed(
    density: Density,
    position: Float[Array, "chains dim"],
    known: Known,
    is_known: Array | bool,
    momentum: Float[Array, "chains dim"],
    uniform: Float[Array, " chains"],
    steps: Float[Array, " chains"],
    number: Array | int,
) -> Moved:
    """A trajectory of `number` leapfrogs and its test; one evaluation more if not `is_known`.

    Args:
        density: that is left invariant.
        position: where chains are.
        known: of them, if `is_known`, a scalar.
        is_known: whether it is.
        momentum: standard normal.
        uniform: draws from [0, 1), of the test.
        steps: sizes, one for each chain.
        number: of leapfrogs; it may be traced.
    """

    def one(index: Array, carry: tuple) -> tuple:
        y, p, now, first, fine = carry
        length = jnp.where(index < 0, 0.0, steps)[:, None]
        p = p + 0.5 * length * now.slope
        y = y + length * p
        value, pull, more = jax.vjp(density, y, has_aux=True)
        now = Known(value, pull(jnp.ones_like(value))[0], more)
        first = jax.tree.map(lambda old, new: jnp.where(index < 0, new, old), first, now)
        return y, p + 0.5 * length * now.slope, now, first, fine & jnp.isfinite(value)

    fine = jnp.isfinite(known.value)  # what is not known is 0
    begin, end = (jnp.asarray(n, jnp.int32) for n in (jnp.where(is_known, 0, -1), number))
    carry = (position, momentum, known, known, fine)
    y, p, now, first, fine = jax.lax.fori_loop(begin, end, one, carry)
    fine &= jnp.isfinite(p).all(axis=1) & jnp.isfinite(y).all(axis=1)
    kinetic = jnp.sum(0.5 * (p - momentum) * (p + momentum), axis=1)
    gain = (now.value - first.value) - kinetic
    decision = decide(uniform, gain, fine, worst=-LARGEST_ENERGY_ERROR)

    def kept(new: Array, old: Array) -> Array:
        taken = decision.is_accepted.reshape(-1, *(1,) * (new.ndim - 1))
        return jnp.where(taken, new, old)

    return Moved(
        kept(y, position),
        jax.tree.map(kept, now, first),
        decision.acceptance_rate,
        decision.is_divergent,
    )
