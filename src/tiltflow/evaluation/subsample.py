"""Which of many are looked at: some, evenly far apart, the first and the last among them."""

import numpy as np
from jaxtyping import Int


def evenly(some: int, of: int) -> Int[np.ndarray, " some"]:
    """Indices of `some` of so many; with repetitions where there are fewer."""
    return np.linspace(0, of - 1, some).round().astype(int)
