"""One pass over an array, block by block: range, places that are wrong, kinds of values.

Nothing here needs more memory than a block, so that an array may be larger than memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tiltflow.data.limits import blocks

LARGEST_INTEGER = 2**16
"""Beyond it float32 has fewer than 2^7 values in a bin of width 1: too few for uniform noise."""
COARSE = 1e-3
"""Of a column's range: wider steps of float32 make spikes of a continuous density."""


@dataclass(frozen=True)
class Place:
    """The first value of its kind: row (from 0), position in the row, and the value."""

    row: int
    position: tuple[int, ...]
    value: float


@dataclass(eq=False)
class Scan:
    """What one pass has seen; `low` and `high` ignore what is not finite.

    Attributes:
        low, high: the smallest and largest value of every column, as float32, `[*event_shape]`;
            infinite where a column holds no finite value.
        bad_rows: rows with NaN or infinite values.
        bad_columns: how many of them each column has, `[*event_shape]`.
        rounded: whether float32 has changed a value of the column, `[*event_shape]`.
        bad, huge, fractional: the first value that is not finite, that float32 cannot hold, and
            that is no integer of magnitude at most `LARGEST_INTEGER`.
        levels: the number of distinct values, if all are such integers; else 0.
    """

    low: np.ndarray
    high: np.ndarray
    bad_columns: np.ndarray
    rounded: np.ndarray
    bad_rows: int = 0
    bad: Place | None = None
    huge: Place | None = None
    fractional: Place | None = None
    levels: int = 0
    _seen: np.ndarray = field(default_factory=lambda: np.zeros(2 * LARGEST_INTEGER + 1, bool))

    @property
    def constant(self) -> np.ndarray:
        """Which columns are constant as float32, `[*event_shape]`."""
        return (self.low == self.high) & (self.bad_columns == 0)

    @property
    def steps(self) -> np.ndarray:
        """How far apart neighbouring float32 are at the column's largest value."""
        return np.spacing(np.maximum(np.abs(self.low), np.abs(self.high)))

    @property
    def coarse(self) -> np.ndarray:
        """Which columns lose too much as float32: a large offset, and a small range."""
        return self.rounded & (self.steps > COARSE * (self.high - self.low))


def scan(array: np.ndarray, into: np.ndarray | None = None) -> Scan:
    """Pass over `[rows, *event_shape]`, and fill `into`, float32 of that shape, on the way."""
    shape = array.shape[1:]
    found = Scan(
        np.full(shape, np.inf, np.float32),
        np.full(shape, -np.inf, np.float32),
        np.zeros(shape, np.int64),
        np.zeros(shape, bool),
    )
    for start, block in blocks(array):
        # Values that float32 cannot hold are looked for afterwards; signalling NaN are NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            values = block.astype(np.float32)
            _look(found, start, block, values)
        if into is not None:
            into[start : start + len(block)] = values
    if found.fractional is None:
        found.levels = int(np.count_nonzero(found._seen))
    return found


def _look(found: Scan, start: int, block: np.ndarray, values: np.ndarray) -> None:
    """Add a block of rows, and the same as float32, that begin at row `start`."""
    floating = block.dtype.kind == "f"
    if floating and not np.isfinite(values).all():
        bad, huge = ~np.isfinite(block), np.isinf(values) & np.isfinite(block)
        found.bad_rows += int(bad.reshape(len(bad), -1).any(axis=1).sum())
        found.bad_columns += bad.sum(axis=0)
        found.bad = found.bad or _first(bad, start, block)
        found.huge = found.huge or _first(huge, start, block)
        values = np.where(np.isfinite(values), values, np.float32(np.nan))
    if block.dtype.itemsize >= values.itemsize and block.dtype != values.dtype:
        found.rounded |= (block != values).any(axis=0)
    np.fmin(found.low, np.fmin.reduce(values, axis=0), out=found.low)
    np.fmax(found.high, np.fmax.reduce(values, axis=0), out=found.high)
    if found.fractional is None:
        no_integer = np.abs(values) > LARGEST_INTEGER
        if floating:
            no_integer |= block != np.rint(block)
        found.fractional = _first(no_integer, start, block)
    if found.fractional is None and np.isfinite(values).all():
        found._seen[values.astype(np.int32).ravel() + LARGEST_INTEGER] = True


def _first(mask: np.ndarray, start: int, block: np.ndarray) -> Place | None:
    """The first True, in a block that begins at row `start`."""
    if not mask.any():
        return None
    row, *position = (int(i) for i in np.unravel_index(np.argmax(mask), mask.shape))
    return Place(start + row, tuple(position), float(block[row, *position]))
