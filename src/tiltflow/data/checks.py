"""What an array must be before anything is learned from it, and whether its values are integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tiltflow.data import limits
from tiltflow.data.dataset import Dataset
from tiltflow.data.grids import Grid, grid_of
from tiltflow.data.kinds import Kind, resolved
from tiltflow.data.scan import LARGEST_INTEGER, Place, Scan, scan
from tiltflow.errors import InputError

FEWEST_ROWS = 20
FEWEST_SCORED = 2  # a mean with an error
MOST_LEVELS = 256


def enough(rows: int, where: str, *, to_score: bool = False) -> None:
    """Raise InputError if there are too few rows to learn from, or to be scored by a model."""
    if to_score and rows < FEWEST_SCORED:
        raise InputError(
            f"{where} has {rows} rows; expected at least {FEWEST_SCORED}, for a mean with its error"
        )
    if not to_score and rows < FEWEST_ROWS:
        raise InputError(
            f"{where} has {rows} rows; expected at least {FEWEST_ROWS}, so that training, "
            f"validation and test data can be split off: bring more data"
        )


def checked(
    array: np.ndarray,
    where: str,
    *,
    columns: tuple[str, ...] | None = None,
    integers: bool | None = None,
    constant: bool = False,
) -> tuple[np.ndarray, bool]:
    """The values as float32, and whether they are integers.

    A `numpy.memmap` is passed over once, block by block, and returned as it is.

    Args:
        array: `[rows, *event_shape]`, boolean, integer or floating.
        where: the source, for messages.
        columns: names for messages, one a column; only for an event shape with one axis.
        integers: the user's word; None to judge by dtype and values.
        constant: whether a column of continuous data may have one value only.

    Raises:
        InputError: NaN, infinite or too large values; a constant column, if it may not be, or
            one whose values float32 cannot tell apart; `integers=True` for values that are not
            integers of magnitude at most 65,536.
    """
    return looked_at(array, where, columns=columns, integers=integers, constant=constant)[:2]


def looked_at(
    array: np.ndarray,
    where: str,
    *,
    columns: tuple[str, ...] | None = None,
    integers: bool | None = None,
    constant: bool = False,
    asked: Mapping[str, Kind] | None = None,
    texts: Mapping[int, tuple[str, ...]] | None = None,
    apart: bool = False,
    few: bool = True,
) -> tuple[np.ndarray, bool, Grid | None]:
    """`checked`, and the grid that columns of other values lie on, unless the user has said.

    A number on a grid may be the same in every row. `asked`, `texts` and `apart` are as in
    `kinds.resolved`; `few`: whether few numbers on no grid make a category.
    """
    if isinstance(array, np.memmap):
        values, seen = array, scan(array)
    else:
        limits.refuse_size(array.size, where)
        values = np.empty(array.shape, np.float32)
        seen = scan(array, values)
    are_integers = judged(
        seen, len(array), array.dtype, where, columns=columns, integers=integers, constant=True
    )
    grid = grid_of(values) if integers is None and not are_integers else None
    are_integers, grid = resolved(
        values,
        where,
        integers=are_integers,
        grid=grid,
        columns=columns,
        asked=asked or {},
        texts=texts or {},
        alone=few and integers is None,
        apart=apart,
    )
    if not (are_integers or constant):
        refuse_unfit(seen, where, columns, grid)
    return values, are_integers, grid


def refuse_unfit(
    seen: Scan, where: str, columns: tuple[str, ...] | None, grid: Grid | None
) -> None:
    """Raise InputError for a column that is constant, or too coarse for float32, and on no grid."""
    cells = np.zeros(seen.low.shape, bool) if grid is None else grid.cells
    _refuse_constant(seen, where, columns, cells)
    _refuse_coarse(seen, where, columns, cells)


def judged(
    seen: Scan,
    rows: int,
    dtype: np.dtype,
    where: str,
    *,
    columns: tuple[str, ...] | None = None,
    integers: bool | None = None,
    constant: bool = False,
) -> bool:
    """Whether the values that were seen are integers; raises InputError as `checked`.

    `constant` columns may be.
    """
    if seen.bad is not None:
        raise InputError(
            f"{where} has NaN or infinite values in {seen.bad_rows} of {rows} rows, first at "
            f"{place(seen.bad, columns)}; expected finite numbers: fill them in or drop the rows"
        )
    if seen.huge is not None:
        raise InputError(
            f"{where} holds {seen.huge.value:g} at {place(seen.huge, columns)}; expected "
            f"magnitudes below 3.4e38, float32's largest: rescale the data"
        )
    if integers is None:
        countable = dtype.kind in "biu"
        integers = seen.fractional is None and (countable or seen.levels <= MOST_LEVELS)
    elif integers and seen.fractional is not None:
        raise InputError(
            f"{where} holds {seen.fractional.value:g} at {place(seen.fractional, columns)}; "
            f"expected integers of magnitude at most {LARGEST_INTEGER:,}: treat the data as "
            f"continuous"
        )
    if not (integers or constant):
        refuse_unfit(seen, where, columns, None)
    return integers


def refuse_constant_in_training(data: Dataset, train: np.ndarray) -> None:
    """Raise InputError if a column of continuous `data` varies, but not among its rows `train`.

    What is fitted to those rows would have no width there, and its density no bound.
    """
    if data.integers:
        return
    values = np.asarray(data.values[np.sort(train)], np.float32)
    low, high = values.min(axis=0), values.max(axis=0)
    constant = low == high
    if data.grid is not None:
        constant &= ~data.grid.cells
    if not constant.any():
        return
    position = tuple(int(i) for i in np.argwhere(constant)[0])
    others = np.flatnonzero(np.asarray(data.values[(slice(None), *position)]) != low[position])
    raise InputError(
        f"{data.name}: {column(position, data.columns)} is {low[position] + 0.0:g} in all "
        f"{len(train)} rows that are learned from (another value first in row {others[0]}; such "
        f"columns in all: {constant.sum()} of {constant.size}); a density needs columns that vary: "
        f"drop it, or split the rows otherwise"
    )


def _refuse_constant(
    seen: Scan, where: str, columns: tuple[str, ...] | None, cells: np.ndarray
) -> None:
    if np.all(seen.constant):
        raise InputError(f"{where}: nothing varies; expected a column with more than one value")
    constant = seen.constant & ~cells
    if constant.any():
        position = tuple(int(i) for i in np.argwhere(constant)[0])
        value = seen.low[position] + 0.0  # which of 0 and -0 is smaller is the machine's choice
        raise InputError(
            f"{where}: {column(position, columns)} is constant, {value:g} in every "
            f"row as float32 (constant in all: {constant.sum()} of {constant.size} columns); a "
            f"density needs columns that vary: drop it{_kept(position, columns)}"
        )


def _kept(position: tuple[int, ...], columns: tuple[str, ...] | None) -> str:
    """How a constant column of a table may be kept."""
    if len(position) != 1:
        return ""
    name = (columns[position[0]] if columns else "") or str(position[0])
    return f", or keep it as a label (--column '{name:.60}=category')"


def _refuse_coarse(
    seen: Scan, where: str, columns: tuple[str, ...] | None, cells: np.ndarray
) -> None:
    coarse = seen.coarse & ~cells
    if coarse.any():
        position = tuple(int(i) for i in np.argwhere(coarse)[0])
        low, high, step = (x[position] for x in (seen.low, seen.high, seen.steps))
        raise InputError(
            f"{where}: {column(position, columns)} holds values of {low:.9g} to {high:.9g}, which "
            f"float32 has only in steps of {step:g} (too coarse in all: {coarse.sum()} of "
            f"{coarse.size} columns); expected a range of many steps: subtract an offset, such as "
            f"the smallest value"
        )


def place(where: Place, columns: tuple[str, ...] | None) -> str:
    """A place in words; rows are counted from 0."""
    return f"row {where.row}, {column(where.position, columns)}"


def column(position: tuple[int, ...], columns: tuple[str, ...] | None) -> str:
    """A column in words, by its name where it has one."""
    if len(position) == 1:
        name = columns[position[0]] if columns else ""
        return f"column '{name:.60}'" if name else f"column {position[0]}"
    return f"entry {position}"
