"""Convolutions of 3 x 3 as products of matrices: fast inside of loops, too.

XLA's own convolutions leave their fast path where a CPU runs them inside of a compiled loop, and
samplers and learners are such loops. `benchmarks/glow.py` shows by how much. So the nine
neighbours are either gathered before one product of matrices, or what one product makes for each
of the nine is added up after it, whichever moves fewer numbers.

All functions take images with any leading axes, `[*batch, height, width, channels]`.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

OFFSETS = tuple((down, right) for down in (1, 0, -1) for right in (1, 0, -1))
PRECISIONS = ("float32", "bfloat16")


class Convolution(eqx.Module):
    """A 3 x 3 convolution that keeps height and width, with zeros around the image.

    It computes in the precision of its input.

    Attributes:
        weight: `[9, inputs, outputs]`, rows of the image first.
        bias: `[outputs]`.
    """

    weight: Float[Array, "9 inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray) -> None:
        """Weights normal with variance 1 / (9 inputs), biases zero."""
        self.weight = jr.normal(key, (9, inputs, outputs)) / math.sqrt(9 * inputs)
        self.bias = jnp.zeros(outputs)

    def __call__(
        self, x: Float[Array, "*batch height width inputs"]
    ) -> Float[Array, "*batch height width outputs"]:
        """The convolved image."""
        _, inputs, outputs = self.weight.shape
        weight = self.weight.astype(x.dtype)
        if inputs <= outputs:
            near = jnp.concatenate([shifted(x, *offset) for offset in OFFSETS], axis=-1)
            out = pointwise(near, weight.reshape(9 * inputs, outputs))
        else:
            spread = pointwise(x, weight.swapaxes(0, 1).reshape(inputs, 9 * outputs))
            parts = jnp.split(spread, 9, axis=-1)
            moved = [shifted(part, *offset) for part, offset in zip(parts, OFFSETS, strict=True)]
            out = sum(moved[1:], moved[0])
        return out + self.bias.astype(x.dtype)


def shifted(
    x: Float[Array, "*batch height width channels"], down: int, right: int
) -> Float[Array, "*batch height width channels"]:
    """The image moved by whole pixels, zeros where it came from."""
    leading = [(0, 0, 0)] * (x.ndim - 3)
    edges = [*leading, (down, -down, 0), (right, -right, 0), (0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)


def pointwise(
    x: Float[Array, "... inputs"], weight: Float[Array, "inputs outputs"]
) -> Float[Array, "... outputs"]:
    """Every pixel times the same matrix, as one product of two matrices.

    With more axes than two, gradients in the weights cost twice as much on a CPU.
    """
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])


def squeeze(
    x: Float[Array, "*batch height width channels"],
) -> Float[Array, "*batch half_height half_width four_channels"]:
    """Squares of 2 x 2 pixels to channels (Dinh et al. 2017, arXiv 1605.08803, section 3.6)."""
    *batch, height, width, channels = x.shape
    x = x.reshape(*batch, height // 2, 2, width // 2, 2, channels)
    x = jnp.moveaxis(x, -4, -3)
    return x.reshape(*batch, height // 2, width // 2, 4 * channels)


def unsqueeze(
    x: Float[Array, "*batch half_height half_width four_channels"],
) -> Float[Array, "*batch height width channels"]:
    """The inverse of `squeeze`."""
    *batch, height, width, channels = x.shape
    x = x.reshape(*batch, height, width, 2, 2, channels // 4)
    x = jnp.moveaxis(x, -3, -4)
    return x.reshape(*batch, 2 * height, 2 * width, channels // 4)
