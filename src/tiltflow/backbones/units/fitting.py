"""Units fitted to training data, in one look: the kinds there are, and which suits the data."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import norm

from tiltflow.backbones.units.bijections import TAIL, Affine, Gaussianise, Histogram, Logit, Units
from tiltflow.backbones.units.histogram import best_bins, log_density, split_to
from tiltflow.data.checks import checked
from tiltflow.errors import InputError

KINDS = ("gaussianise", "histogram", "logit", "standardise", "whiten")
FAR_FROM_NORMAL = 0.02  # nats a column
FEWEST_BINS = 32  # of a histogram
PSEUDO_COUNTS = 2.0  # of the pooled histogram, and again of the uniform one, added to a column's


def fit_units(
    kind: str,
    x: np.ndarray,
    *,
    integers: bool | None = None,
    limits: tuple[float, float] | None = None,
) -> Units:
    """Fit the units called `kind` to training data `x` (`[rows, *data_shape]`).

    `"auto"` is `"gaussianise"` for integers, and for continuous data `"histogram"` if their
    columns are far from normal, `"standardise"` otherwise. `limits` are the smallest and the
    largest integer there are, for `"logit"`; by default those of `x`. Whether these are `integers`
    is judged by their type and values, as `tiltflow.load_data` does, unless it is said.

    Raises:
        InputError: an unknown kind, or one for integers when the data are continuous.
    """
    if integers is None:
        integers = checked(np.asarray(x), "the array", constant=True)[1]
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
    fitted, left_out = _flat(x[::2]), _flat(x[1::2])
    mean, scale = _moments(fitted, integers)
    normal = norm.logpdf(left_out, mean, scale).sum(axis=1)
    histogram = np.sum(
        [log_density(new, *best_bins(old)) for old, new in zip(fitted.T, left_out.T, strict=True)],
        axis=0,
    )
    gain = np.mean(histogram) - np.mean(normal)
    return "histogram" if gain > FAR_FROM_NORMAL * left_out.shape[1] else "standardise"


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
    columns = x.reshape(len(x), -1).T
    mean, scale = np.transpose([logit_moments(column, low, high, alpha) for column in columns])
    return Logit(
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        alpha=jnp.asarray(alpha),
        mean=jnp.asarray(mean, jnp.float32),
        scale=jnp.asarray(np.maximum(scale, 0.1), jnp.float32),
        data_shape=x.shape[1:],
    )


def logit_moments(x: np.ndarray, low: float, high: float, alpha: float) -> tuple[float, float]:
    """Mean and standard deviation of the logit of all integers `x` in [low, high), dequantised.

    Each level counts as three points of its bin, so that memory does not grow with `x`.
    """
    levels, counts = np.unique(x, return_counts=True)
    inside = np.concatenate([levels + part for part in (1 / 6, 1 / 2, 5 / 6)])
    share = alpha + (1 - 2 * alpha) * (inside - low) / (high - low)
    y, weights = np.log(share) - np.log1p(-share), np.tile(counts, 3)
    mean = np.average(y, weights=weights)
    return float(mean), float(np.sqrt(np.average((y - mean) ** 2, weights=weights)))


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
    """The best histograms of the columns of `x` (`[rows, *data_shape]`).

    With as many bins as the next power of two, so that programs are compiled for few numbers.
    """
    found = [best_bins(column) for column in _flat(x).T]
    bins = 2 ** (max(FEWEST_BINS, *(len(shares) for _, shares in found)) - 1).bit_length()
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
