"""Rows that stand there more than once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tiltflow.data.limits import blocks

MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33))


class Repeats(NamedTuple):
    """How many rows are not the only ones of their kind, and the size of the largest kind."""

    rows: int
    most: int


def repeated_rows(array: np.ndarray) -> Repeats:
    """Count equal rows of `[rows, ...]`, as float32, by 64-bit hashes."""
    counts = np.unique(_hashes(array), return_counts=True)[1]
    repeated = counts[counts > 1]
    return Repeats(int(repeated.sum()), int(repeated.max(initial=0)))


def found_again(rows: np.ndarray, among: np.ndarray) -> float:
    """The share of `rows` that are equal to one of `among`, as float32; both `[n, ...]`."""
    return float(np.isin(_hashes(rows), _hashes(among)).mean())


def _hashes(array: np.ndarray) -> np.ndarray:
    """64 bits for each row of `[rows, ...]`."""
    width = array[:1].size
    factors = np.random.default_rng(0).integers(1, 2**64, width, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(array), np.uint64)
    for start, block in blocks(array):
        with np.errstate(over="ignore", invalid="ignore"):
            values = block.reshape(len(block), width).astype(np.float32) + np.float32(0)
        words = _mixed(values.view(np.uint32).astype(np.uint64) + factors)
        hashes[start : start + len(block)] = (words * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _mixed(words: np.ndarray) -> np.ndarray:
    """64-bit words with every bit spread over all others (the finaliser of MurmurHash3)."""
    first, second, shift = MIX
    words ^= words >> shift
    words *= first
    words ^= words >> shift
    words *= second
    words ^= words >> shift
    return words
