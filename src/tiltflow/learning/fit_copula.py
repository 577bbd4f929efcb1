"""A copula of columns in cells: labels are put into an order, and correlations are the rows' own.

In one look, without a step of learning: what a few hundred steps add is a hundredth of a nat.
"""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from tiltflow.backbones.cells import NONE, Cells, FoundCells
from tiltflow.backbones.copula import CopulaDensity, OrderedCells, at_rows
from tiltflow.learning.gaussian_start import coordinates_of
from tiltflow.learning.rows import Rows

ROWS = 20_000  # that are looked at
RIDGE = 0.01  # of the variances of what tells labels apart


def fit_copula(
    train: Rows, cells: FoundCells, labels: Collection[int], *, key: PRNGKeyArray
) -> CopulaDensity:
    """The copula of rows.

    Args:
        train: rows, in their units.
        cells: of the columns that have some.
        labels: the numbers of those without an order.
        key: of the noise of rows.
    """
    y = coordinates_of(train, key, most=ROWS, draws=1)
    places = np.concatenate([cells.of_many, cells.of_few]).astype(int)
    free, together = np.setdiff1d(np.arange(y.shape[1]), places), in_one_table(cells)
    ends, middle = (np.asarray(x, np.float64) for x in (together.ends, together.middle))
    levels = [
        np.searchsorted(row, y[:, i], side="right") for row, i in zip(ends, places, strict=True)
    ]
    told = [
        np.eye(int(level.max()) + 1)[level][:, np.unique(level)[1:]]
        if i in labels
        else row[level][:, None]
        for i, level, row in zip(places, levels, middle, strict=True)
    ]
    orders = []
    for place, (i, level) in enumerate(zip(places, levels, strict=True)):
        others = [y[:, free], *told[:place], *told[place + 1 :]]
        number = int(np.sum(ends[place] < NONE / 2)) - 1
        order = in_order(np.concatenate(others, axis=1), level) if i in labels else None
        orders.append(None if order is None else _whole(order, number))
    latent = OrderedCells.of_orders(together, orders)
    return at_rows(y, len(free), latent, np.concatenate([free, places]))


def in_one_table(cells: FoundCells) -> Cells:
    """All columns in cells, those of many first."""
    rows = [row for some in (cells.many, cells.few) for row in np.asarray(some.ends, np.float64)]
    return Cells.between([row[row < NONE / 2] for row in rows])


def in_order(
    known: Float[np.ndarray, "rows numbers"], level: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " levels"]:
    """The levels of a column, those with alike rows beside one another.

    By the means of other columns along the first discriminant direction (Fisher 1936): of a normal
    number that was cut in pieces, they follow one another as the pieces do.
    """
    values, which, counts = np.unique(level, return_inverse=True, return_counts=True)
    if len(values) < 3 or not known.shape[1]:
        return values
    centred = known - known.mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    covariance += RIDGE * np.diag(np.diag(covariance) + 1e-6)
    white = np.linalg.solve(np.linalg.cholesky(covariance), centred.T).T
    means = np.stack([white[which == k].mean(axis=0) for k in range(len(values))])
    left = np.linalg.svd(np.sqrt(counts)[:, None] * means, full_matrices=False)[0]
    return values[np.argsort(left[:, 0] / np.sqrt(counts))]


def _whole(order: np.ndarray, number: int) -> np.ndarray:
    """The levels 1 to `number`; those that no row has come last."""
    order = order[(order >= 1) & (order <= number)]
    return np.concatenate([order, np.setdiff1d(np.arange(1, number + 1), order)]).astype(int)
