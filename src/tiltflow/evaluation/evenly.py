"""Which of many are looked at: some, evenly far apart, the first and the last among them."""

import numpy as np
from jaxtyping import Float, Int


def evenly(some: int, of: int) -> Int[np.ndarray, " some"]:
    """Indices of `some` of so many; with repetitions where there are fewer."""
    return np.linspace(0, of - 1, some).round().astype(int)


def over_chains(
    positions: Float[np.ndarray, "chains draws ..."], rows: int
) -> Float[np.ndarray, "rows ..."]:
    """So many of all draws, evenly over time and over chains."""
    flat = positions.swapaxes(0, 1).reshape(-1, *positions.shape[2:])
    return flat[evenly(rows, len(flat))]
