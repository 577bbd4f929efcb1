"""Convolutional tilts of images: smooth, exactly zero at the start, aware of the image's shape.

At each stage squares of 2 x 2 pixels go to channels and a 3 x 3 convolution follows; a residual
tilt adds a block of two more to what it has (He et al. 2016, arXiv 1603.05027). Then all that
is left of the image goes through a hidden layer, so that f sees it as a whole.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.convolution import Convolution, squeeze
from tiltflow.errors import InputError, at_least_one
from tiltflow.tilts.base import Tilt

MOST_STAGES = 3
POWER_ITERATIONS = 8  # of the spectral norm


@dataclass(frozen=True)
class ConvSizes:
    """The network of a convolutional tilt.

    Attributes:
        channels: after the first stage; each further one has twice as many.
        width: of the hidden layer.
        residual: whether each stage has a residual block.
        spectral: the largest spectral norm of a layer's matrix, but the last one's; 0: any.
        dropout: share of the hidden layer's units dropped where a training key is given.
    """

    channels: int = 16
    width: int = 128
    residual: bool = False
    spectral: float = 0.0
    dropout: float = 0.0

    def check(self) -> None:
        """Raises InputError for the first size that cannot be."""
        at_least_one(self, "channels", "width")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; expected [0, 1)")
        if not 0 <= self.spectral < float("inf"):
            raise InputError(f"spectral is {self.spectral}; expected a norm, or 0 for any")


class Stage(eqx.Module):
    """Half the sides, more channels."""

    down: Convolution
    block: tuple[Convolution, Convolution] | None

    def __init__(self, inputs: int, outputs: int, residual: bool, *, key: PRNGKeyArray) -> None:
        """From images of `inputs` channels to such of `outputs`; the block starts out small."""
        down_key, first_key, last_key = jr.split(key, 3)
        self.down = Convolution(4 * inputs, outputs, key=down_key)
        self.block = None
        if residual:
            last = Convolution(outputs, outputs, key=last_key)
            last = eqx.tree_at(lambda c: c.weight, last, 0.1 * last.weight)
            self.block = (Convolution(outputs, outputs, key=first_key), last)

    def __call__(
        self, x: Float[Array, "height width inputs"]
    ) -> Float[Array, "half_height half_width outputs"]:
        """Before the activation that follows."""
        x = self.down(squeeze(x))
        if self.block is not None:
            first, last = self.block
            x = x + last(jax.nn.silu(first(jax.nn.silu(x))))
        return x


class ConvTilt(Tilt):
    """f(y) for coordinates y, `[dim]`, that are images row by row, channels last.

    The last layer starts at zero, so that f = 0 and p = q, and has no bias; see `MLPTilt`.
    """

    stages: tuple[Stage, ...]
    hidden: eqx.nn.Linear
    last: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    level: Float[Array, ""]
    shape: tuple[int, int, int] = eqx.field(static=True)
    spectral: float = eqx.field(static=True)

    def __init__(
        self, data_shape: tuple[int, ...], sizes: ConvSizes | None = None, *, key: PRNGKeyArray
    ) -> None:
        """A tilt that is zero, of images `[height, width]` or `[height, width, channels]`.

        Raises:
            InputError: sizes that cannot be, or data that are no images.
        """
        sizes = sizes or ConvSizes()
        sizes.check()
        if len(data_shape) not in (2, 3):
            raise InputError(
                f"data of shape {data_shape}; expected images, [height, width] or [height, width, "
                f"channels]: use the tilt 'mlp'"
            )
        height, width, channels = (*data_shape, 1)[:3]
        self.shape, self.spectral = (height, width, channels), sizes.spectral
        stages, outputs = [], sizes.channels
        while len(stages) < MOST_STAGES and height % 2 == 0 and width % 2 == 0:
            key, stage_key = jr.split(key)
            stages.append(Stage(channels, outputs, sizes.residual, key=stage_key))
            height, width, channels, outputs = height // 2, width // 2, outputs, 2 * outputs
        self.stages = tuple(stages)
        hidden_key, last_key = jr.split(key)
        self.hidden = eqx.nn.Linear(height * width * channels, sizes.width, key=hidden_key)
        last = eqx.nn.Linear(sizes.width, "scalar", use_bias=False, key=last_key)
        self.last = jax.tree.map(jnp.zeros_like, last)
        self.dropout = eqx.nn.Dropout(sizes.dropout)
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c), with dropout if there is a key."""
        stages, hidden = self.stages, self.hidden
        if self.spectral:
            stages, hidden = normalised((stages, hidden), self.spectral)
        x = c.reshape(self.shape)
        for stage in stages:
            x = jax.nn.silu(stage(x))
        x = jax.nn.silu(hidden(x.ravel()))
        x = self.dropout(x, key=key, inference=key is None)
        return self.last(x) - jax.lax.stop_gradient(self.level)


def normalised(layers: tuple, limit: float) -> tuple:
    """`layers` with every matrix called `weight` scaled down to a spectral norm of `limit`."""

    def scaled(path: tuple, value: Array) -> Array:
        if path[-1] != jax.tree_util.GetAttrKey("weight"):
            return value
        matrix = value.reshape(-1, value.shape[-1])
        return value * jnp.minimum(1.0, limit / spectral_norm(matrix))

    return jax.tree_util.tree_map_with_path(scaled, layers)


def spectral_norm(matrix: Float[Array, "rows columns"]) -> Float[Array, ""]:
    """The largest singular value, by power iteration from a fixed vector.

    Miyato et al. 2018 (arXiv 1802.05957), algorithm 1, without a state: the vectors are found
    anew each time, and no gradient goes through them.
    """
    fixed = jax.lax.stop_gradient(matrix)
    right = jr.normal(jr.key(0), (matrix.shape[1],), matrix.dtype)
    for _ in range(POWER_ITERATIONS):
        left = _unit(fixed @ right)
        right = _unit(left @ fixed)
    left = _unit(fixed @ right)
    return left @ matrix @ right


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
