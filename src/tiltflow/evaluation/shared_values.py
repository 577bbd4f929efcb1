"""Whether a density exists at all: no value of a continuous number may be that of many rows."""

import numpy as np

from tiltflow.data import Dataset
from tiltflow.data.atoms import COMMON, of_shared_values, shared_values
from tiltflow.data.checks import column
from tiltflow.diagnostics.verdict import Check


def words_on_atoms(data: Dataset, train: np.ndarray) -> tuple[float, str]:
    """The largest share of rows with one value of a continuous number, and a sentence on them.

    0 and nothing, where no value is shared. `train` are the rows that are learned from.
    """
    if data.integers:
        return 0.0, ""
    apart = None
    if data.grid is not None:
        apart = data.grid.cells.copy()
        apart[list(data.grid.atoms)] = True
    found = shared_values(np.asarray(data.values[np.sort(train)]), apart)
    if not found:
        return 0.0, ""
    names = [column(one.position, data.columns) for one in found]
    return found[0].atoms[0].share, of_shared_values(found, names)


def no_atoms(data: Dataset, train: np.ndarray) -> Check:
    """The check that the numbers of `data` which are taken for continuous have no atoms."""
    share, words = words_on_atoms(data, train)
    return Check(
        name="largest share of rows with one value of a continuous column",
        value=share,
        limit=COMMON,
        ok=not words,
        part="data",
        severity="caution",
        means=f"{words[:1].upper()}{words[1:]}: there is no density of such values, and scores "
        "tell how narrow a spike the model has made of them.",
        try_="Set the values apart (`--atoms separate`), so that scores count their mass; or "
        "add noise of the instrument's own size, or leave the column out.",
    )
