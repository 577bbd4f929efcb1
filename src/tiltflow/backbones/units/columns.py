"""The histogram that suits a column: cells, blocks, a smooth one or a normal one.

A column on a grid of few values has a bin a cell. Any other has a smooth histogram, unless one of
blocks, which are ahead where a density jumps, or a normal one is likelier by more than a standard
error: each is fitted to either half of the rows and judged by the other half.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tiltflow.backbones.units.atom_cells import with_cells
from tiltflow.backbones.units.histogram import best_bins, cell_bins, log_density
from tiltflow.backbones.units.smooth import normal_bins, smooth_bins
from tiltflow.data.atoms import Atoms

MOST_CELLS = 64  # of a column on a grid, that have a bin each
FEW = 20  # rows: a half of fewer chooses nothing
MOST_JUDGED = 20_000  # rows that choose

Bins = tuple[np.ndarray, np.ndarray]  # edges and shares
Rows = np.ndarray | slice


def bins_of(
    exact: np.ndarray,
    spread: np.ndarray,
    steps: np.ndarray,
    atoms: Mapping[int, Atoms] | None = None,
) -> list[Bins]:
    """Edges and shares of each column (`histogram.py`).

    Args:
        exact, spread: rows `[rows, dim]`, as they are and each value somewhere in its cell.
        steps: `[dim]`, the width of the cells; 0 where a column has none.
        atoms: of columns whose atoms are set apart, by their number.
    """
    apart = atoms or {}
    return [
        cell_bins(values, step)
        if few_cells(values, step)
        else bins_about(values, apart[i])
        if i in apart
        else suited(values, column, step)
        for i, (values, column, step) in enumerate(zip(exact.T, spread.T, steps, strict=True))
    ]


def bins_about(cells: np.ndarray, atoms: Atoms) -> Bins:
    """Of a column with atoms, as `Atoms.to_cells` has it: a bin each, between those of the rest."""
    cells = cells.astype(np.float32)
    counts = np.array([np.sum(cells == edge) for edge in atoms.edges])
    rest = atoms.from_cells(cells[~np.isin(cells, atoms.edges)]).astype(np.float64)
    if len(rest) < 2 or np.ptp(rest) == 0:  # nothing but atoms
        rest = np.asarray(atoms.values) + np.array([[-0.5], [0.5]]) * atoms.width
    return with_cells(suited(rest.ravel(), rest.ravel(), 0.0), atoms, counts, len(cells))


def few_cells(values: np.ndarray, step: float) -> bool:
    """Whether each cell of a column on a grid has a bin of its own."""
    return step > 0 and bool(np.ptp(values) < MOST_CELLS * step)


def suited(exact: np.ndarray, spread: np.ndarray, step: float) -> Bins:
    """The kind that rows left out choose, fitted to all rows."""

    def smooth(rows: Rows) -> Bins:
        return smooth_bins(exact[rows], spread[rows], step)

    if len(exact) < 2 * FEW or np.ptp(spread) == 0:
        return best_bins(spread)
    rows = np.random.default_rng(0).permutation(len(exact))[: 2 * MOST_JUDGED]
    halves = rows[::2], rows[1::2]

    def judged(kind: Callable[[Rows], Bins]) -> np.ndarray:
        both = (halves, halves[::-1])
        return np.concatenate([log_density(spread[other], *kind(some)) for some, other in both])

    first, best, ahead = judged(smooth), smooth, 0.0
    for kind in (lambda rows: best_bins(spread[rows]), lambda rows: normal_bins(spread[rows])):
        gain = judged(kind) - first
        lead = float(np.mean(gain) - np.std(gain) / np.sqrt(len(gain)))
        if lead > ahead:
            best, ahead = kind, lead
    return best(slice(None))
