"""Models in the formats of former versions, as arrays of the present names."""

import numpy as np

STACKED = "backbone.blocks."


def unstacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of format 1 under the names of format 2.

    Format 1 had one array for all blocks of a coupling flow, with a leading axis: what was
    `backbone.blocks.order` is now `backbone.blocks.0.order` and so on. Others stay.
    """
    new = {}
    for name, array in arrays.items():
        if name.startswith(STACKED) and array.ndim:
            rest = name.removeprefix(STACKED)
            new |= {f"{STACKED}{i}.{rest}": part for i, part in enumerate(array)}
        else:
            new[name] = array
    return new
