"""The cells of atoms: which numbers of a row are spread over one, and what its volume is."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.data.atoms import Atoms
from tiltflow.data.grids import Grid

CLOSE = 0.01  # edges nearer to an atom than this share of its cell are left out
ROWS = 2.0  # that count for what no row has shown


class AtomCells(eqx.Module):
    """Cells [edge, edge + width) of the atoms of a table's columns (`data/atoms.py`).

    Attributes:
        edges: `[dim, most]`; infinite where a column has fewer.
        widths: `[dim]`; 0 where it has none.
    """

    edges: Float[Array, "dim most"]
    widths: Float[Array, " dim"]

    def widths_of(self, x: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
        """The width of the cell that begins at each number of rows; 0 where none does."""
        return self.widths * jnp.any(x[..., None] == self.edges, axis=-1)

    def log_volume(self, x: Float[Array, "... dim"]) -> Float[Array, "..."]:
        """The log of the volume of the cells that points of rows lie in, nats."""
        at, widths = x[..., None], self.widths[:, None]
        inside = jnp.any((at >= self.edges) & (at < self.edges + widths), axis=-1)
        return jnp.sum(jnp.where(inside, jnp.log(self.widths), 0.0), axis=-1)


def with_cells(
    bins: tuple[np.ndarray, np.ndarray], atoms: Atoms, counts: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """A histogram of a column with bins for its atoms, between the others, which make room.

    Args:
        bins: edges and shares of the values that are no atoms, in data units (`histogram.py`).
        atoms: of the column.
        counts: `[atoms]`, the rows of each.
        rows: of the column in all.
    """
    edges, below = bins[0], np.concatenate([[0.0], np.cumsum(bins[1])])
    values = np.asarray(atoms.values)
    near = np.min(np.abs(edges[:, None] - values), axis=1) < CLOSE * atoms.width
    others = edges[~near]
    of_atoms = np.concatenate([[0.0], np.cumsum(counts)]) / (rows + ROWS)
    left = 1 - of_atoms[-1]
    before = np.searchsorted(values, others)
    ends = atoms.edges.astype(np.float64)
    at_value = left * np.interp(values, edges, below)
    points = np.concatenate([others + atoms.width * before, ends, ends + atoms.width])
    cumulated = np.concatenate(
        [
            left * np.interp(others, edges, below) + of_atoms[before],
            at_value + of_atoms[:-1],
            at_value + of_atoms[1:],
        ]
    )
    order = np.argsort(points, kind="stable")
    shares = np.maximum(np.diff(cumulated[order]), 1e-3 / rows / len(points))
    return points[order], shares / shares.sum()


def atom_cells(grid: Grid | None) -> AtomCells | None:
    """The cells of the atoms of a grid; None: it has none."""
    if grid is None or not grid.atoms:
        return None
    most = max(len(atoms.values) for atoms in grid.atoms.values())
    edges, widths = np.full((len(grid.step), most), np.inf), np.zeros(len(grid.step))
    for i, atoms in grid.atoms.items():
        edges[i, : len(atoms.values)], widths[i] = atoms.edges, atoms.width
    return AtomCells(jnp.asarray(edges, jnp.float32), jnp.asarray(widths, jnp.float32))
