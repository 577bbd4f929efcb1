"""Glow (Kingma and Dhariwal 2018, arXiv 1807.03039) for images of any size, as a backbone.

Towards noise, each scale squeezes squares of 2 x 2 pixels to channels, takes some steps
(`glow_step.py`), and leaves half of the channels behind as noise; the last one leaves all. What
is left behind is standard normal, because the conditional normal that it had is a part of the
map. So u ~ N(0, I) throughout, and the latent space is flat.

The steps are a plain loop in Python, and convolutions are products of matrices
(`convolution.py`): loops around XLA's own convolutions were several times slower on a CPU.
`coordinates` and `inverse` take leading axes, too: a gradient in the weights is cheaper so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import LOG_2PI, Flow
from tiltflow.backbones.convolution import PRECISIONS, squeeze, unsqueeze
from tiltflow.backbones.glow_step import Coupling, Step
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError, at_least_one

MOST_SCALES = 3  # chosen without being asked


@dataclass(frozen=True)
class GlowSizes:
    """The networks of a Glow.

    Attributes:
        scales: how often the image is halved; 0: as often as its sides allow, at most 3 times.
        steps: at each scale.
        width: hidden channels of the couplings' networks.
        precision: of these networks: `"float32"`, or `"bfloat16"` for devices that are fast in
            it. Whatever enters the density is float32 always.
        remat: whether the steps' inner values are computed again on the way back, for less
            memory and about a third more time.
    """

    scales: int = 0
    steps: int = 5
    width: int = 64
    precision: str = "float32"
    remat: bool = False

    def check(self) -> None:
        """Raises InputError for the first size that cannot be."""
        at_least_one(self, "steps", "width")
        if self.scales < 0:
            raise InputError(f"scales is {self.scales}; expected 1 or more, or 0 for a choice")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision {self.precision!r:.100}; expected {' or '.join(PRECISIONS)}"
            )


class Scale(eqx.Module):
    """The steps at one scale, and the split after them; the last scale has none."""

    steps: tuple[Step, ...]
    split: Coupling | None


class Glow(Flow):
    """A multi-scale flow of images `[height, width, channels]`, or `[height, width]`."""

    units: Units
    scales: tuple[Scale, ...]
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(self, units: Units, sizes: GlowSizes | None = None, *, key: PRNGKeyArray) -> None:
        """A Glow whose couplings are the identity; `initialised` fits it to data.

        Args:
            units: the bijection at the data end; it says the shapes.
            sizes: of the networks.
            key: for the hidden layers and the rotations.

        Raises:
            InputError: sizes that cannot be, or data that are no images which can be halved.
        """
        sizes = sizes or GlowSizes()
        sizes.check()
        self.units = units
        self.data_shape = units.data_shape
        self.latent_shape = (math.prod(units.data_shape),)
        self.remat = sizes.remat
        height, width, channels = image_shape(self.data_shape)
        number = checked_scales(self.data_shape, sizes.scales)
        scales = []
        for level in range(number):
            key, *keys = jr.split(key, sizes.steps + 2)
            height, width, channels = height // 2, width // 2, 4 * channels
            how = ((height, width, channels), sizes.width, sizes.precision)
            steps = tuple(Step(*how, key=k) for k in keys[:-1])
            last = level == number - 1
            scales.append(Scale(steps, None if last else Coupling(*how, key=keys[-1])))
            channels //= 2
        self.scales = tuple(scales)

    def coordinates(self, u: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """Noise to coordinates."""
        shapes = self._noise_shapes()
        ends = [0]
        for shape in shapes:
            ends.append(ends[-1] + math.prod(shape))
        parts = [
            u[..., start:end].reshape(*u.shape[:-1], *shape)
            for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
        ]
        z = parts[-1]
        for number, scale in reversed(list(enumerate(self.scales))):
            if scale.split is not None:
                z = jnp.concatenate([z, parts[number]], axis=-1)
                z = self._run(Coupling.forward, scale.split, z)
            for step in reversed(scale.steps):
                z = self._run(Step.forward, step, z)
            z = unsqueeze(z)
        return z.reshape(u.shape)

    def inverse(
        self, y: Float[Array, "*batch dim"]
    ) -> tuple[Float[Array, "*batch dim"], Float[Array, " *batch"]]:
        """Coordinates to noise, and log|det du/dy|."""
        batch = y.shape[:-1]
        z = y.reshape(*batch, *image_shape(self.data_shape))
        log_det, left = jnp.zeros(batch, y.dtype), []
        for scale in self.scales:
            z = squeeze(z)
            for step in scale.steps:
                z, increment = self._run(Step.inverse, step, z)
                log_det = log_det + increment
            if scale.split is not None:
                z, increment = self._run(Coupling.inverse, scale.split, z)
                log_det = log_det + increment
                z, noise = jnp.split(z, 2, axis=-1)
                left.append(noise)
        left.append(z)
        flat = [noise.reshape(*batch, -1) for noise in left]
        return jnp.concatenate(flat, axis=-1), log_det

    def training_log_probs(
        self, y: Float[Array, "rows dim"], key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        """The log-density of coordinates, all rows as one batch; nothing is random in it."""
        u, log_det = self.inverse(y)
        return -0.5 * (jnp.sum(u**2, axis=-1) + u.shape[-1] * LOG_2PI) + log_det

    def _noise_shapes(self) -> list[tuple[int, int, int]]:
        """The shapes of what each scale leaves behind."""
        height, width, channels = image_shape(self.data_shape)
        shapes = []
        for scale in self.scales:
            height, width, channels = height // 2, width // 2, 4 * channels
            if scale.split is not None:
                channels //= 2
            shapes.append((height, width, channels))
        return shapes

    def _run(self, function: Callable[[Any, Array], Any], part: Any, z: Array) -> Any:
        """`function(part, z)`, whose inner values are forgotten if `remat`."""
        return eqx.filter_checkpoint(function)(part, z) if self.remat else function(part, z)


@eqx.filter_jit
def initialised(glow: Glow, y: Float[Array, "rows dim"]) -> Glow:
    """`glow` with its normalisations fitted to a batch of coordinates, one after the other.

    After Kingma and Dhariwal 2018 (arXiv 1807.03039), section 3.1, with moments that a few wild
    values do not decide (`Normalisation.initialised`).
    """
    z = y.reshape(len(y), *image_shape(glow.data_shape))
    scales = []
    for scale in glow.scales:
        z = squeeze(z)
        steps = []
        for step in scale.steps:
            fitted = step.normalisation.initialised(z)
            step = eqx.tree_at(lambda s: s.normalisation, step, fitted)
            z, _ = step.inverse(z)
            steps.append(step)
        if scale.split is not None:
            z = jnp.split(scale.split.inverse(z)[0], 2, axis=-1)[0]
        scales.append(Scale(tuple(steps), scale.split))
    return eqx.tree_at(lambda g: g.scales, glow, tuple(scales))


def image_shape(data_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels; raises InputError for data that are no images."""
    shape = (*data_shape, 1) if len(data_shape) == 2 else data_shape
    if len(shape) != 3:
        raise InputError(
            f"data of shape {data_shape}; expected images, [height, width] or [height, width, "
            f"channels]: use the backbone 'coupling'"
        )
    return shape[0], shape[1], shape[2]


def checked_scales(data_shape: tuple[int, ...], scales: int) -> int:
    """How often images are halved: `scales`, or for 0 as often as they allow, at most 3 times.

    Raises:
        InputError: the sides cannot be halved so often.
    """
    height, width, _ = image_shape(data_shape)
    possible = 0
    while height % 2 == 0 and width % 2 == 0 and height and width:
        height, width, possible = height // 2, width // 2, possible + 1
    if possible == 0:
        raise InputError(
            f"images of {data_shape[0]} x {data_shape[1]} pixels; expected even sides: add a row "
            f"or a column, or use the backbone 'coupling'"
        )
    if scales > possible:
        raise InputError(
            f"scales is {scales}; expected at most {possible} for images of {data_shape[0]} x "
            f"{data_shape[1]} pixels, whose sides are halved so often"
        )
    return scales or min(possible, MOST_SCALES)
