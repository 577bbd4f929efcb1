"""The best histogram of a column: few bins, of unequal width, by penalised likelihood.

Among all histograms whose edges are some of several hundred quantiles, the one with the largest

    sum over bins of  N_k log(N_k / T_k)  -  price * bins,

N_k rows in a bin of width T_k: Bayesian blocks (Scargle et al. 2013, arXiv 1207.5578, eq. 19 and
section 2.6's dynamic programme), with the price of a bin at log(rows), half of the Bayesian
information criterion's two parameters. A smooth column gets tens of bins, a rounded one an edge
wherever its density jumps.
"""

import numpy as np
from scipy.stats import norm

from tiltflow.backbones.units.bijections import TAIL

FINE = 400  # quantiles among which the edges are chosen, at most
FEWEST = 10  # rows between two of them, at least
NARROWEST = 1e-4  # bin, as a share of the column's range
MARGIN = 0.1  # width of the outermost bins, as a share of the column's range


def best_bins(
    column: np.ndarray, *, margins: tuple[bool, bool] = (True, True), local: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Edges (`[bins + 1]`, increasing) and shares of the rows (`[bins]`, sum 1, all positive).

    On either side of the data lies one more bin, if there are `margins`, a tenth of their range
    wide, which holds one row: unseen data may go a little beyond those that were seen. The least
    width of a bin is a share of the range, or, where it is `local`, of that of the half of the rows
    about it, and the outermost are no wider than that of the half of the rows beside them.
    """
    column = np.sort(np.asarray(column, np.float64))
    least = 1e-6 * max(abs(column[0]), abs(column[-1])) or 1e-6  # of a constant column
    span = max(column[-1] - column[0], least)
    fine = _quantiles(column, span, local=local)
    counts = np.diff(np.searchsorted(column, fine[1:-1]), prepend=0, append=len(column))
    chosen = _best_edges(fine, counts, price=np.log(len(column)))
    edges = fine[chosen]
    counts = np.add.reduceat(counts, chosen[:-1])
    widths = np.full(2, MARGIN * span)
    if local:
        widths = np.minimum(widths, _ranges(column, np.array([0.0, 1.0]), span))
    below, above = (np.full(int(m), width) for m, width in zip(margins, widths, strict=True))
    edges = np.concatenate([edges[0] - below, edges, edges[-1] + above])
    shares = np.concatenate([np.ones(len(below)), np.maximum(counts, 1.0), np.ones(len(above))])
    return edges, shares / shares.sum()


def cell_bins(column: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges and shares, as `best_bins`, of values on a grid: a bin for each cell [v, v + step).

    Between the first value and the last; all cells together get one row more, in equal shares. The
    outermost bins hold one row each, and a cell at least.
    """
    low, span = float(column.min()), float(np.ptp(column)) + step
    places = np.rint((np.asarray(column, np.float64) - low) / step).astype(np.int64)
    counts = np.bincount(places).astype(float)
    edges = low + step * np.arange(len(counts) + 1)
    margin = max(MARGIN * span, step)
    edges = np.concatenate([[edges[0] - margin], edges, [edges[-1] + margin]])
    shares = np.concatenate([[1.0], counts + 1 / len(counts), [1.0]])
    return edges, shares / shares.sum()


def normal_scores(
    column: np.ndarray, edges: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """y and log dy/dx of each number of `column`, as `units.Histogram` of these bins has them.

    In one look, without a compiled program, which would be another one for each number of rows.
    """
    mass, width = (1 - 2 * TAIL) * shares, np.diff(edges)
    below = TAIL + np.cumsum(mass) - mass
    inside = np.clip(column, edges[0], edges[-1])
    k = np.searchsorted(edges[1:-1], inside, side="right")
    lower = below[k] + (inside - edges[k]) / width[k] * mass[k]
    y = norm.ppf(np.clip(lower, TAIL, 1 - TAIL))
    log_slope = np.log(mass[k] / width[k]) - norm.logpdf(y)
    # Beyond the edges y goes on with the slope that it has there.
    return y + (column - inside) * np.exp(log_slope), log_slope


def log_density(column: np.ndarray, edges: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Of each number of `column`, under the histogram with the linear tails of its units."""
    y, log_slope = normal_scores(column, edges, shares)
    return norm.logpdf(y) + log_slope


def split_to(edges: np.ndarray, shares: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The same histogram in `bins` bins: its heaviest are halved, density and all else equal.

    Not those whose halves float32 could hardly tell apart, as of a value that many rows have.
    """
    narrow = 4 * np.spacing(np.float32(np.max(np.abs(edges))))
    while len(shares) < bins:
        widths = np.diff(edges)
        k = int(np.argmax(np.where(widths >= narrow, 1 + shares, widths / widths.max())))
        edges = np.insert(edges, k + 1, (edges[k] + edges[k + 1]) / 2)
        shares = np.insert(shares, k, shares[k] / 2)
        shares[k + 1] = shares[k]
    return edges, shares


def _quantiles(column: np.ndarray, span: float, *, local: bool) -> np.ndarray:
    """Increasing quantiles of the sorted `column`, from end to end, none too close."""
    number = int(np.clip(len(column) // FEWEST, 1, FINE))
    shares = np.linspace(0, 1, number + 1)[1:-1]
    inner = np.quantile(column, shares)
    low, high = column[0], column[0] + span
    ranges = np.full(len(inner), span)
    ranges = _ranges(column, shares, span) if local else np.full(len(inner), span)
    largest = np.abs(inner) if local else np.full(len(inner), max(abs(low), abs(high)))
    # Closer edges than two steps of float32 might be one.
    apart = np.maximum(NARROWEST * ranges, 2 * np.spacing(largest.astype(np.float32)))
    fine = [low]
    for edge, least in zip(inner, apart, strict=True):
        if edge - fine[-1] >= least and high - edge >= least:
            fine.append(edge)
    return np.array([*fine, high])


def _ranges(column: np.ndarray, shares: np.ndarray, span: float) -> np.ndarray:
    """The range of the half of the sorted `column` about each of its quantiles."""
    first = np.clip(shares - 0.25, 0, 0.5)
    ranges = np.quantile(column, first + 0.5) - np.quantile(column, first)
    return np.where(ranges > 0, ranges, span)


def _best_edges(fine: np.ndarray, counts: np.ndarray, price: float) -> np.ndarray:
    """Indices into `fine`, from first to last, of the edges with the best score."""
    below = np.concatenate([[0], np.cumsum(counts)])
    best, previous = np.zeros(len(fine)), np.zeros(len(fine), int)
    for end in range(1, len(fine)):
        rows = below[end] - below[:end]
        score = rows * np.log(np.maximum(rows, 1) / (fine[end] - fine[:end])) - price
        total = best[:end] + score
        previous[end] = np.argmax(total)
        best[end] = total[previous[end]]
    chosen = [len(fine) - 1]
    while chosen[-1] > 0:
        chosen.append(int(previous[chosen[-1]]))
    return np.array(chosen[::-1])
