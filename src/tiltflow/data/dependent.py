"""Columns that are a linear function of others, exactly: on such a plane a density is infinite.

They are found one after the other, from left to right: what is left of a column, once the columns
before it that are no such functions have told what they can, is nothing but rounding. Integers and
values on a grid have the noise of their cells, so that a plane of them alone does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tiltflow.data.checks import column
from tiltflow.data.dataset import Dataset
from tiltflow.data.grids import Grid
from tiltflow.data.limits import blocks
from tiltflow.errors import InputError

LOOKED_AT = 5_000  # rows in which a plane is looked for; all others then have to lie in it, too
MOST_COLUMNS = 512  # wider tables are not searched
EXACT = 1e-5  # of a column's deviation, beside float32's rounding
ROUNDING = 4.0  # times float32's steps at the largest values
COUNTED = 1e-4  # of the largest slope, in deviations: smaller ones are none
NAMED = 6  # terms, of a function in words
ADVICE = (
    ": there is no density on such a plane; leave it out, or pass --drop-dependent "
    "(tiltflow.data.without_dependent), which leaves it out and computes it in draws"
)


class Dependence(NamedTuple):
    """A column that is `intercept` + slopes . (columns `of`).

    Attributes:
        column: its number.
        of: the numbers of the others, which are no functions of one another.
        slopes: one for each of them.
        intercept: in the column's own units.
    """

    column: int
    of: tuple[int, ...]
    slopes: tuple[float, ...]
    intercept: float

    def told(self, names: Sequence[str] | None) -> str:
        """Which column is a linear function of which."""
        of = [column((i,), tuple(names) if names else None) for i in self.of]
        some = ", ".join(of[:NAMED]) + (", ..." if len(of) > NAMED else "")
        return f"{column((self.column,), tuple(names) if names else None)} is " + (
            f"a linear function of {some}"
        )

    def formula(self, names: Sequence[str] | None) -> str:
        """Its terms, such as `2 a - 0.5 b + 3`."""
        if len(self.of) > NAMED:
            return ""
        words = "".join(
            f" {'-' if slope < 0 else '+'} {abs(slope):.6g} {names[i] if names else f'x{i}'}"
            for i, slope in zip(self.of, self.slopes, strict=True)
        )
        largest = max(map(abs, self.slopes))
        if abs(self.intercept) > 1e-6 * largest:
            words += f" {'-' if self.intercept < 0 else '+'} {abs(self.intercept):.6g}"
        return words.strip().removeprefix("+ ")


def dependences(
    values: Float[np.ndarray, "rows columns"],
    cells: Bool[np.ndarray, " columns"] | None = None,
    skipped: Bool[np.ndarray, " columns"] | None = None,
) -> list[Dependence]:
    """Columns that are linear functions of columns before them, in all rows.

    None can be told of a table that has hardly more rows than columns, or of more columns than
    `MOST_COLUMNS`.

    Args:
        values: finite.
        cells: which columns stand for cells: planes of them alone do not count.
        skipped: columns not to look at, such as categories.
    """
    rows, width = values.shape
    if width > MOST_COLUMNS or rows <= width + 1:
        return []
    some = np.asarray(values[:: max(1, rows // LOOKED_AT)], np.float64)
    centre, scale = some.mean(axis=0), some.std(axis=0)
    step = ROUNDING * np.finfo(np.float32).eps * np.abs(some).max(axis=0)
    z = (some - centre) / np.where(scale > 0, scale, 1.0)
    cells = np.zeros(width, bool) if cells is None else cells
    basis, free, found = np.zeros((len(some), width)), list[int](), list[Dependence]()
    seen = scale > 0 if skipped is None else (scale > 0) & ~skipped
    for place in np.flatnonzero(seen):
        q = basis[:, : len(free)]
        left = z[:, place] - q @ (q.T @ z[:, place])
        left -= q @ (q.T @ left)
        size = float(np.linalg.norm(left)) / math.sqrt(len(some))
        if free and size < EXACT + step[place] / scale[place]:
            one = _function(some, z, scale, centre, int(place), free)
            if not cells[[place, *one.of]].all() and _holds(values, one, step):
                found.append(one)
            continue  # it has no direction of its own
        basis[:, len(free)] = left / np.linalg.norm(left)
        free.append(int(place))
    return found


def _function(
    some: np.ndarray,
    z: np.ndarray,
    scale: np.ndarray,
    centre: np.ndarray,
    place: int,
    free: list[int],
) -> Dependence:
    """The function of columns that are `free`, without those of which it hardly depends."""
    slopes = np.linalg.lstsq(z[:, free], z[:, place], rcond=None)[0]
    of = [i for i, s in zip(free, slopes, strict=True) if abs(s) > COUNTED * np.abs(slopes).max()]
    slopes = np.linalg.lstsq(z[:, of], z[:, place], rcond=None)[0] * scale[place] / scale[of]
    intercept = centre[place] - float(slopes @ centre[of])
    return Dependence(place, tuple(of), tuple(map(float, slopes)), float(intercept))


def _holds(values: np.ndarray, one: Dependence, step: np.ndarray) -> bool:
    """Whether all rows lie in the plane, but for rounding."""
    of, slopes = list(one.of), np.asarray(one.slopes)
    spread = float(np.std(np.asarray(values[:LOOKED_AT, one.column], np.float64)))
    most = 10 * (EXACT * spread + step[one.column] + float(np.abs(slopes) @ step[of]))
    for _, block in blocks(values):
        block = np.asarray(block, np.float64)
        off = block[:, one.column] - block[:, of] @ slopes - one.intercept
        if not np.all(np.abs(off) <= most):
            return False
    return True


def of_data(data: Dataset, index: np.ndarray | None = None) -> list[Dependence]:
    """The dependences that leave a data set without a density; of its rows `index`, if given."""
    if data.integers or len(data.shape) != 1:
        return []
    values = data.values if index is None else data.values[np.sort(index)]
    return dependences(values, *_of_grid(data.grid))


def _of_grid(grid: Grid | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Which columns stand for cells, and which are categories."""
    return (None, None) if grid is None else (grid.cells, grid.categories)


def refuse_dependent(data: Dataset, train: np.ndarray) -> None:
    """Raise InputError if a column is a linear function of others among the rows `train`."""
    found = of_data(data, train)
    if found:
        words = (
            f"{of_dependences(found, data.columns)} in all {len(train)} rows that are learned from"
        )
        raise InputError(f"{data.name}: {words}{ADVICE}")


def of_dependences(found: Sequence[Dependence], names: Sequence[str] | None) -> str:
    """Which columns are functions of which, in words."""
    formula = found[0].formula(names)
    more = f" (such columns in all: {len(found)})" if len(found) > 1 else ""
    return found[0].told(names) + (f", {formula}" if formula else "") + more


def of_few_rows(rows: int, width: int) -> str:
    """What to know where fewer rows are learned from than they have numbers; else nothing."""
    if rows > width:
        return ""
    return (
        f"{rows:,} rows to learn from have {width:,} numbers each: no more rows than numbers; how "
        f"these depend on one another is mostly guessed: bring more rows, or leave out columns"
    )


@dataclass(frozen=True)
class Dropped:
    """Columns that were left out because they are functions of the others.

    Attributes:
        width: columns of a whole row.
        columns: their names, or None.
        dependences: those that were left out, by their places in a whole row.
    """

    width: int
    columns: tuple[str, ...] | None
    dependences: tuple[Dependence, ...]

    @property
    def kept(self) -> list[int]:
        """The places of the columns that were not left out."""
        out = {one.column for one in self.dependences}
        return [i for i in range(self.width) if i not in out]

    def whole(self, x: Float[np.ndarray, "... kept"]) -> Float[np.ndarray, "... width"]:
        """Rows with the columns that were left out, computed from the others."""
        rows = np.empty((*x.shape[:-1], self.width), x.dtype)
        rows[..., self.kept] = x
        for one in self.dependences:
            exact = np.asarray(rows[..., list(one.of)], np.float64) @ np.asarray(one.slopes)
            rows[..., one.column] = exact + one.intercept
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "width": self.width,
            "columns": None if self.columns is None else list(self.columns),
            "dependences": [
                [one.column, list(one.of), list(one.slopes), one.intercept]
                for one in self.dependences
            ],
        }

    @classmethod
    def from_dict(cls, told: Any, kept: int) -> Dropped:
        """From what `to_dict` gave; KeyError, TypeError or ValueError for anything else."""
        found = tuple(
            Dependence(int(place), tuple(map(int, of)), tuple(map(float, slopes)), float(intercept))
            for place, of, slopes, intercept in told["dependences"]
        )
        names = told["columns"]
        made = cls(int(told["width"]), None if names is None else tuple(map(str, names)), found)
        places = {i for one in found for i in (one.column, *one.of)}
        numbers = [n for one in found for n in (*one.slopes, one.intercept)]
        if (
            len(made.kept) != kept
            or not places <= set(range(made.width))
            or not all(set(one.of) <= set(made.kept) for one in found)
            or not all(len(one.of) == len(one.slopes) for one in found)
            or not all(map(math.isfinite, numbers))
            or (made.columns is not None and len(made.columns) != made.width)
        ):
            raise ValueError("the columns that were left out do not fit the model")
        return made


def without_dependent(data: Dataset) -> Dataset:
    """The data set without columns that are linear functions of the others; it knows which."""
    found = of_data(data)
    if not found:
        return data
    dropped = Dropped(data.shape[0], data.columns, tuple(found))
    return replace(data.of_columns(dropped.kept), dropped=dropped)
