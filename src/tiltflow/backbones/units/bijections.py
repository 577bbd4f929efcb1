"""Units: bijections of R^d at a backbone's data end, each with its log-determinant.

A density is in data units only if the change of units is counted, so every bijection returns
`log|det dy/dx|` with y. All of them are bijections of the whole of R^d with linear tails (a
bounded range would hide mass from the chains), but for `Logit`, whose data live in an interval.

They are fitted to training data once, by `fitting.py`, and not trained afterwards. All methods
take one example.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from tiltflow.backbones.units.places import at_most, less

LEAST = 1e-4  # of the noise in a cell of width 1, from either end
TAIL = 1e-4  # the mass that Gaussianise leaves outside the range of the data, on each side


class Units(eqx.Module):
    """A bijection between data x of shape `data_shape` and coordinates y of shape `[dim]`.

    All kinds but `Affine` work number by number, increasing: gaps of rows are filled in coordinates
    (`model/completion`).
    """

    data_shape: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""

    @abc.abstractmethod
    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""

    def encode(self, x: Float[Array, "..."]) -> Float[Array, " dim"]:
        """Data to coordinates."""
        return self.encode_and_log_det(x)[0]


class Affine(Units):
    """y = matrix (x - mean); the matrix is diagonal (standardise) or full (whiten)."""

    mean: Float[Array, " dim"]
    matrix: Float[Array, "dim dim"]
    inverse: Float[Array, "dim dim"]
    log_det: Float[Array, ""]
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|, which is constant."""
        return _exactly(self.matrix, x.ravel() - self.mean), self.log_det

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        return (_exactly(self.inverse, y) + self.mean).reshape(self.data_shape)


class Logit(Units):
    """y = logit(alpha + (1 - 2 alpha) (x - low) / (high - low)), shifted and scaled by a column.

    For images, after Dinh et al. 2017 (arXiv 1605.08803), section 4.1. Its range is an interval:
    data a little outside (low, high), which no dequantised integer is, have no coordinates.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]
    alpha: Float[Array, ""]
    mean: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        slope = (1 - 2 * self.alpha) / (self.high - self.low)
        share = self.alpha + slope * (x.ravel() - self.low)
        y = jnp.log(share) - jnp.log1p(-share)
        log_det = jnp.log(slope) - jnp.log(share) - jnp.log1p(-share) - jnp.log(self.scale)
        return (y - self.mean) / self.scale, jnp.sum(log_det)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        share = jax.nn.sigmoid(y * self.scale + self.mean)
        x = self.low + (share - self.alpha) * (self.high - self.low) / (1 - 2 * self.alpha)
        return x.reshape(self.data_shape)


class Gaussianise(Units):
    """Dequantised integers through their column's distribution function to a standard normal.

    The distribution function F is piecewise linear over the bins [k, k + 1), exactly that of a
    dequantised histogram; y = Phi^-1(F(x)) has standard normal columns, so that what is left for
    the flow is only their dependence (marginal Gaussianisation: Chen & Gopinath 2000; Laparra et
    al. 2011). Beyond the data's range, where F leaves the mass `TAIL` on each side, y goes on
    linearly. Both tails of F are kept, so that neither loses digits.
    """

    low: Float[Array, ""]
    below: Float[Array, "dim levels"]  # mass below a bin
    above: Float[Array, "dim levels"]  # mass above a bin
    mass: Float[Array, "dim levels"]  # mass in a bin
    data_shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def levels(self) -> int:
        """The number of integer values."""
        return self.mass.shape[-1]

    def _bins(self, level: Array) -> tuple[Array, Array, Array]:
        """Mass below, above and in each column's bin `level` (integers, `[dim]`)."""
        column = jnp.arange(self.mass.shape[0])
        tables = (self.below, self.above, self.mass)
        below, above, mass = (table[column, level] for table in tables)
        return below, above, mass

    def _inside(self, x: Array) -> tuple[Array, Array]:
        """y and log dy/dx for `[dim]` values inside the range."""
        level = jnp.clip(jnp.floor(x - self.low).astype(int), 0, self.levels - 1)
        below, above, mass = self._bins(level)
        part = jnp.clip(x - self.low - level, 0.0, 1.0)
        y = normal_at(part, below, above, mass)
        return y, jnp.log(mass) - norm.logpdf(y)

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        x = x.ravel()
        inside = jnp.clip(x, self.low, self.low + self.levels)
        y, log_slope = self._inside(inside)
        return y + (x - inside) * jnp.exp(log_slope), jnp.sum(log_slope)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        inside, level = _bin_of(y, self.below, self.above)
        below, above, mass = self._bins(level)
        x = self.low + level + part_at(inside, below, above, mass)
        x = x + (y - inside) * jnp.exp(norm.logpdf(inside)) / mass
        return x.reshape(self.data_shape)


class Histogram(Units):
    """Continuous columns through their histogram's distribution function to a standard normal.

    As `Gaussianise`, with bins of unequal width, each column its own (see `histogram.py`): a
    skewed, heavy-tailed or rounded column leaves the flow only its dependence on the others.
    """

    edges: Float[Array, "dim bins+1"]
    below: Float[Array, "dim bins"]  # mass below a bin
    above: Float[Array, "dim bins"]  # mass above a bin
    mass: Float[Array, "dim bins"]  # mass in a bin
    data_shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def levels(self) -> int:
        """The number of bins of a column."""
        return self.mass.shape[-1]

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        x = x.ravel()
        inside = jnp.clip(x, self.edges[:, 0], self.edges[:, -1])
        level = at_most(self.edges[:, 1:-1], inside)
        below, above, mass, low, width = bins_at(self, level)
        y = normal_at(jnp.clip((inside - low) / width, 0.0, 1.0), below, above, mass)
        log_slope = jnp.log(mass) - jnp.log(width) - norm.logpdf(y)
        return y + (x - inside) * jnp.exp(log_slope), jnp.sum(log_slope)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        inside, level = _bin_of(y, self.below, self.above)
        below, above, mass, low, width = bins_at(self, level)
        x = low + width * part_at(inside, below, above, mass)
        x = x + (y - inside) * jnp.exp(norm.logpdf(inside)) * width / mass
        return x.reshape(self.data_shape)


def _exactly(matrix: Array, vector: Array) -> Array:
    """Their product in float32 on devices that would round it further, too."""
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)


def bins_at(units: Any, level: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Mass below, above and in each column's bin `level` (`[dim]`), its lower edge and its width.

    `units` have the tables `edges`, `below`, `above` and `mass`.
    """
    column = jnp.arange(units.mass.shape[0])
    low = units.edges[column, level]
    width = units.edges[column, level + 1] - low
    tables = (units.below, units.above, units.mass)
    below, above, mass = (table[column, level] for table in tables)
    return below, above, mass, low, width


def normal_at(part: Array, below: Array, above: Array, mass: Array) -> Array:
    """Phi^-1(F) at the share `part` of the way through a bin, from the smaller tail."""
    lower, upper = below + part * mass, above + (1 - part) * mass
    is_lower = lower < upper
    y = ndtri(jnp.where(is_lower, lower, upper))
    return jnp.where(is_lower, y, -y)


def _bin_of(y: Array, below: Array, above: Array) -> tuple[Array, Array]:
    """y (`[dim]`) held inside the range of the tables (`[dim, bins]`), and its bin's index."""
    edge = -ndtri(TAIL)
    inside = jnp.clip(y, -edge, edge)
    return inside, bin_of(inside, below, above)


def bin_of(y: Array, below: Array, above: Array) -> Array:
    """The index of each y's bin (`[dim]`), by the smaller of the masses below and above it."""
    lower, upper = norm.cdf(y), norm.cdf(-y)
    return jnp.where(lower < upper, at_most(below[:, 1:], lower), less(-above[:, :-1], -upper))


def part_at(y: Array, below: Array, above: Array, mass: Array) -> Array:
    """The inverse of `normal_at`: how far through its bin y lies, in [0, 1]."""
    lower, upper = norm.cdf(y), norm.cdf(-y)
    part = jnp.where(lower < upper, (lower - below) / mass, 1 - (upper - above) / mass)
    return jnp.clip(part, 0.0, 1.0)


def dequantise(
    key: Array, x: Float[Array, "..."], step: float | Float[Array, "..."] = 1.0
) -> Float[Array, "..."]:
    """Integers x plus uniform noise in (0, 1): a density on bins of width 1.

    Of values on a grid the noise is in (0, `step`); where that is 0 they stay as they are.

    Its expected log bounds the log-probability of the integers from below (Theis et al. 2016,
    arXiv 1511.01844, eq. 9).
    """
    return within_cell(x, jax.random.uniform(key, x.shape, minval=LEAST, maxval=1 - LEAST), step)


def within_cell(
    x: Float[Array, "..."], point: Float[Array, "..."], step: float | Float[Array, "..."] = 1.0
) -> Float[Array, "..."]:
    """Values x at a point of their cells, inside of (0, 1) `step`; where that is 0, as they are."""
    # From 2,048 on float32 may round the sum up to the next bin.
    return jnp.minimum(x + step * point, jnp.nextafter(x + step, x))
