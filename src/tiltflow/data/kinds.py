"""Kinds of columns: continuous, on a grid, or a category; as the data say, or as somebody does.

A score is the log of the mass of a row's cells times the density of its continuous columns, so that
what each column is taken for says what scores are, and which can be held against one another.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tiltflow.data.atoms import atoms_of, set_apart, some_rows
from tiltflow.data.categories import MOST_ASKED, MOST_LEVELS, Levels, levels_of_numbers
from tiltflow.data.grids import Grid, step_of
from tiltflow.data.limits import blocks
from tiltflow.errors import InputError

CONTINUOUS, GRID, CATEGORY = "continuous", "grid", "category"
KEEP, SEPARATE = "keep", "separate"
ROWS_OF_A_LEVEL = 10  # on average, of a column of few numbers on no grid
EXPECTED = f"expected {CONTINUOUS}, {GRID}, {GRID}:STEP (as {GRID}:0.05) or {CATEGORY}"


class Kind(NamedTuple):
    """What a column is to be taken for.

    Attributes:
        name: `"continuous"`, `"grid"` or `"category"`.
        step: of a grid; None: as it is found.
    """

    name: str
    step: float | None = None


Asked = Mapping[str, Kind]
"""Kinds by the names of columns; one without a name goes by its number, from 0."""


def asked_kinds(columns: Mapping[str, Any] | None) -> dict[str, Kind]:
    """Kinds as somebody says them, `{"city": "category", "price": "grid:0.05"}`.

    Raises:
        InputError: one that is no kind.
    """
    if not isinstance(columns, Mapping | None):
        raise InputError(
            f"the kinds of columns are {columns!r:.60}; expected one by each name, as "
            f"{{'city': '{CATEGORY}'}}"
        )
    return {str(name): _kind(str(name), words) for name, words in (columns or {}).items()}


def are_apart(atoms: Any) -> bool:
    """Whether atoms are set apart; InputError for what is no word on that."""
    if atoms not in (KEEP, SEPARATE):
        raise InputError(f"atoms is {atoms!r:.60}; expected {KEEP} or {SEPARATE}")
    return atoms == SEPARATE


def _kind(name: str, words: Any) -> Kind:
    kind, colon, step = str(words).partition(":")
    if not colon and kind in (CONTINUOUS, GRID, CATEGORY):
        return Kind(kind)
    try:
        number = float(step)
    except ValueError:
        number = math.nan
    if kind != GRID or not 0 < number < math.inf:
        raise InputError(f"column '{name:.60}' is to be {words!r:.60}; {EXPECTED}")
    return Kind(kind, number)


def resolved(
    values: np.ndarray,
    where: str,
    *,
    integers: bool,
    grid: Grid | None,
    columns: tuple[str, ...] | None,
    asked: Asked,
    texts: Mapping[int, tuple[str, ...]],
    alone: bool = True,
    apart: bool = False,
) -> tuple[bool, Grid | None]:
    """Whether all values are integers, and the grid, after somebody's word and with categories.

    The few numbers of a column that lie on no grid have a cell each, too, in their order.

    Args:
        values: `[rows, *event_shape]`, finite.
        where: the source, for messages.
        integers, grid: what the data say by themselves.
        columns: names of the columns of a table.
        asked: by these names; others are what the data say.
        texts: labels of columns of text; of a category of numbers by its type, none.
        alone: whether a column that nobody has spoken of may be told by its values.
        apart: whether atoms of continuous columns are set apart.

    Raises:
        InputError: a column that is not there, or cannot be what it is to be.
    """
    shape = values.shape[1:]
    if len(shape) != 1 and (asked or apart):
        raise InputError(
            f"{where} has rows of shape {shape}, and columns are given kinds, or atoms are to be "
            f"set apart; expected a table: leave that out"
        )
    if len(shape) != 1 or (integers and not (asked or texts)):
        return integers, grid
    names = [name or str(i) for i, name in enumerate(columns or [""] * shape[0])]
    _refuse_unknown(asked, names, where)
    step = np.full(shape, float(integers), np.float32) if grid is None else grid.step.copy()
    origin = np.zeros(shape, np.float32) if grid is None else grid.origin.copy()
    levels, atoms = {}, {}
    for i, name in enumerate(names):
        kind, labels = asked.get(name), texts.get(i)
        if kind is None and labels is None:
            if alone and not step[i] and (few := _few(values[:, i])) is not None:
                levels[i], step[i], origin[i] = few, 1, 0
            continue
        at = f"{where}, column '{name:.60}'"
        if labels and kind is not None and kind.name != CATEGORY:
            raise InputError(
                f"{at} holds text and is to be {kind.name}; expected numbers: make it a category, "
                f"or leave it out"
            )
        if labels is not None or kind == Kind(CATEGORY):
            levels[i] = _levels(values[:, i], labels, at, asked=kind is not None)
            step[i], origin[i] = 1, 0
        elif kind == Kind(CONTINUOUS):
            step[i] = 0
        else:
            assert kind is not None
            step[i], origin[i] = _step(values[:, i], kind.step, at)
    for i in np.flatnonzero(step == 0) if apart else ():
        if shared := atoms_of(some_rows(values[:, i])):
            atoms[int(i)] = set_apart(np.asarray(some_rows(values[:, i]), np.float32), shared)
    found = Grid(step, origin, levels, atoms)
    return False, found if found.cells.any() or atoms else None


def _few(column: np.ndarray) -> Levels | None:
    """The numbers of a column, if they are few and come back; None: they do not."""
    some = np.asarray(some_rows(column), np.float32)
    number = len(np.unique(some))
    if not 1 < number <= min(MOST_LEVELS, len(some) // ROWS_OF_A_LEVEL):
        return None
    levels = levels_of_numbers(column, ordered=True)
    return levels if len(levels) <= MOST_LEVELS else None


def _refuse_unknown(asked: Asked, names: list[str], where: str) -> None:
    for name in asked:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            there = close[0] if close else ", ".join(names[:5]) + (", ..." * (len(names) > 5))
            words = f"did you mean '{there:.60}'?" if close else f"expected one of {there:.200}"
            raise InputError(f"{where} has no column '{name:.60}', that is given a kind; {words}")


def _levels(column: np.ndarray, labels: tuple[str, ...] | None, at: str, *, asked: bool) -> Levels:
    levels = Levels(labels) if labels else levels_of_numbers(np.asarray(column, np.float32))
    most = MOST_ASKED if asked else MOST_LEVELS
    if len(levels) > most:
        what = "text" if labels else "numbers"
        beside = "" if asked or len(levels) > MOST_ASKED else ", or say that it is a category"
        raise InputError(
            f"{at} holds {what} with {len(levels):,} different values ({levels.told()}); expected "
            f"at most {most} of a category: leave it out, or put rare ones together{beside}"
        )
    return levels


def _step(column: np.ndarray, step: float | None, at: str) -> tuple[float, float]:
    """Step and origin of a column that somebody says is on a grid."""
    origin = float(column.min())
    if step is None:
        step = step_of(np.unique(np.asarray(column, np.float64)), sure=True)
        if step is None:
            raise InputError(
                f"{at} is to be on a grid, and none is found in it; expected values that are "
                f"multiples of a step apart: say which, as {GRID}:0.05, or leave it continuous"
            )
    one = Grid(np.array([step], np.float32), np.array([origin], np.float32))
    for start, block in blocks(column[:, None]):
        off = one.is_off(np.asarray(block, np.float32))[:, 0]
        if off.any():
            row = int(np.argmax(off))
            raise InputError(
                f"{at}, row {start + row} holds {float(block[row, 0]):g}, which is no multiple of "
                f"{step:g} away from {origin:g}; expected values on a grid of that step"
            )
    return step, origin


def kinds_of(shape: tuple[int, ...], integers: bool, grid: Grid | None) -> list[str] | str:
    """What each column of a table is taken for, in a few words; of images, all their numbers.

    Scores of data of one shape can be held against each other where these are the same.
    """
    if integers:
        grid = Grid(np.ones(shape, np.float32), np.zeros(shape, np.float32))
    each = [CONTINUOUS] * math.prod(shape) if grid is None else grid.kinds()
    if len(shape) == 1:
        return each
    return each[0] if len(set(each)) == 1 else "mixed"
