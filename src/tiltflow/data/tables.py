"""Numbers in text, separated by commas (.csv) or tabs (.tsv), plain or packed, with a header."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.fast_rows import batches
from tiltflow.data.source_contents import Found
from tiltflow.data.text import counts, head_of
from tiltflow.errors import InputError

COUNTED = "the first line counts the columns from 0, and was taken for their names"


def read_table(path: Path) -> Found:
    """The table in a text file (`text.py`), and its header; values are float64, `[rows, columns]`.

    Raises:
        InputError: text or missing values, ragged rows, two columns of one name, an unreadable or
            corrupt file.
    """
    head = head_of(path)
    refuse_twice(head.names or (), str(path))
    some = (values for values, _ in batches(path, head, range(head.width)))
    values = gathered(some, head.width, str(path))
    return Found(path.name, str(path), values, columns=head.names, note=_note(values, head.names))


def refuse_twice(names: tuple[str, ...], where: str) -> None:
    """Raises InputError if two columns have one name."""
    twice = next((n for i, n in enumerate(names) if n and n in names[:i]), None)
    if twice is not None:
        raise InputError(f"{where} has more than one column '{twice:.60}'; rename all but one")


def gathered(batches: Iterable[np.ndarray], width: int, where: str) -> np.ndarray:
    """Batches `[some, width]` as one array `[rows, width]`, float64, which grows in place.

    Raises:
        InputError: more values than fit into memory.
    """
    flat, filled = np.empty(0), 0
    for batch in batches:
        end = filled + batch.size
        limits.refuse_size(end, where)
        if end > len(flat):
            flat.resize(max(end, 3 * len(flat) // 2), refcheck=False)
        flat[filled:end] = batch.ravel()
        filled = end
    flat.resize(filled, refcheck=False)
    return flat.reshape(-1, width)


def _note(values: np.ndarray, header: tuple[str, ...] | None) -> str:
    """What is odd about a table, and not wrong."""
    notes = [COUNTED] if header and counts(header) else []
    if len(values) > 1 and np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1)):
        name = f"'{header[0]:.60}'" if header else "0"
        notes.append(
            f"column {name} counts the rows: leave it out, unless that is what you want to model"
        )
    return "; ".join(notes)
