"""Which rows belong together, and errors that know it.

Draws of one chain resemble each other, so that they tell less than as many independent rows; but
chains are independent of each other. So whole chains, and not rows, are what is cut into parts and
resampled, and their sums are what tells the error of a mean. Where no groups are given each row is
one of its own, and all of this is what is done with independent rows.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from tiltflow.errors import InputError

FEWEST = 4
"""Groups: enough for two parts with two of them each."""


def numbered(groups: ArrayLike | None, rows: int) -> Int[np.ndarray, " rows"]:
    """The group of each of so many rows, numbered in the order in which groups come up.

    Args:
        groups: integers, one for each row; None: each row is a group of its own.
        rows: how many.

    Raises:
        InputError: not one integer for each row, or fewer than 4 groups.
    """
    if groups is None:
        return np.arange(rows)
    groups = np.asarray(groups)
    if groups.shape != (rows,) or not np.issubdtype(groups.dtype, np.integer):
        raise InputError(
            f"groups are {groups.dtype} of shape {groups.shape} for {rows} rows; expected an "
            f"integer for each row: its chain"
        )
    _, first, of_rows = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < FEWEST:
        raise InputError(
            f"{len(first)} groups of rows; expected at least {FEWEST}: draw more chains"
        )
    return np.argsort(np.argsort(first))[of_rows]


def number_of(of_rows: Int[np.ndarray, " rows"]) -> int:
    """How many groups there are."""
    return int(of_rows.max()) + 1


def part(of_rows: Int[np.ndarray, " rows"], i: int, parts: int) -> Bool[np.ndarray, " rows"]:
    """The rows of every `parts`-th group, from group `i` on."""
    return of_rows % parts == i


def resampled(
    of_rows: Int[np.ndarray, " rows"], rng: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """The rows of as many groups, drawn with replacement."""
    number = number_of(of_rows)
    times = np.bincount(rng.integers(number, size=number), minlength=number)
    return np.repeat(np.arange(len(of_rows)), times[of_rows])


def mean_error(
    values: Float[np.ndarray, "rows ..."], of_rows: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " ..."]:
    """The standard error of the mean over rows, from what each group adds to it."""
    number = number_of(of_rows)
    sums = np.zeros((number, *values.shape[1:]))
    np.add.at(sums, of_rows, values - values.mean(axis=0))
    return np.sqrt((sums**2).sum(axis=0) * number / (number - 1)) / len(values)


def share_error(
    inside: Bool[np.ndarray, "rows classes"], of_rows: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " classes"]:
    """The standard error of the share of rows inside each class.

    A class that no row is in, or every row, would have none. So an error is at least that of a
    share of half a row, where rows are counted as independent ones: as many as would give all
    classes together the errors that they have.
    """
    errors, shares = mean_error(inside, of_rows), inside.mean(axis=0)
    variance, independent = (errors**2).sum(), (shares * (1 - shares)).sum()
    fewest = number_of(of_rows)
    rows = np.clip(independent / variance, fewest, len(inside)) if variance > 0 else fewest
    half = 0.5 / rows
    return np.maximum(errors, np.sqrt(half * (1 - half) / rows))
