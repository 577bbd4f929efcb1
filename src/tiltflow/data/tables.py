"""Numbers in text, separated by commas (.csv) or tabs (.tsv), plain or packed, with a header."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.categories import Texts
from tiltflow.data.fast_rows import batches
from tiltflow.data.source_contents import Found
from tiltflow.data.text import Head, counts, head_of, is_number, text_columns
from tiltflow.errors import InputError

A_ROW = (
    "{} of {} cells of the first line are numbers, and it was taken for names: is it a row? then "
    "write a line of names above it"
)
COUNTED = "the first line counts the columns from 0, and was taken for their names"


def read_table(path: Path, texts: Texts) -> Found:
    """The table in a text file (`text.py`), and its header; values are float64, `[rows, columns]`.

    Args:
        path: of the file.
        texts: which columns hold labels, beside those that hold nothing else (`text_columns`).

    Raises:
        InputError: text among numbers or missing values, ragged rows, two columns of one name, an
            unreadable or corrupt file.
    """
    head = head_of(path)
    refuse_twice(head.names or (), str(path))
    names, where = names_of(head), str(path)
    labelled = set() if texts.fixed else set(text_columns(path, head))
    labelled |= {i for i, name in enumerate(names) if texts.wants(name)}
    coders = {i: texts.coder(names[i]) for i in labelled}
    some = (values for values, _ in batches(path, head, range(head.width), coders=coders))
    values = gathered(some, head.width, where)
    found = texts.finished(values, names, where)
    note = _note(values, head.names, set(found))
    return Found(path.name, where, values, columns=head.names, note=note, texts=found)


def names_of(head: Head) -> list[str]:
    """What each column goes by: its name, or its number from 0."""
    return [name or str(i) for i, name in enumerate(head.names or [""] * head.width)]


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


def _note(values: np.ndarray, header: tuple[str, ...] | None, labelled: set[int]) -> str:
    """What is odd about a table, and not wrong."""
    notes = [COUNTED] if header and counts(header) else []
    if header and not notes and (some := sum(map(is_number, header))):
        notes = [A_ROW.format(some, len(header))]
    if (
        0 not in labelled
        and len(values) > 1
        and np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1))
    ):
        name = f"'{header[0]:.60}'" if header else "0"
        notes.append(
            f"column {name} counts the rows: leave it out, unless that is what you want to model"
        )
    return "; ".join(notes)
