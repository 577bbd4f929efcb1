"""Arrays with a chains axis first: the few operations that all kernels share."""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

State = TypeVar("State")


def per_chain(value: Array, like: Array) -> Array:
    """`value`, `[chains]`, with as many axes as `like`."""
    return value.reshape(value.shape + (1,) * (like.ndim - 1))


def sum_event(values: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
    """The sum over all axes but the first."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def all_event(values: Bool[Array, "chains *event"]) -> Bool[Array, " chains"]:
    """Whether all hold, over all axes but the first."""
    return jnp.all(values, axis=tuple(range(1, values.ndim)))


def all_finite(state: Sequence[Array]) -> Bool[Array, " chains"]:
    """Chains for which every array of `state` is finite."""
    finite = [all_event(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state)]
    return jnp.all(jnp.stack(finite), axis=0)


def half_square(position: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
    """|u|^2 / 2 of each chain."""
    return 0.5 * sum_event(position**2)


def choose(where: Bool[Array, " chains"], new: State, old: State) -> State:
    """The chains of `new` where the condition holds, those of `old` elsewhere."""
    return jax.tree.map(lambda n, o: jnp.where(per_chain(where, n), n, o), new, old)
