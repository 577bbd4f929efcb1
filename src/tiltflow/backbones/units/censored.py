"""Units for images of bytes with atoms: a smooth quantity, censored at both ends of its range.

A pixel that is exactly black is below what could be told (Tobin 1958, "Estimation of relationships
for limited dependent variables": a normal variable that is seen only between its limits). So the
cell of the lowest level takes up a normal tail, that of the highest another, and all levels in
between lie evenly. Dequantisation noise in a black cell then comes out normal, as a flow has it,
not as a box, which a normal density misses by 0.18 nats a pixel; and a draw that leaves the tail
comes to nearly black, not to any level. One map for all pixels: neighbours stay comparable.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from scipy import stats

from tiltflow.backbones.units.bijections import TAIL, Units
from tiltflow.errors import InputError

CUT = 2.5  # standard deviations of a tail, from its mean to the levels in between
WIDTH = 16.0  # of all levels in between, in the same
ATOM = 0.05  # of all numbers, at both ends together, from which there is something to censor
_END = float(stats.norm.ppf(TAIL))  # of a tail's normal, where its cell ends
_MASS = float(stats.norm.cdf(CUT)) - TAIL  # of it, in the cell


class Censored(Units):
    """y = (h(x) - mean) / scale; h is normal in the cells of both ends, and even between them.

    With p from 0 to 1 through the lowest cell, from its outer end, h = Phi^-1(TAIL + p (Phi(c) -
    TAIL)) - c, with c = `CUT`, which ends at 0, where the other levels begin; the highest cell is
    its mirror image, from `WIDTH` on. Beyond the range h goes on linearly.

    Attributes:
        low, high: data are in [low, high); at least three levels of width 1.
        mean, scale: of h, over all numbers of the training data.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]
    mean: Float[Array, ""]
    scale: Float[Array, ""]
    data_shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def _between(self) -> Array:
        """How many levels lie between the lowest and the highest."""
        return self.high - self.low - 2

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        place = x.ravel() - self.low
        inside = jnp.clip(place, 0.0, self._between + 2)
        below, slope_below = _tail(inside)
        above, slope_above = _tail(self._between + 2 - inside)
        is_low, is_high = inside < 1, inside > self._between + 1
        even = WIDTH * (inside - 1) / self._between
        h = jnp.where(is_low, below, jnp.where(is_high, WIDTH - above, even))
        slope = jnp.log(WIDTH / self._between)
        slope = jnp.where(is_low, slope_below, jnp.where(is_high, slope_above, slope))
        h = h + (place - inside) * jnp.exp(slope)
        return (h - self.mean) / self.scale, jnp.sum(slope) - h.size * jnp.log(self.scale)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        h = y * self.scale + self.mean
        end = _END - CUT
        inside = jnp.clip(h, end, WIDTH - end)
        even = 1 + inside * self._between / WIDTH
        above = self._between + 2 - _part(WIDTH - inside)
        place = jnp.where(inside < 0, _part(inside), jnp.where(inside > WIDTH, above, even))
        place = place + (h - inside) * (norm.pdf(_END) / _MASS)
        return (self.low + place).reshape(self.data_shape)


def _tail(part: Array) -> tuple[Array, Array]:
    """h and log dh/dx at the share `part` of the way through the lowest cell."""
    normal = ndtri(TAIL + jnp.clip(part, 0.0, 1.0) * _MASS)
    return normal - CUT, jnp.log(_MASS) - norm.logpdf(normal)


def _part(h: Array) -> Array:
    """The inverse of `_tail`, of h up to 0."""
    return jnp.clip((ndtr(jnp.minimum(h, 0.0) + CUT) - TAIL) / _MASS, 0.0, 1.0)


def has_atoms(x: np.ndarray, limits: tuple[float, float]) -> bool:
    """Whether many of the integers `x` are the smallest or the largest, and three levels exist."""
    low, high = limits
    return high - low >= 2 and float(np.mean((x == low) | (x == high))) >= ATOM


def fit_censored(x: np.ndarray, *, limits: tuple[float, float] | None = None) -> Censored:
    """Integers `x` (`[rows, *data_shape]`), their h shifted and scaled alike in all places.

    Raises:
        InputError: fewer than three levels from the smallest to the largest of the `limits`.
    """
    low, high = limits or (float(x.min()), float(x.max()))
    if high - low < 2:
        raise InputError(
            f"integers from {low:g} to {high:g} have fewer than three levels; expected some "
            f"between the ends: use --units gaussianise"
        )
    lowest, highest = jnp.asarray(low, jnp.float32), jnp.asarray(high + 1, jnp.float32)
    zero, one = jnp.zeros(()), jnp.ones(())
    plain = Censored(low=lowest, high=highest, mean=zero, scale=one, data_shape=())
    levels, counts = np.unique(x, return_counts=True)
    points = np.concatenate([levels + part for part in (1 / 6, 1 / 2, 5 / 6)])
    h = np.asarray(plain.encode(jnp.asarray(points, jnp.float32)), np.float64)
    mean = np.average(h, weights=np.tile(counts, 3))
    scale = np.sqrt(np.average((h - mean) ** 2, weights=np.tile(counts, 3)))
    return Censored(
        low=lowest,
        high=highest,
        mean=jnp.asarray(mean, jnp.float32),
        scale=jnp.asarray(max(scale, 0.1), jnp.float32),
        data_shape=x.shape[1:],
    )
