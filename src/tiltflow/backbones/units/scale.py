"""Units for images: one shift and one scale for all numbers of an example.

Column by column, a pixel that is nearly always 0 would be blown up until its dequantisation
noise is as large as the image.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.backbones.units.bijections import Logit, Units
from tiltflow.backbones.units.fitting import finest, logit_moments

ALPHA = 0.01  # how far the logit keeps away from 0 and 1


class Scale(Units):
    """y = (x - mean) / scale, both scalars.

    Attributes:
        mean, scale: in data units.
        low, high: data lie in [low, high); draws, which may be outside, are rounded into it.
    """

    mean: Float[Array, ""]
    scale: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|, which is constant."""
        return (x.ravel() - self.mean) / self.scale, -x.size * jnp.log(self.scale)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        return (y * self.scale + self.mean).reshape(self.data_shape)


def fit_scale(x: np.ndarray, *, integers: bool, limits: tuple[float, float] | None = None) -> Scale:
    """The mean and the standard deviation of all numbers of `x` (`[rows, *data_shape]`).

    `limits` are the smallest and the largest number there are; by default those of `x`.
    """
    low, high = limits or (float(x.min()), float(x.max()))
    shift, variance = (0.5, 1 / 12) if integers else (0.0, 0.0)
    mean = np.mean(x, dtype=np.float64) + shift
    deviation = np.sqrt(np.var(x, dtype=np.float64) + variance)
    scale = max(deviation, float(finest(np.abs([x.min(), x.max()]).max())))
    return Scale(
        mean=jnp.asarray(mean, jnp.float32),
        scale=jnp.asarray(scale, jnp.float32),
        low=jnp.asarray(low, jnp.float32),
        high=jnp.asarray(high + integers, jnp.float32),
        data_shape=x.shape[1:],
    )


def fit_logit_scale(
    x: np.ndarray, *, limits: tuple[float, float] | None = None, alpha: float = ALPHA
) -> Logit:
    """Integers `x` (`[rows, *data_shape]`) to their logit, all numbers shifted and scaled alike.

    A convolution then sees the same units everywhere. Column by column, as `fit_logit` has it,
    a pixel that is nearly always 0 would be blown up.
    """
    low, high = limits or (float(x.min()), float(x.max()))
    mean, scale = logit_moments(x, low, high + 1, alpha)
    scale = max(scale, 0.01)
    dim = int(np.prod(x.shape[1:]))
    return Logit(
        low=jnp.asarray(low, jnp.float32),
        high=jnp.asarray(high + 1, jnp.float32),
        alpha=jnp.asarray(alpha, jnp.float32),
        mean=jnp.full(dim, mean, jnp.float32),
        scale=jnp.full(dim, scale, jnp.float32),
        data_shape=x.shape[1:],
    )


def identity(data_shape: tuple[int, ...]) -> Scale:
    """Data as their own coordinates."""
    end = jnp.asarray(np.finfo(np.float32).max)  # what is saved has to be finite
    return Scale(mean=jnp.zeros(()), scale=jnp.ones(()), low=-end, high=end, data_shape=data_shape)
