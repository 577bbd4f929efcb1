"""Columns whose values lie on a grid: rounded measurements, counts in any unit, pixels over 255.

Of such values no density exists: learning makes spikes of them, and every likelihood is the width
of the narrowest. A value v of a grid column stands for its cell [v, v + step) instead, is spread
over it by uniform noise, and a row's score is the log of the mass of its cells times the density of
the other columns (integers, with cells of width 1, are the common case, `Dataset.integers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """

    step: np.ndarray
    origin: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Which numbers of a row are on a grid, `[*event_shape]`, booleans."""
        return self.step > 0

    @property
    def log_cell(self) -> float:
        """The log of the cells' volume, nats: log mass less log density."""
        return float(np.sum(np.log(self.step[self.cells], dtype=np.float64)))

    def round(self, x: np.ndarray) -> np.ndarray:
        """Numbers of rows `[..., *event_shape]` down to the value of their cell."""
        step, origin = np.where(self.cells, self.step, 1.0), self.origin.astype(np.float64)
        rounded = origin + np.floor((x - origin) / step) * step
        return np.where(self.cells, rounded, x).astype(x.dtype)

    def is_off(self, x: np.ndarray) -> np.ndarray:
        """Which numbers of rows `[..., *event_shape]` are on none of the grid's values."""
        step = np.where(self.cells, self.step.astype(np.float64), 1.0)
        places = (np.asarray(x, np.float64) - self.origin) / step
        allowed = NEAR + FAR * np.spacing(np.abs(x).astype(np.float32)) / step
        return self.cells & ~(np.abs(places - np.rint(places)) <= allowed)

    def of_columns(self, places: list[int]) -> Grid:
        """The grid of some columns of a table, in this order."""
        return Grid(self.step[places], self.origin[places])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; one number each where all columns have the same."""
        return {"step": _short(self.step), "origin": _short(self.origin)}

    @classmethod
    def from_dict(cls, values: Any, shape: tuple[int, ...]) -> Grid:
        """From what `to_dict` gave; KeyError, TypeError or ValueError for anything else."""
        step, origin = (
            np.broadcast_to(np.ravel(np.asarray(values[name], np.float32)), (int(np.prod(shape)),))
            for name in ("step", "origin")
        )
        if not (np.all(np.isfinite(step)) and np.all(np.isfinite(origin)) and np.all(step >= 0)):
            raise ValueError("the grid holds steps that are not finite, or below 0")
        return cls(step.reshape(shape), origin.reshape(shape))


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


def step_of(column: np.ndarray) -> float | None:
    """The step of the grid that the values of a column lie on; None if they lie on none.

    That all gaps between neighbouring values are multiples of one of them is no chance only where
    values come back, or are many.
    """
    seen = np.unique(column)
    if len(seen) < 2 or len(seen) >= REPEATS * len(column):
        return None
    rounding = FAR * float(np.spacing(np.float32(np.max(np.abs(seen)))))
    gaps = np.diff(seen)
    gaps = gaps[gaps > rounding]
    if not len(gaps) or (len(column) < FEWEST * len(seen) and len(seen) < FEWEST):
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
