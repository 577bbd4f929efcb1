"""A data set: checked values and what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiltflow.data.containers import places
from tiltflow.data.grids import Grid
from tiltflow.data.kinds import kinds_of
from tiltflow.data.limits import blocks


@dataclass(frozen=True, eq=False)
class Dataset:
    """Values that `tiltflow.data.load` has checked: finite, and varying where continuous.

    Attributes:
        name: `"digits"`, or the file's name with its extension.
        values: float32, `[rows, *event_shape]`, with one to three event axes, in data units. Of
            a large `.npy` file a read-only `numpy.memmap` with the file's own type: rows are
            read when they are looked at, and `take` gives float32.
        integers: True if every value is an integer, so that the data are to be dequantised with
            uniform noise (bins of width 1); False if they are continuous.
        grid: the cells of the columns whose values lie on one, where not all values are integers;
            they are dequantised, too. None: there is no such column. It holds the labels of
            categories; where these are text, `values` hold their numbers.
        labels: integers, `[rows]`, or None.
        columns: the names of columns, as in the header of a CSV file, or None.
        test_rows: how many rows at the end are the set's own test rows, which a split keeps.
        note: what a reader of numbers must know, such as that images were stored with loss.
        dropped: `data.dependent.Dropped`, columns that were left out as functions of the others;
            None: there are none.
    """

    name: str
    values: np.ndarray
    integers: bool
    labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    test_rows: int = 0
    note: str = ""
    grid: Grid | None = None
    dropped: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape: that of one row."""
        return self.values.shape[1:]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of shape and values: the same for the same data, wherever they lie."""
        digest = hashlib.sha256(f"float32{self.values.shape}".encode())
        for _, block in blocks(self.values):
            digest.update(np.ascontiguousarray(block, np.float32).data)
        for i, levels in sorted(self.grid.levels.items() if self.grid is not None else ()):
            if levels.are_text:  # whose numbers say nothing
                digest.update(repr((i, levels.labels)).encode())
        return digest.hexdigest()

    @property
    def kinds(self) -> list[str] | str:
        """What each column is taken for, in a few words; of images, all numbers."""
        return kinds_of(self.shape, self.integers, self.grid)

    def by_name(self, known: tuple[str, ...]) -> Dataset:
        """The columns that a model knows by these names, in this order; others are left out.

        Raises:
            InputError: one of them is not there.
        """
        if self.columns is None or self.columns == known:
            return self
        return self.of_columns(places(self.columns, known, self.name))

    def of_columns(self, found: list[int]) -> Dataset:
        """The columns of a table at these places, in this order."""
        names = None if self.columns is None else tuple(self.columns[i] for i in found)
        grid = None if self.grid is None else self.grid.of_columns(found)
        return replace(self, values=self.values[:, found], columns=names, grid=grid)

    def take(self, index: np.ndarray) -> Dataset:
        """The rows at `index` (integers, `[n]`), in that order, in memory, labels with them."""
        labels = None if self.labels is None else self.labels[index]
        values = np.asarray(self.values[index], np.float32)
        return replace(self, values=values, labels=labels, test_rows=0)
