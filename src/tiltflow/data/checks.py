"""What an array must be before anything is learned from it, and whether its values are integers."""

from __future__ import annotations

import numpy as np

from tiltflow.errors import InputError

FEWEST_ROWS = 20
MOST_LEVELS = 256
LARGEST_INTEGER = 2**16
"""Beyond it float32 has fewer than 2^7 values in a bin of width 1: too few for uniform noise."""


def checked(
    array: np.ndarray,
    where: str,
    *,
    columns: tuple[str, ...] | None = None,
    integers: bool | None = None,
    fewest: int = FEWEST_ROWS,
) -> tuple[np.ndarray, bool]:
    """The values as float32, and whether they are integers.

    Args:
        array: `[rows, *event_shape]`, boolean, integer or floating.
        where: the source, for messages.
        columns: names for messages, one a column; only for an event shape with one axis.
        integers: the user's word; None to judge by dtype and values.
        fewest: rows there must be.

    Raises:
        InputError: fewer rows; NaN, infinite or too large values; a constant column in
            continuous data; `integers=True` for values that are not integers of magnitude at
            most 65,536.
    """
    if len(array) < fewest:
        raise InputError(
            f"{where} has {len(array)} rows; expected at least {fewest}, so that training, "
            f"validation and test data can be split off: bring more data"
        )
    values = _single_precision(array, where, columns)
    fractional = _not_integers(array, values)
    if integers is None:
        countable = array.dtype.kind in "biu"
        integers = not fractional.any() and (countable or _levels(values) <= MOST_LEVELS)
    elif integers and fractional.any():
        raise InputError(
            f"{where} holds {array[fractional][0]:g} at {_first(fractional, columns)}; expected "
            f"integers of magnitude at most {LARGEST_INTEGER:,}: treat the data as continuous"
        )
    if not integers:
        _refuse_constant(values, where, columns)
    return values, integers


def _single_precision(array: np.ndarray, where: str, columns: tuple[str, ...] | None) -> np.ndarray:
    """The array as float32, every value finite before and after."""
    bad = ~np.isfinite(array)
    if bad.any():
        rows = int(bad.reshape(len(bad), -1).any(axis=1).sum())
        raise InputError(
            f"{where} has NaN or infinite values in {rows} of {len(array)} rows, first at "
            f"{_first(bad, columns)}; expected finite numbers: fill them in or drop the rows"
        )
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32, order="C")
    bad = np.isinf(values)
    if bad.any():
        raise InputError(
            f"{where} holds {array[bad][0]:g} at {_first(bad, columns)}; expected magnitudes "
            f"below 3.4e38, float32's largest: rescale the data"
        )
    return values


def _not_integers(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where the array, or its float32 `values`, cannot be given bins of width 1."""
    return (array != np.rint(array)) | (np.abs(values) > LARGEST_INTEGER)


def _levels(values: np.ndarray) -> int:
    """The number of distinct values of small integers, counted rather than sorted."""
    offsets = (values - values.min()).astype(np.int64)
    return int(np.count_nonzero(np.bincount(offsets.ravel())))


def _refuse_constant(values: np.ndarray, where: str, columns: tuple[str, ...] | None) -> None:
    constant = values.max(axis=0) == values.min(axis=0)
    if constant.any():
        position = _position(constant)
        raise InputError(
            f"{where}: {_column(position, columns)} is constant, {values[0][position]:g} in every "
            f"row as float32 (constant in all: {constant.sum()} of {constant.size} columns); a "
            f"density needs columns that vary: drop it"
        )


def _first(bad: np.ndarray, columns: tuple[str, ...] | None) -> str:
    """Where the first True of `[rows, *event_shape]` is; rows are counted from 0."""
    row, *position = _position(bad)
    return f"row {row}, {_column(tuple(position), columns)}"


def _position(mask: np.ndarray) -> tuple[int, ...]:
    """The indices of the first True."""
    return tuple(int(i) for i in np.unravel_index(np.argmax(mask), mask.shape))


def _column(position: tuple[int, ...], columns: tuple[str, ...] | None) -> str:
    if len(position) == 1:
        return f"column '{columns[position[0]]}'" if columns else f"column {position[0]}"
    return f"entry {position}"
