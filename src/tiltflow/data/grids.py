"""Columns whose values lie on a grid: rounded measurements, counts in any unit, pixels over 255.

Of such values no density exists: learning makes spikes of them, and every likelihood is the width
of the narrowest. A value v of a grid column stands for its cell [v, v + step) instead, is spread
over it by uniform noise, and a row's score is the log of the mass of its cells times the density of
the other columns (integers, with cells of width 1, are the common case, `Dataset.integers`; the
labels of categories have cells of width 1, too, `categories.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tiltflow.data.atoms import Atoms
from tiltflow.data.categories import Levels
from tiltflow.data.limits import blocks

SAMPLE = 20_000  # rows in which a step is looked for; all others then have to be on the grid, too
REPEATS = 0.9  # distinct values, as a share of the rows, from which on a column is continuous
MOST_CELLS = 2**16  # of a column, so that float32 has some values in each
PARTS = 10  # that the smallest gap between two values may have
NEAR = 0.02  # how far from a multiple, in steps, a value may lie by rounding
FAR = 4.0  # the same, in steps of float32 at the largest value
FEWEST = 4  # rows of which each value stands for, on average, where every gap is a multiple


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a row's numbers.

    Attributes:
        step: float32, `[*event_shape]`, the width of the cells; 0 where a column is continuous.
        origin: the same shape, a value of each column.
        levels: of columns of a table that are categories, or of few numbers on no grid, by their
            number; their cells are of width 1, the first at 0.
        atoms: of continuous columns of a table whose atoms are set apart, by their number.
    """

    step: np.ndarray
    origin: np.ndarray
    levels: Mapping[int, Levels] = field(default_factory=dict)
    atoms: Mapping[int, Atoms] = field(default_factory=dict)

    @property
    def cells(self) -> np.ndarray:
        """Which numbers of a row are on a grid, `[*event_shape]`, booleans."""
        return self.step > 0

    @property
    def categories(self) -> np.ndarray:
        """Which numbers of a row go by their place among labels, `[*event_shape]`, booleans."""
        found = np.zeros(self.step.shape, bool)
        found[list(self.levels)] = True
        return found

    @property
    def labels(self) -> list[int]:
        """The columns of a table that are labels without an order."""
        return [i for i, one in self.levels.items() if not one.ordered]

    @property
    def log_cell(self) -> float:
        """The log of the cells' volume, nats: log mass less log density; without atoms' cells."""
        return float(np.sum(np.log(self.step[self.cells], dtype=np.float64)))

    def to_cells(self, x: np.ndarray) -> np.ndarray:
        """Numbers of rows `[..., *event_shape]` as the lower ends of their cells, float32.

        They are the numbers themselves but of categories, and of columns with atoms.
        """
        x = np.asarray(x, np.float32)
        moved: dict[int, Levels | Atoms] = {**self.levels, **self.atoms}
        if moved:
            x = x.copy()
            for i, one in moved.items():
                x[..., i] = one.to_cells(x[..., i])
        return x

    def widths(self, cells: np.ndarray) -> np.ndarray:
        """The widths of the cells that begin at `cells` (`[..., *event_shape]`); 0: there is none.

        Of a grid without atoms these are its steps.
        """
        if not self.atoms:
            return self.step
        found = np.broadcast_to(self.step, np.shape(cells)).copy()
        for i, atoms in self.atoms.items():
            found[..., i] = np.float32(atoms.width) * np.isin(cells[..., i], atoms.edges)
        return found

    def log_volume(self, x: np.ndarray) -> np.ndarray | float:
        """The log of the volume of the cells of rows `[rows, *event_shape]`, nats."""
        found: Any = self.log_cell
        for i, atoms in self.atoms.items():
            are = np.isin(x[..., i], np.asarray(atoms.values, np.float32))
            found = found + np.log(atoms.width) * are
        return found

    def round(self, x: np.ndarray) -> np.ndarray:
        """Points in cells `[..., *event_shape]` down to the value of their cell."""
        step, origin = np.where(self.cells, self.step, 1.0), self.origin.astype(np.float64)
        rounded = origin + np.floor((x - origin) / step) * step
        found = np.where(self.cells, rounded, x).astype(x.dtype)
        for i, levels in self.levels.items():
            found[..., i] = levels.from_cells(x[..., i])
        for i, atoms in self.atoms.items():
            found[..., i] = atoms.from_cells(x[..., i])
        return found

    def is_off(self, x: np.ndarray) -> np.ndarray:
        """Which numbers of rows `[..., *event_shape]` are on none of the grid's values."""
        step = np.where(self.cells, self.step.astype(np.float64), 1.0)
        places = (np.asarray(x, np.float64) - self.origin) / step
        allowed = NEAR + FAR * np.spacing(np.abs(x).astype(np.float32)) / step
        off = self.cells & ~(np.abs(places - np.rint(places)) <= allowed)
        for i, levels in self.levels.items():
            off[..., i] = levels.to_cells(np.asarray(x[..., i], np.float32)) < 0
        return off

    def expected(self, position: tuple[int, ...]) -> str:
        """What a number of a row may be, in words."""
        if len(position) == 1 and position[0] in self.levels:
            levels = self.levels[position[0]]
            what = "a value" if levels.ordered else "a label"
            return f"{what} that the model was fitted to: {levels.told()}"
        return f"a value on the grid of step {self.step[position]:g} that the model was fitted to"

    def kinds(self) -> list[str]:
        """What each number of a row is taken for, in a few words."""
        words = [f"grid of {step:.6g}" if step else "continuous" for step in self.step.ravel()]
        for i, levels in self.levels.items():
            words[i] = levels.kind
        for i, atoms in self.atoms.items():
            words[i] += f", atoms at {', '.join(f'{value:.6g}' for value in atoms.values)}"
        return words

    def of_columns(self, places: list[int]) -> Grid:
        """The grid of some columns of a table, in this order."""
        levels = {n: self.levels[i] for n, i in enumerate(places) if i in self.levels}
        atoms = {n: self.atoms[i] for n, i in enumerate(places) if i in self.atoms}
        return Grid(self.step[places], self.origin[places], levels, atoms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; one number each where all columns have the same."""
        found: dict[str, Any] = {"step": _short(self.step), "origin": _short(self.origin)}
        if self.levels:
            found["levels"] = {str(i): list(one.labels) for i, one in self.levels.items()}
        if ordered := [i for i, one in self.levels.items() if one.ordered]:
            found["ordered"] = ordered
        if self.atoms:
            found["atoms"] = {
                str(i): {"values": list(one.values), "width": one.width}
                for i, one in self.atoms.items()
            }
        return found

    @classmethod
    def from_dict(cls, values: Any, shape: tuple[int, ...]) -> Grid:
        """From what `to_dict` gave; KeyError, TypeError or ValueError for anything else."""
        step, origin = (
            np.broadcast_to(np.ravel(np.asarray(values[name], np.float32)), (int(np.prod(shape)),))
            for name in ("step", "origin")
        )
        if not (np.all(np.isfinite(step)) and np.all(np.isfinite(origin)) and np.all(step >= 0)):
            raise ValueError("the grid holds steps that are not finite, or below 0")
        ordered = set(map(int, values.get("ordered", ())))
        levels = {
            int(i): Levels.from_list(one, ordered=int(i) in ordered)
            for i, one in dict(values.get("levels", {})).items()
        }
        for i in levels:
            if len(shape) != 1 or not 0 <= i < shape[0] or step[i] != 1 or origin[i] != 0:
                raise ValueError(f"number {i} of a row has labels, and is no category")
        told = dict(values.get("atoms", {}))
        atoms = {int(i): Atoms.from_list(one["values"], one["width"]) for i, one in told.items()}
        for i in atoms:
            if len(shape) != 1 or not 0 <= i < shape[0] or step[i] != 0:
                raise ValueError(f"number {i} of a row has atoms, and is not continuous")
        return cls(step.reshape(shape), origin.reshape(shape), levels, atoms)


def _short(values: np.ndarray) -> float | list[float]:
    flat = [float(value) for value in values.ravel()]
    return flat[0] if len(set(flat)) == 1 else flat


def grid_of(values: np.ndarray) -> Grid | None:
    """The grid of the columns of `[rows, *event_shape]`; None if none of them is on one.

    Pixels of images have one step, that of all their values, or none.
    """
    shape, rows = values.shape[1:], min(len(values), SAMPLE)
    few = np.asarray(values[:rows], np.float64).reshape(rows, -1)
    if len(shape) > 1:
        found = step_of(few.ravel())
        steps = np.full(few.shape[1], found or 0.0)
        origin = np.full(few.shape[1], few.min())
    else:
        steps = np.array([step_of(column) or 0.0 for column in few.T])
        origin = few.min(axis=0)
    grid = Grid(steps.astype(np.float32).reshape(shape), origin.astype(np.float32).reshape(shape))
    off = np.zeros(shape, bool)
    for _, block in blocks(values):
        off |= grid.is_off(block).any(axis=0)
    if len(shape) > 1 and off.any():
        return None
    step = np.where(off, np.float32(0), grid.step)
    return Grid(step, grid.origin) if step.any() else None


def step_of(column: np.ndarray, *, sure: bool = False) -> float | None:
    """The step of the grid that the values of a column lie on; None if they lie on none.

    That all gaps between neighbouring values are multiples of one of them is no chance only where
    values come back, or are many; or where somebody is `sure` that there is a grid.
    """
    seen = np.unique(column)
    if len(seen) < 2 or (len(seen) >= REPEATS * len(column) and not sure):
        return None
    rounding = FAR * float(np.spacing(np.float32(np.max(np.abs(seen)))))
    gaps = np.diff(seen)
    gaps = gaps[gaps > rounding]
    few = len(column) < FEWEST * len(seen) and len(seen) < FEWEST
    if not len(gaps) or (few and not sure):
        return None
    places = seen - seen[0]
    for parts in range(1, PARTS + 1):
        step = _refined(gaps.min() / parts, places)
        if places[-1] > MOST_CELLS * step:
            return None
        off = np.abs(places / step - np.rint(places / step))
        if np.all(off <= NEAR + rounding / step) and rounding < 0.25 * step:
            return step
    return None


def _refined(step: float, places: np.ndarray) -> float:
    """A step told exactly by values that are many of it apart."""
    for count in (10, 100, 1_000, 10_000, 100_000):
        near = places[(places > 0.5 * step) & (places < count * step)]
        if len(near):
            step = float(np.mean(near / np.maximum(np.rint(near / step), 1)))
    return step
