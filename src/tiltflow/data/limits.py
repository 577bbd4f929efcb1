"""How much a file may ask for: every reader stops here, whatever the file promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tiltflow.errors import InputError

LARGEST = 2**32
"""Bytes that the values of one data set may take in memory, as float32."""

MAPPED = 2**30
"""From so many bytes on a .npy file is mapped: rows are then read when they are looked at."""

DEFLATE = 1032
"""Deflate cannot expand more than so many times: what claims more is damaged."""

BLOCK = 2**21
"""Values that are looked at together where a file is passed through."""


def refuse_size(count: int, where: str) -> None:
    """Raises InputError if `count` values do not fit into memory as float32."""
    if 4 * count > LARGEST:
        raise InputError(
            f"{where} holds {count:,} values; expected at most {LARGEST // 4:,}, which is "
            f"{LARGEST / 2**30:g} GiB in memory: save them as .npy, which is read row by row"
        )


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows of `[rows, ...]`, about `BLOCK` values at a time, and where they begin."""
    rows = max(1, BLOCK // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield start, np.asarray(array[start : start + rows])
