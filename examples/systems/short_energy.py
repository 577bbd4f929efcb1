"""An energy without a backbone, learned by short chains from noise: a baseline that does not mix.

Nijkamp et al. 2019 (arXiv 1904.09770), algorithm 1, over coordinates in which data are well spread.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from tiltflow.learning import Rows, optimiser
from tiltflow.learning.objective import contrast
from tiltflow.tilts import MLPTilt

SHORT, STEP, BATCH = 40, 0.1, 128  # transitions, their size; rows, and chains


@eqx.filter_jit
def langevin(tilt: Any, c: jax.Array, key: jax.Array, transitions: int) -> jax.Array:
    """Unadjusted transitions of exp f alone."""

    def step(c: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        push = jax.vmap(jax.grad(lambda c: tilt(c)))(c)
        return c + 0.5 * STEP**2 * push + STEP * jr.normal(key, c.shape), None

    return jax.lax.scan(step, c, jr.split(key, transitions))[0]


def without_q(train: Rows, dim: int, width: int, steps: int, seed: int) -> MLPTilt:
    """An energy alone: each gradient from chains that have made `SHORT` transitions from noise."""
    parameters, rest = eqx.partition(
        MLPTilt(dim, width=width, key=jr.key(seed)), eqx.is_inexact_array
    )

    def loss(parameters: Any, c: jax.Array, drawn: jax.Array, key: jax.Array) -> jax.Array:
        return contrast(eqx.combine(parameters, rest), c, drawn, jnp.full(len(c), 1 / len(c)), key)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        start, run, rows, dropout = jr.split(key, 4)
        tilt = eqx.combine(carry[0], rest)
        drawn = langevin(tilt, jr.normal(start, (BATCH, dim)), run, SHORT)
        gradient = jax.grad(loss)(carry[0], train.batch(rows, BATCH)[0], drawn, dropout)
        return optimiser.update(
            carry[0], gradient, carry[1], jnp.asarray(1e-3), jnp.zeros(())
        ), None

    start, keys = (parameters, optimiser.ADAM.init(parameters)), jr.split(jr.key(seed + 1), steps)
    learned = jax.jit(lambda start, keys: jax.lax.scan(step, start, keys)[0][0])(start, keys)
    return eqx.combine(learned, rest)
