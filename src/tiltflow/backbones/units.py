"""Units: bijections of R^d at a backbone's data end, each with its log-determinant.

A density is in data units only if the change of units is counted, so every bijection returns
`log|det dy/dx|` with y. All of them are bijections of the whole of R^d with linear tails (a
bounded range would hide mass from the chains), but for `Logit`, whose data live in an interval.

They are *fitted* by the functions at the end, which look at training data once; nothing here is
trained afterwards. All methods take one example.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from tiltflow.backbones.histogram import best_bins, split_to
from tiltflow.errors import InputError

TAIL = 1e-4  # the mass that Gaussianise leaves outside the range of the data, on each side
PSEUDO_COUNTS = 2.0  # of the pooled histogram, and again of the uniform one, added to a column's


class Units(eqx.Module):
    """A bijection between data x of shape `data_shape` and coordinates y of shape `[dim]`."""

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
        return self.matrix @ (x.ravel() - self.mean), self.log_det

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        return (self.inverse @ y + self.mean).reshape(self.data_shape)


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
        y = _normal_at(part, below, above, mass)
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
        inside, level = _bin_of(y, self.below, self.above, self.mass)
        below, above, mass = self._bins(level)
        x = self.low + level + _part_at(inside, below, above, mass)
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

    def _bins(self, level: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Mass below, above and in each column's bin `level`, its lower edge and its width."""
        column = jnp.arange(self.mass.shape[0])
        low = self.edges[column, level]
        width = self.edges[column, level + 1] - low
        tables = (self.below, self.above, self.mass)
        below, above, mass = (table[column, level] for table in tables)
        return below, above, mass, low, width

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        x = x.ravel()
        inside = jnp.clip(x, self.edges[:, 0], self.edges[:, -1])
        level = jnp.sum(inside[:, None] >= self.edges[:, 1:-1], axis=1)
        below, above, mass, low, width = self._bins(level)
        y = _normal_at(jnp.clip((inside - low) / width, 0.0, 1.0), below, above, mass)
        log_slope = jnp.log(mass) - jnp.log(width) - norm.logpdf(y)
        return y + (x - inside) * jnp.exp(log_slope), jnp.sum(log_slope)

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        inside, level = _bin_of(y, self.below, self.above, self.mass)
        below, above, mass, low, width = self._bins(level)
        x = low + width * _part_at(inside, below, above, mass)
        x = x + (y - inside) * jnp.exp(norm.logpdf(inside)) * width / mass
        return x.reshape(self.data_shape)


def _normal_at(part: Array, below: Array, above: Array, mass: Array) -> Array:
    """Phi^-1(F) at the share `part` of the way through a bin, from the smaller tail."""
    lower, upper = below + part * mass, above + (1 - part) * mass
    return jnp.where(lower < upper, ndtri(lower), -ndtri(upper))


def _bin_of(y: Array, below: Array, above: Array, mass: Array) -> tuple[Array, Array]:
    """y (`[dim]`) held inside the range of the tables (`[dim, bins]`), and its bin's index."""
    edge = -ndtri(TAIL)
    inside = jnp.clip(y, -edge, edge)
    lower, upper = norm.cdf(inside), norm.cdf(-inside)
    beyond = jnp.where(
        (lower < upper)[:, None], lower[:, None] >= below, upper[:, None] < above + mass
    )
    return inside, jnp.clip(jnp.sum(beyond, axis=1) - 1, 0, mass.shape[-1] - 1)


def _part_at(y: Array, below: Array, above: Array, mass: Array) -> Array:
    """The inverse of `_normal_at`: how far through its bin y lies, in [0, 1]."""
    lower, upper = norm.cdf(y), norm.cdf(-y)
    part = jnp.where(lower < upper, (lower - below) / mass, 1 - (upper - above) / mass)
    return jnp.clip(part, 0.0, 1.0)


def fit_standardise(x: np.ndarray, integers: bool) -> Affine:
    """Columns of `x` (`[rows, *data_shape]`) to mean 0 and standard deviation 1."""
    mean, scale = _moments(x, integers)
    return _affine(mean, np.diag(1 / scale), np.diag(scale), x.shape[1:])


def fit_whiten(x: np.ndarray, integers: bool, shrink: float = 0.02) -> Affine:
    """`x` (`[rows, *data_shape]`) to covariance I, by its symmetric root (ZCA).

    The correlation matrix is shrunk towards I by the share `shrink`.
    """
    mean, scale = _moments(x, integers)
    correlation = np.atleast_2d(np.cov((_flat(x) / scale).T, bias=True))
    np.fill_diagonal(correlation, 1.0)
    correlation = (1 - shrink) * correlation + shrink * np.eye(len(scale))
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    return _affine(mean, inverse_root / scale, scale[:, None] * root, x.shape[1:])


def fit_logit(x: np.ndarray, low: float, high: float, alpha: float = 0.01) -> Logit:
    """Integers `x` (`[rows, *data_shape]`) in [low, high) to its logit, standardised."""
    flat = np.concatenate([_flat(x) + inside for inside in (1 / 6, 1 / 2, 5 / 6)])
    share = alpha + (1 - 2 * alpha) * (flat - low) / (high - low)
    y = np.log(share) - np.log1p(-share)
    return Logit(
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        alpha=jnp.asarray(alpha),
        mean=jnp.asarray(y.mean(axis=0), jnp.float32),
        scale=jnp.asarray(np.maximum(y.std(axis=0), 0.1), jnp.float32),
        data_shape=x.shape[1:],
    )


def fit_gaussianise(x: np.ndarray) -> Gaussianise:
    """The histograms of integers `x` (`[rows, *data_shape]`), column by column, smoothed.

    Raises:
        InputError: more than 1,024 levels between the smallest and the largest value.
    """
    flat = _flat(x).astype(np.int64)
    low, levels = int(flat.min()), int(np.ptp(flat)) + 1
    if levels > 1024:
        raise InputError(
            f"integers from {low} to {low + levels - 1} have {levels} levels; expected at most "
            f"1,024 to Gaussianise: use --units standardise"
        )
    counts = np.stack([np.bincount(column - low, minlength=levels) for column in flat.T])
    pooled = counts.sum(axis=0) / counts.sum()
    counts = counts + PSEUDO_COUNTS * (pooled + 1 / levels)
    tables = _tables(counts / counts.sum(axis=1, keepdims=True))
    return Gaussianise(low=jnp.asarray(low, jnp.float32), **tables, data_shape=x.shape[1:])


def fit_histogram(x: np.ndarray) -> Histogram:
    """The best histograms of the columns of `x` (`[rows, *data_shape]`)."""
    found = [best_bins(column) for column in _flat(x).T]
    bins = max(len(shares) for _, shares in found)
    edges, shares = zip(*(split_to(*one, bins) for one in found), strict=True)
    tables = _tables(np.stack(shares))
    edges = jnp.asarray(np.stack(edges), jnp.float32)
    return Histogram(edges=edges, **tables, data_shape=x.shape[1:])


def _tables(shares: np.ndarray) -> dict[str, Array]:
    """The tables of a distribution function from the shares (`[dim, bins]`) of the bins."""
    mass = (1 - 2 * TAIL) * shares
    cumulated = np.cumsum(mass, axis=1)
    from_above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return {
        "below": jnp.asarray(TAIL + cumulated - mass, jnp.float32),
        "above": jnp.asarray(TAIL + from_above - mass, jnp.float32),
        "mass": jnp.asarray(mass, jnp.float32),
    }


KINDS = ("gaussianise", "histogram", "logit", "standardise", "whiten")
FAR_FROM_NORMAL = 0.02  # nats a column


def fit_units(
    kind: str, x: np.ndarray, *, integers: bool, limits: tuple[float, float] | None = None
) -> Units:
    """Fit the units called `kind` to training data `x` (`[rows, *data_shape]`).

    `"auto"` is `"gaussianise"` for integers, and for continuous data `"histogram"` if their
    columns are far from normal, `"standardise"` otherwise. `limits` are the smallest and the
    largest integer there are, for `"logit"`; by default those of `x`.

    Raises:
        InputError: an unknown kind, or one for integers when the data are continuous.
    """
    if kind == "auto":
        kind = _suited(x, integers)
    if kind not in KINDS:
        raise InputError(f"units {kind!r}; expected auto, {', '.join(KINDS)}")
    if kind in ("gaussianise", "logit") and not integers:
        raise InputError(
            f"units {kind!r} are for integers and these data are continuous: use histogram, "
            f"standardise or whiten"
        )
    if kind == "histogram" and integers:
        raise InputError(
            "units 'histogram' are for continuous data and these are integers: use gaussianise, "
            "standardise or whiten"
        )
    if kind == "histogram":
        return fit_histogram(x)
    if kind == "gaussianise":
        return fit_gaussianise(x)
    if kind == "logit":
        smallest, largest = limits or (float(x.min()), float(x.max()))
        return fit_logit(x, smallest, largest + 1.0)
    return fit_standardise(x, integers) if kind == "standardise" else fit_whiten(x, integers)


def _suited(x: np.ndarray, integers: bool) -> str:
    """The kind that `"auto"` is for `x`.

    Histograms of every other row are compared with normals of the same moments, on the rows
    left out, as models of independent columns.
    """
    if integers:
        return "gaussianise" if np.ptp(x) < 1024 else "standardise"
    fitted, left_out = x[::2], jnp.asarray(x[1::2], jnp.float32)

    @jax.jit
    def log_density(units: Units) -> Array:
        y, log_det = jax.lax.map(units.encode_and_log_det, left_out, batch_size=1024)
        return jnp.mean(norm.logpdf(y).sum(axis=1) + log_det)

    gain = log_density(fit_histogram(fitted)) - log_density(fit_standardise(fitted, integers))
    return "histogram" if gain > FAR_FROM_NORMAL * _flat(x).shape[1] else "standardise"


def dequantise(key: Array, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Integers x plus uniform noise in (0, 1): a density on bins of width 1.

    Its expected log bounds the log-probability of the integers from below (Theis et al. 2016,
    arXiv 1511.01844, eq. 9).
    """
    noise = jax.random.uniform(key, x.shape, minval=1e-4, maxval=1 - 1e-4)
    # From 2,048 on float32 may round the sum up to the next bin.
    return jnp.minimum(x + noise, jnp.nextafter(x + 1.0, x))


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(len(x), -1)


def _moments(x: np.ndarray, integers: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns, with the dequantisation's own if `integers`."""
    flat = _flat(x)
    shift, variance = (0.5, 1 / 12) if integers else (0.0, 0.0)
    deviation = np.sqrt(flat.var(axis=0) + variance)
    return flat.mean(axis=0) + shift, np.maximum(deviation, finest(np.abs(flat).max(axis=0)))


def finest(largest: np.ndarray) -> np.ndarray:
    """The least scale of a column whose largest magnitude this is: what float32 tells apart there.

    A constant column has no scale of its own; any other, however small, has.
    """
    return np.where(largest > 0, np.finfo(np.float32).eps * largest, 1e-6)


def _affine(
    mean: np.ndarray, matrix: np.ndarray, inverse: np.ndarray, data_shape: tuple[int, ...]
) -> Affine:
    return Affine(
        mean=jnp.asarray(mean, jnp.float32),
        matrix=jnp.asarray(matrix, jnp.float32),
        inverse=jnp.asarray(inverse, jnp.float32),
        log_det=jnp.asarray(np.linalg.slogdet(matrix)[1], jnp.float32),
        data_shape=data_shape,
    )
