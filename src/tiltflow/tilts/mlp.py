"""A multilayer perceptron as tilt: smooth, and exactly zero at the start."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.tilts.base import Tilt


class MLPTilt(Tilt):
    """f(y) for coordinates y of shape `[dim]`, SiLU between layers.

    The last layer starts at zero: f = 0, p = q, and N(0, I) draws are exact. It has no bias,
    because f's level is free (log Z takes it up); `level` is subtracted instead, and learners
    set it so that f stays near 0 where the samples are (system.md's gauge).
    """

    layers: tuple[eqx.nn.Linear, ...]
    dropout: eqx.nn.Dropout
    level: Float[Array, ""]

    def __init__(
        self,
        dim: int,
        *,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ) -> None:
        """`depth` hidden layers of `width` units; `dropout` acts where a training key is given."""
        self.layers = zero_layers(dim, width, depth, "scalar", key=key)
        self.dropout = eqx.nn.Dropout(dropout)
        self.level = jnp.zeros(())

    def __call__(
        self, y: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(y), with dropout if there is a key."""
        return through(self.layers, self.dropout, y, key) - jax.lax.stop_gradient(self.level)


def zero_layers(
    dim: int, width: int, depth: int, outputs: int | Literal["scalar"], *, key: PRNGKeyArray
) -> tuple[eqx.nn.Linear, ...]:
    """`depth` hidden layers of `width` units, and a last one that is zero and has no bias."""
    sizes = [dim, *[width] * depth]
    keys = jr.split(key, depth + 1)
    hidden = [
        eqx.nn.Linear(inputs, outputs, key=k)
        for inputs, outputs, k in zip(sizes[:-1], sizes[1:], keys[:-1], strict=True)
    ]
    last = eqx.nn.Linear(sizes[-1], outputs, use_bias=False, key=keys[-1])
    return (*hidden, jax.tree.map(jnp.zeros_like, last))


def through(
    layers: tuple[eqx.nn.Linear, ...],
    dropout: eqx.nn.Dropout,
    y: Float[Array, " dim"],
    key: PRNGKeyArray | None,
) -> Array:
    """What the last layer gives, with SiLU after the others, and dropout if there is a key."""
    *hidden, last = layers
    for i, layer in enumerate(hidden):
        y = jax.nn.silu(layer(y))
        if key is not None:
            y = dropout(y, key=jr.fold_in(key, i))
    return last(y)
