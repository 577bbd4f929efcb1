"""Models in the formats of former versions, as arrays of the present names."""

import numpy as np

STACKED = "backbone.blocks."


def unstacked(arrays: dict[str, np.ndarray], blocks: int) -> dict[str, np.ndarray]:
    """The arrays of a coupling flow in format 1, of so many `blocks`, under the names of format 2.

    Format 1 had one array for all blocks, with a leading axis: what was `backbone.blocks.order` is
    now `backbone.blocks.0.order` and so on. Arrays that are no such stack stay as they are, and
    whoever looks for the present names will miss them.
    """
    new = {}
    for name, array in arrays.items():
        if name.startswith(STACKED) and array.ndim and len(array) == blocks:
            rest = name.removeprefix(STACKED)
            new |= {f"{STACKED}{i}.{rest}": part for i, part in enumerate(array)}
        else:
            new[name] = array
    return new
