"""Distances between rows, so many at a time that memory does not grow with the rows."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

AT_ONCE = 4_000_000  # distances in memory together


def parts(rows: int, others: int) -> Iterator[slice]:
    """Slices of `rows`, each with at most `AT_ONCE` distances to so many others."""
    size = max(1, AT_ONCE // max(others, 1))
    return (slice(start, start + size) for start in range(0, rows, size))


def squared_distances(
    a: Float[np.ndarray, "rows columns"], b: Float[np.ndarray, "others columns"]
) -> Float[np.ndarray, "rows others"]:
    """|a - b|^2 of each pair; by the products, so that equal rows may be 1e-15 of |a|^2 apart."""
    squares = a @ b.T
    squares *= -2
    squares += np.einsum("ij,ij->i", a, a)[:, None]
    squares += np.einsum("ij,ij->i", b, b)
    return np.maximum(squares, 0.0, out=squares)
