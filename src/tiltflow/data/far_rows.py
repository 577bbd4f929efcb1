"""Rows that carry a column: one value so far out that mean and variance are mostly its own.

Of n normal values the farthest has about 2 log(n) / n of the sum of squares; of values without a
variance it keeps a share of it however many there are. Whatever rests on such a column's mean or
deviation, an interval of a mean of log p among them, rests on that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tiltflow.data.checks import column
from tiltflow.data.limits import blocks

SHARE = 0.1
"""Of a column's variance, from which on its farthest row is named."""
NORMAL = 4.0  # times what the farthest of so many normal values has
NAMED = 3  # columns in one sentence


class FarRow(NamedTuple):
    """A row that carries a column.

    Attributes:
        column: its number.
        row: from 0.
        value: what stands there.
        share: of the column's variance, the sum of squared distances from the mean, in (0, 1].
        positive: whether all values of the column are above 0.
    """

    column: int
    row: int
    value: float
    share: float
    positive: bool = True


def far_rows(array: np.ndarray, skipped: np.ndarray | None = None) -> list[FarRow]:
    """The rows of a table `[rows, columns]` that carry a column, the largest share first.

    Args:
        array: of numbers; what is not finite is left out. A file that is mapped is passed over
            twice, block by block.
        skipped: columns not to look at, `[columns]`, such as those on a grid.
    """
    if array.ndim != 2 or not len(array):
        return []
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are refused elsewhere
        return _found(array, np.zeros(array.shape[1], bool) if skipped is None else skipped)


def _found(array: np.ndarray, skipped: np.ndarray) -> list[FarRow]:
    width = array.shape[1]
    number, total = np.zeros(width), np.zeros(width)
    for _, block in blocks(array):
        finite = np.isfinite(block)
        number += finite.sum(axis=0)
        total += np.where(finite, block, 0).sum(axis=0, dtype=np.float64)
    mean = total / np.maximum(number, 1)
    least_value = np.full(width, np.inf)
    squares, farthest, row = np.zeros(width), np.full(width, -1.0), np.zeros(width, np.int64)
    for start, block in blocks(array):
        finite = np.isfinite(block)
        least_value = np.minimum(least_value, np.where(finite, block, np.inf).min(axis=0))
        away = np.where(finite, block - mean, 0.0) ** 2
        squares += away.sum(axis=0)
        here = away.argmax(axis=0)
        far = away[here, np.arange(width)]
        new = far > farthest
        row[new], farthest[new] = start + here[new], far[new]
    share = farthest / np.where(squares > 0, squares, np.inf)
    least = np.maximum(SHARE, NORMAL * 2 * np.log(np.maximum(number, 2)) / np.maximum(number, 1))
    found = [
        FarRow(
            int(i), int(row[i]), float(array[row[i], i]), float(share[i]), bool(least_value[i] > 0)
        )
        for i in np.flatnonzero(share >= least)
        if not skipped[i]
    ]
    return sorted(found, key=lambda far: -far.share)


def of_far_rows(found: Sequence[FarRow], columns: tuple[str, ...] | None) -> str:
    """A sentence on them; empty if there are none."""
    if not found:
        return ""
    words = [
        f"row {far.row} carries {column((far.column,), columns)} ({far.value:g} is "
        f"{far.share:.0%} of its variance)"
        for far in found[:NAMED]
    ]
    more = f", and {len(found) - NAMED} columns more" if len(found) > NAMED else ""
    bent = (
        "take logarithms of the column"
        if all(far.positive for far in found)
        else "bend the column, as arcsinh(x / its usual size) does"
    )
    return (
        f"{'; '.join(words)}{more}: means, and their intervals, rest on so few rows; look whether "
        f"they are mistakes, or {bent}"
    )
