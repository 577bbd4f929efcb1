"""AdamW with what a compiled step may not bake in, rate and decay, as traced numbers.

All functions take trees of parameters as `equinox.partition` makes them: None where a leaf is
not trained. A leaf keeps its type: under 64 bits some are of 32, and rates are not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from tiltflow.parallel.devices import together

Parameters = Any
ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.999))


def update(
    parameters: Parameters,
    gradient: Parameters,
    state: optax.OptState,
    rate: Array,
    decay: float | Array,
) -> tuple[Parameters, optax.OptState]:
    """One step down `gradient`: clipped to norm 1, Adam, decoupled decay of leaves called `weight`.

    Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2: `decay` is multiplied by the rate.
    `state` comes from `ADAM.init(parameters)`.
    """
    direction, state = ADAM.update(together(gradient), state)

    def step(path: tuple, value: Array, direction: Array) -> Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[2]
        shrink = decay * value if name == "weight" else 0.0
        return (value - rate * (direction + shrink)).astype(value.dtype)

    return jax.tree_util.tree_map_with_path(step, parameters, direction), state


def cosine(step: Array, steps: float | Array, rate: float | Array, final: float | Array) -> Array:
    """From `rate` at step 0 down to `final * rate` at `steps`, along half a cosine."""
    done = jnp.clip(step / steps, 0.0, 1.0)
    return rate * (final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * done)))


def moving_average(
    average: Parameters, parameters: Parameters, memory: float | Array
) -> Parameters:
    """The exponential moving average: memory * average + (1 - memory) * parameters."""

    def one(old: Array, new: Array) -> Array:
        return (memory * old + (1 - memory) * new).astype(old.dtype)

    return jax.tree.map(one, average, parameters)
