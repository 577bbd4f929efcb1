"""Units fitted to training data, in one look: the kinds there are, and which suits the data."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import norm

from tiltflow.backbones.units.bijections import TAIL, Affine, Gaussianise, Histogram, Logit, Units
from tiltflow.backbones.units.censored import fit_censored
from tiltflow.backbones.units.columns import bins_about, few_cells, suited
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.backbones.units.histogram import split_to
from tiltflow.backbones.units.normal import LARGEST, best_normal
from tiltflow.backbones.units.tails import (
    TailedBins,
    between_tails,
    cells_between_tails,
    ended,
    tailed_bins,
)
from tiltflow.data.atoms import Atoms
from tiltflow.data.checks import checked
from tiltflow.data.far_rows import far_rows
from tiltflow.data.grids import Grid
from tiltflow.errors import InputError

KINDS = ("censored", "gaussianise", "histogram", "logit", "standardise", "tails", "whiten")
FAR_FROM_NORMAL = 0.02  # nats a column
HEAVIER = 0.005  # nats a column, by which power tails have to be ahead of normal ones
JUDGED = 10_000  # rows that a normal density is fitted to, and as many that judge it
MOST_LEVELS = 1024  # of integers that are made normal
FEWEST_BINS = 128  # of a histogram: nearly all have as many, and share their programs
PSEUDO_COUNTS = 2.0  # of the pooled histogram, and again of the uniform one, added to a column's


def fit_units(
    kind: str,
    x: np.ndarray,
    *,
    integers: bool | None = None,
    limits: tuple[float, float] | None = None,
    grid: Grid | None = None,
) -> Units:
    """Fit the units called `kind` to training data `x` (`[rows, *data_shape]`).

    `"auto"` is `"standardise"` if columns, together, are near to normal. Otherwise it is
    `"gaussianise"` for images of integers, `"tails"`, histograms between power tails, for tables of
    integers, and for continuous data, where some column has such a tail and rows left out are
    likelier so, and `"histogram"` for others. `limits` are
    the smallest and the largest integer there are, for `"logit"` and `"censored"`; by default those
    of `x`. Whether these are `integers` is judged by their type and values, as
    `tiltflow.load_data` does, unless it is said.
    Values on a `grid` are spread over their cells; a histogram has a bin for each cell, and a
    column of few has tails, since a value that no row has shown may come.

    Raises:
        InputError: an unknown kind, or one for integers when the data are continuous.
    """
    if integers is None:
        integers = checked(np.asarray(x), "the array", constant=True)[1]
    cells = _Cells(x, grid)
    if kind == "auto":
        kind = _suited(x, integers, cells)
    if kind not in KINDS:
        raise InputError(f"units {kind!r}; expected auto, {', '.join(KINDS)}")
    if kind in ("censored", "gaussianise", "logit") and not integers:
        raise InputError(
            f"units {kind!r} are for integers and these data are continuous: use histogram, "
            f"standardise or whiten"
        )
    if kind == "histogram" and integers:
        raise InputError(
            "units 'histogram' are for continuous data and these are integers: use gaussianise, "
            "tails, standardise or whiten"
        )
    if kind == "histogram":
        return fit_histogram(x, cells)
    if kind == "tails":
        return fit_integers_between_tails(x) if integers else fit_tails(x, cells)
    x = cells.spread
    if kind == "gaussianise":
        return fit_gaussianise(x)
    if kind == "censored":
        return fit_censored(x, limits=limits)
    if kind == "logit":
        smallest, largest = limits or (float(x.min()), float(x.max()))
        return fit_logit(x, smallest, largest + 1.0)
    return fit_standardise(x, integers) if kind == "standardise" else fit_whiten(x, integers)


class _Cells:
    """Training data of which some columns lie on a grid, and the histogram that suits each.

    Attributes:
        spread: the data, `[rows, *data_shape]`, each value somewhere in its cell.
    """

    def __init__(self, x: np.ndarray, grid: Grid | None) -> None:
        self.spread = self._exact = x
        self._steps, self._atoms = np.zeros(x[:1].size), dict[int, Atoms]()
        self._far = {one.column for one in far_rows(x)}
        if grid is not None:
            noise = np.random.default_rng(0).uniform(size=x.shape)
            self.spread = x + grid.widths(x) * noise
            self._steps, self._atoms = grid.step.ravel(), dict(grid.atoms)

    def bins(self, part: slice = slice(None), *, powers: bool = False) -> list[TailedBins]:
        """The histogram of every column, from a part of the rows.

        Columns of few cells have tails, and those that one row carries; others, where they are
        `powers` beyond doubt.
        """
        exact, spread = _flat(self._exact[part]).T, _flat(self.spread[part]).T
        found = [
            cells_between_tails(values, step)
            if few_cells(values, step)
            else bins_about(values, self._atoms[i])
            if i in self._atoms
            else tailed_bins(column)
            if powers
            else suited(values, column, step)
            for i, (values, column, step) in enumerate(zip(exact, spread, self._steps, strict=True))
        ]
        return [
            ended(one, column) if i in self._far and not powers else one
            for i, (one, column) in enumerate(zip(found, spread, strict=True))
        ]


def _suited(x: np.ndarray, integers: bool, cells: _Cells) -> str:
    """The kind that `"auto"` is for `x`.

    Columns of every other row are made normal, or standardised, and a normal density of all of
    them together is fitted in either; the rows left out say which is better. Column by column a
    histogram may be ahead where all together it is far behind: it bends linear dependence.
    """
    bending = ("tails" if x.ndim == 2 else "gaussianise") if integers else "histogram"
    if integers and np.ptp(x) >= MOST_LEVELS:
        return "standardise"
    if integers and x.ndim > 2:
        return bending
    fitted, noisy = _flat(x[::2])[:JUDGED], cells.spread
    if integers:
        noisy = x + np.random.default_rng(0).uniform(size=x.shape)
    left_out, dequantised = _flat(noisy[1::2])[:JUDGED], _flat(noisy[::2])[:JUDGED]
    mean, scale = _moments(x[::2][:JUDGED] if integers else dequantised, integers)
    plain = _as_normal(
        (dequantised - mean) / scale, (left_out - mean) / scale, -np.sum(np.log(scale))
    )
    some, dim = slice(None, 2 * JUDGED, 2), left_out.shape[1]

    def judged(bins: list[TailedBins]) -> float:
        (old, _), (new, slopes) = (
            np.stack([b.normal_scores(c) for c, b in zip(rows.T, bins, strict=True)], axis=-1)
            for rows in (dequantised, left_out)
        )
        return _as_normal(old, new, float(np.mean(np.sum(slopes, axis=1)))) - plain

    bins = _of_integers(fitted) if integers else cells.bins(some)
    gain = judged(bins)
    tailed = [] if integers else cells.bins(some, powers=True)
    if _tails(tailed) > _tails(bins):
        heavy = judged(tailed)
        if heavy > max(gain + HEAVIER * dim, FAR_FROM_NORMAL * dim):
            return "tails"
    return bending if gain > FAR_FROM_NORMAL * dim else "standardise"


def _tails(bins: list[TailedBins]) -> int:
    """How many tails these columns have that are not normal."""
    return sum(tail is not None for one in bins for tail in one.tails)


def _as_normal(fitted: np.ndarray, left_out: np.ndarray, log_det: float) -> float:
    """The mean log-density of rows left out; beyond `LARGEST` columns as if they were independent.

    `log_det` is the mean of that of the coordinates that they are.
    """
    if fitted.shape[1] > LARGEST:
        mean, scale = fitted.mean(axis=0), np.maximum(fitted.std(axis=0), 1e-6)
        return float(np.mean(np.sum(norm.logpdf(left_out, mean, scale), axis=1))) + log_det
    return best_normal(fitted, left_out)[1] + log_det


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
        mean=jnp.asarray(np.float32(mean)),
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
    bins = integer_bins(_flat(x))
    tables = _tables(np.stack([shares for _, shares in bins]))
    low = jnp.asarray(bins[0][0][0], jnp.float32)
    return Gaussianise(low=low, **tables, data_shape=x.shape[1:])


def integer_bins(flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Edges and shares of the integers in each column of `flat`, the same edges in all.

    Raises:
        InputError: more than 1,024 levels between the smallest and the largest value.
    """
    flat = flat.astype(np.int64)
    low, levels = int(flat.min()), int(np.ptp(flat)) + 1
    if levels > MOST_LEVELS:
        raise InputError(
            f"integers from {low} to {low + levels - 1} have {levels} levels; expected at most "
            f"{MOST_LEVELS:,} to Gaussianise: use --units standardise"
        )
    counts = np.stack([np.bincount(column - low, minlength=levels) for column in flat.T])
    pooled = counts.sum(axis=0) / counts.sum()
    counts = counts + PSEUDO_COUNTS * (pooled + 1 / levels)
    edges = np.arange(low, low + levels + 1, dtype=float)
    return [(edges, column / column.sum()) for column in counts]


def _of_integers(flat: np.ndarray) -> list[TailedBins]:
    """`integer_bins` between tails."""
    return [between_tails(edges, shares, 1.0) for edges, shares in integer_bins(flat)]


def fit_histogram(x: np.ndarray, cells: _Cells | None = None) -> Histogram | HeavyTailed:
    """The best histograms of the columns of `x` (`[rows, *data_shape]`); cells of few have tails.

    With as many bins as the next power of two, so that programs are compiled for few numbers.
    """
    found = (cells or _Cells(x, None)).bins()
    edges, shares = _alike(found)
    if _tails(found):
        return _between(found, edges, shares, x.shape[1:])
    edges = jnp.asarray(np.stack(edges), jnp.float32)
    return Histogram(edges=edges, **_tables(np.stack(shares)), data_shape=x.shape[1:])


def fit_tails(x: np.ndarray, cells: _Cells | None = None) -> HeavyTailed:
    """Histograms of the columns of `x` (`[rows, *data_shape]`) between their power tails."""
    found = (cells or _Cells(x, None)).bins(powers=True)
    return _between(found, *_alike(found), x.shape[1:])


def fit_integers_between_tails(x: np.ndarray) -> HeavyTailed:
    """As `fit_gaussianise`, the same map between the smallest and the largest integer."""
    found = _of_integers(_flat(x))
    edges, shares = tuple(one.edges for one in found), tuple(one.shares for one in found)
    return _between(found, edges, shares, x.shape[1:])


def _alike(found: list[TailedBins]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Edges and shares of each column, in one number of bins, a power of two."""
    bins = 2 ** (max(FEWEST_BINS, *(len(one.shares) for one in found)) - 1).bit_length()
    edges, shares = zip(*(split_to(one.edges, one.shares, bins) for one in found), strict=True)
    return edges, shares


def _between(
    found: list[TailedBins],
    edges: tuple[np.ndarray, ...],
    shares: tuple[np.ndarray, ...],
    data_shape: tuple[int, ...],
) -> HeavyTailed:
    tails = [[(0.0, 1.0) if t is None else (t.shape, t.scale) for t in one.tails] for one in found]
    shape, scale = np.moveaxis(np.asarray(tails, np.float32), -1, 0)
    return HeavyTailed(
        edges=jnp.asarray(np.stack(edges), jnp.float32),
        **_tables(np.stack(shares), np.array([one.masses for one in found])),
        shape=jnp.asarray(shape),
        scale=jnp.asarray(scale),
        data_shape=data_shape,
    )


def _tables(shares: np.ndarray, beyond: np.ndarray | None = None) -> dict[str, Array]:
    """The tables of a distribution function from the shares (`[dim, bins]`) of the bins.

    `beyond` (`[dim, 2]`) are the masses below and above all of them; by default `TAIL` each.
    """
    lower, upper = (TAIL, TAIL) if beyond is None else beyond.T[..., None]
    mass = (1 - lower - upper) * shares
    cumulated = np.cumsum(mass, axis=1)
    from_above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return {
        "below": jnp.asarray(np.float32(lower + cumulated - mass)),
        "above": jnp.asarray(np.float32(upper + from_above - mass)),
        "mass": jnp.asarray(np.float32(mass)),
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
        mean=jnp.asarray(np.float32(mean)),
        matrix=jnp.asarray(np.float32(matrix)),
        inverse=jnp.asarray(np.float32(inverse)),
        log_det=jnp.asarray(np.float32(np.linalg.slogdet(matrix)[1])),
        data_shape=data_shape,
    )
