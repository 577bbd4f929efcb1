"""The histogram that suits a column: cells, blocks, a smooth one or a normal one.

A column on a grid of few values has a bin a cell. Any other has a smooth histogram, on a grid with
a bin for each value that many rows have, unless one of blocks, which are ahead where a density
jumps, a normal one, or one without such bins is likelier by more than a standard error: each is
fitted to either half of the rows and judged by the other half. Blocks end between tails of a set
shape, for a straight line there says of a value a little further out that it cannot be.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tiltflow.backbones.units.atom_cells import with_cells
from tiltflow.backbones.units.histogram import best_bins
from tiltflow.backbones.units.smooth import normal_bins, smooth_bins
from tiltflow.backbones.units.tails import TailedBins, cells_between_tails, ended
from tiltflow.data.atoms import Atoms

MOST_CELLS = 64  # of a column on a grid, that have a bin each
FEW = 20  # rows: a half of fewer chooses nothing
MOST_JUDGED = 20_000  # rows that choose

Rows = np.ndarray | slice


def bins_of(
    exact: np.ndarray,
    spread: np.ndarray,
    steps: np.ndarray,
    atoms: Mapping[int, Atoms] | None = None,
) -> list[TailedBins]:
    """The histogram of each column.

    Args:
        exact, spread: rows `[rows, dim]`, as they are and each value somewhere in its cell.
        steps: `[dim]`, the width of the cells; 0 where a column has none.
        atoms: of columns whose atoms are set apart, by their number.
    """
    apart = atoms or {}
    return [
        cells_between_tails(values, step)
        if few_cells(values, step)
        else bins_about(values, apart[i])
        if i in apart
        else suited(values, column, step)
        for i, (values, column, step) in enumerate(zip(exact.T, spread.T, steps, strict=True))
    ]


def bins_about(cells: np.ndarray, atoms: Atoms) -> TailedBins:
    """Of a column with atoms, as `Atoms.to_cells` has it: a bin each, between those of the rest."""
    cells = cells.astype(np.float32)
    counts = np.array([np.sum(cells == edge) for edge in atoms.edges])
    rest = atoms.from_cells(cells[~np.isin(cells, atoms.edges)]).astype(np.float64)
    if len(rest) < 2 or np.ptp(rest) == 0:  # nothing but atoms
        rest = np.asarray(atoms.values) + np.array([[-0.5], [0.5]]) * atoms.width
    found = suited(rest.ravel(), rest.ravel(), 0.0)
    bins = TailedBins(*with_cells(found[:2], atoms, counts, len(cells)))
    return bins if found.tails == bins.tails else ended(bins, rest)


def few_cells(values: np.ndarray, step: float) -> bool:
    """Whether each cell of a column on a grid has a bin of its own."""
    return step > 0 and bool(np.ptp(values) < MOST_CELLS * step)


def suited(exact: np.ndarray, spread: np.ndarray, step: float) -> TailedBins:
    """The kind that rows left out choose, fitted to all rows."""

    def smooth(rows: Rows) -> TailedBins:
        return TailedBins(*smooth_bins(exact[rows], spread[rows], step))

    def blocks(rows: Rows) -> TailedBins:
        return ended(TailedBins(*best_bins(spread[rows])), spread[rows])

    if len(exact) < 2 * FEW or np.ptp(spread) == 0:
        return blocks(slice(None))
    rows = np.random.default_rng(0).permutation(len(exact))[: 2 * MOST_JUDGED]
    halves = rows[::2], rows[1::2]

    def judged(kind: Callable[[Rows], TailedBins]) -> np.ndarray:
        both = (halves, halves[::-1])
        return np.concatenate([kind(some).log_density(spread[other]) for some, other in both])

    others = [blocks, lambda rows: TailedBins(*normal_bins(spread[rows]))]
    if step > 0:  # a fine grid: no value is an atom
        others.append(lambda rows: TailedBins(*smooth_bins(spread[rows], spread[rows], 0.0)))
    first, best, ahead = judged(smooth), smooth, 0.0
    for kind in others:
        gain = judged(kind) - first
        lead = float(np.mean(gain) - np.std(gain) / np.sqrt(len(gain)))
        if lead > ahead:
            best, ahead = kind, lead
    return best(slice(None))
