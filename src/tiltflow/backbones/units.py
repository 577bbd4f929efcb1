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
        lower, upper = below + part * mass, above + (1 - part) * mass
        y = jnp.where(lower < upper, ndtri(lower), -ndtri(upper))
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
        edge = -ndtri(TAIL)
        inside = jnp.clip(y, -edge, edge)
        lower, upper = norm.cdf(inside), norm.cdf(-inside)
        beyond = jnp.where(
            (lower < upper)[:, None],
            lower[:, None] >= self.below,
            upper[:, None] < self.above + self.mass,
        )
        level = jnp.clip(jnp.sum(beyond, axis=1) - 1, 0, self.levels - 1)
        below, above, mass = self._bins(level)
        part = jnp.where(lower < upper, (lower - below) / mass, 1 - (upper - above) / mass)
        x = self.low + level + jnp.clip(part, 0.0, 1.0)
        x = x + (y - inside) * jnp.exp(norm.logpdf(inside)) / mass
        return x.reshape(self.data_shape)


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
    mass = (1 - 2 * TAIL) * counts / counts.sum(axis=1, keepdims=True)
    cumulated = np.cumsum(mass, axis=1)
    from_above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return Gaussianise(
        low=jnp.asarray(low, jnp.float32),
        below=jnp.asarray(TAIL + cumulated - mass, jnp.float32),
        above=jnp.asarray(TAIL + from_above - mass, jnp.float32),
        mass=jnp.asarray(mass, jnp.float32),
        data_shape=x.shape[1:],
    )


KINDS = ("gaussianise", "logit", "standardise", "whiten")


def fit_units(
    kind: str, x: np.ndarray, *, integers: bool, limits: tuple[float, float] | None = None
) -> Units:
    """Fit the units called `kind` to training data `x` (`[rows, *data_shape]`).

    `"auto"` is `"gaussianise"` for integers and `"standardise"` for continuous data. `limits` are
    the smallest and the largest integer there are, for `"logit"`; by default those of `x`.

    Raises:
        InputError: an unknown kind, or one for integers when the data are continuous.
    """
    if kind == "auto":
        kind = "gaussianise" if integers and np.ptp(x) < 1024 else "standardise"
    if kind not in KINDS:
        raise InputError(f"units {kind!r}; expected auto, {', '.join(KINDS)}")
    if kind in ("gaussianise", "logit") and not integers:
        raise InputError(
            f"units {kind!r} are for integers and these data are continuous: use standardise "
            f"or whiten"
        )
    if kind == "gaussianise":
        return fit_gaussianise(x)
    if kind == "logit":
        smallest, largest = limits or (float(x.min()), float(x.max()))
        return fit_logit(x, smallest, largest + 1.0)
    return fit_standardise(x, integers) if kind == "standardise" else fit_whiten(x, integers)


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
    return flat.mean(axis=0) + shift, np.sqrt(np.maximum(flat.var(axis=0) + variance, 1e-12))


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
