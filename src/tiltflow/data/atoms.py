"""Atoms: single values that many rows share in a column that is continuous else, zeros and caps.

No density has room for one. Set apart, an atom at a gets a cell [a, a + w) of its own, for which
the values above it make room: x becomes x + w (atoms below x), which changes no other density; and
a row's score counts the mass of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LOOKED_AT = 20_000  # rows in which atoms are looked for, evenly spread
VALUES, FEWEST_ROWS = 2**21, 2_000  # numbers that are looked at together; of so many rows at least
COMMON = 0.01
"""Share of the rows that an atom has, at least."""
FEWEST = 5  # rows of an atom
TIMES = 5  # as many rows as half of the other values have at most
MOST = 16  # atoms of a column
WIDTH = 0.25  # of a cell, as a share of the range of the middle nine tenths of the other values
NAMED = 3  # in one sentence


class Atom(NamedTuple):
    """A value, and the share of the rows that have it."""

    value: float
    share: float


@dataclass(frozen=True)
class Atoms:
    """The atoms of a column that are set apart.

    Attributes:
        values: in increasing order, of float32.
        width: of the cell of each.
    """

    values: tuple[float, ...]
    width: float

    @property
    def edges(self) -> np.ndarray:
        """The lower ends of the cells, float32, `[atoms]`."""
        return (np.asarray(self.values) + self.width * np.arange(len(self.values))).astype("f4")

    def to_cells(self, x: np.ndarray) -> np.ndarray:
        """Values with room for the cells of atoms below them, float32; atoms as `edges`."""
        below = np.searchsorted(np.asarray(self.values, np.float32), x)
        found = (x.astype(np.float64) + self.width * below).astype(np.float32)
        before = np.nextafter(self.edges, np.float32(-np.inf))
        for value, edge, just in zip(self.values, self.edges, before, strict=True):
            # What is rounded up to an atom's cell is no atom.
            found[(found == edge) & (x != np.float32(value))] = just
        return found

    def from_cells(self, cells: np.ndarray) -> np.ndarray:
        """Values of points: atoms inside of their cells, the others without the room, float32."""
        found = np.asarray(cells, np.float64).copy()
        for value, edge in zip(self.values, self.edges.astype(np.float64), strict=True):
            found = np.where(cells >= edge + self.width, found - self.width, found)
            found = np.where((cells >= edge) & (cells < edge + self.width), value, found)
        return found.astype(np.float32)

    def are_in(self, cells: np.ndarray) -> np.ndarray:
        """Which points lie in the cell of an atom."""
        at = np.asarray(cells)[..., None]
        return np.any((at >= self.edges) & (at < self.edges + np.float32(self.width)), axis=-1)

    @classmethod
    def from_list(cls, values: object, width: object) -> Atoms:
        """From what was read from a file; ValueError if it is none."""
        found = np.asarray(values, np.float32)
        room = float(np.float32(width))  # pyright: ignore[reportArgumentType]
        if found.ndim != 1 or not 1 <= len(found) <= MOST or not np.all(np.diff(found) > 0):
            raise ValueError("the atoms of a column are no increasing numbers")
        if not (np.all(np.isfinite(found)) and 0 < room < np.inf):
            raise ValueError("the atoms of a column are not finite, or have no room")
        return cls(tuple(map(float, found)), room)


def some_rows(array: np.ndarray) -> np.ndarray:
    """The rows in which atoms are looked for."""
    rows = min(LOOKED_AT, max(VALUES // max(array[:1].size, 1), FEWEST_ROWS))
    return array[:: max(1, -(-len(array) // rows))]


def atoms_of(column: np.ndarray) -> list[Atom]:
    """The atoms of a column, the commonest first, as float32."""
    values = np.asarray(column, np.float32)
    numbers, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if not len(numbers):
        return []
    least = max(FEWEST, COMMON * len(column), TIMES * float(np.median(counts)))
    order = np.argsort(-counts, kind="stable")
    return [
        Atom(float(numbers[k]), float(counts[k] / len(column))) for k in order if counts[k] >= least
    ]


def set_apart(column: np.ndarray, atoms: Sequence[Atom]) -> Atoms:
    """The atoms of a column with cells of a width that suits its other values."""
    values = sorted(atom.value for atom in atoms[:MOST])
    others = column[~np.isin(column, np.asarray(values, np.float32))].astype(np.float64)
    spread = float(np.ptp(np.quantile(others, [0.05, 0.95]))) if len(others) else 0.0
    largest = float(np.max(np.abs(column)))
    least = 2**10 * float(np.spacing(np.float32(largest)))  # so that float32 has values in it
    width = max(WIDTH * spread, least, 1e-30)
    return Atoms(tuple(values), float(np.float32(width)))


class Shared(NamedTuple):
    """A number of a row whose values have an atom.

    Attributes:
        position: of the number.
        atoms: its atoms, the commonest first.
    """

    position: tuple[int, ...]
    atoms: list[Atom]


def shared_values(values: np.ndarray, cells: np.ndarray | None) -> list[Shared]:
    """The numbers of rows with atoms, the one with the largest share first.

    Args:
        values: `[rows, *event_shape]`, finite.
        cells: which numbers are on a grid, and need no look, `[*event_shape]`; None: none is.
    """
    few = some_rows(values)
    found = []
    for position in np.ndindex(values.shape[1:]):
        if cells is None or not cells[position]:
            atoms = atoms_of(np.asarray(few[(slice(None), *position)]))
            if atoms:
                found.append(Shared(position, atoms))
    return sorted(found, key=lambda one: -one.atoms[0].share)


def of_shared_values(found: Sequence[Shared], names: Sequence[str]) -> str:
    """A sentence on them, without its end; `names` are those of the first few numbers."""
    words = [
        f"{name} is {one.atoms[0].value:g} in {one.atoms[0].share:.0%} of the rows"
        + (f" (and has {len(one.atoms) - 1} such values more)" if len(one.atoms) > 1 else "")
        for name, one in zip(names, found[:NAMED], strict=False)
    ]
    more = f", and {len(found) - NAMED:,} numbers more" if len(found) > NAMED else ""
    return f"{'; '.join(words)}{more}, and continuous else"
