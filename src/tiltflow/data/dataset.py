"""A data set in memory: checked values and what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Dataset:
    """Values that `tiltflow.data.load` has checked: finite, and varying where continuous.

    Attributes:
        name: `"digits"`, or the file's name with its extension.
        values: float32, `[rows, *event_shape]`, with one to three event axes, in data units.
        integers: True if every value is an integer, so that the data are to be dequantised with
            uniform noise (bins of width 1); False if they are continuous.
        labels: integers, `[rows]`, or None.
        columns: the header of a CSV file, one name a column, or None.
    """

    name: str
    values: np.ndarray
    integers: bool
    labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None

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
        content = np.ascontiguousarray(self.values)
        kind = f"{content.dtype}{content.shape}".encode()
        return hashlib.sha256(kind + content.tobytes()).hexdigest()

    def take(self, index: np.ndarray) -> Dataset:
        """The rows at `index` (integers, `[n]`), in that order, labels with them."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, values=self.values[index], labels=labels)
