"""Rows of a table in text, cell by cell: slow, and exact about what is wrong, and where."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data.categories import Coder
from tiltflow.data.text import (
    NAMES,
    Head,
    is_number,
    lines,
    numbers,
    reading,
    unpacked,
    well_formed,
)
from tiltflow.errors import InputError

ROWS = 2**14  # of a batch


def exact_batches(
    path: Path,
    head: Head,
    wanted: Sequence[int],
    kept: int | None = None,
    coders: Mapping[int, Coder] | None = None,
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Batches of rows: float64 `[rows, wanted]`, and the text of the column `kept`.

    Columns that have one of the `coders` hold labels, and are told as its codes. Blank lines are
    skipped. In messages, rows are counted from 0 without the header and lines
    from 1 as in an editor.

    Raises:
        InputError: text or missing values in a column that is wanted, ragged rows, an unreadable
            or corrupt file.
    """
    coders = coders or {}
    numeric = [i for i in wanted if i not in coders]
    every = numeric == list(range(head.width))
    row, values, texts = 0, array("d"), list[str]()
    labels: dict[int, list[str]] = {i: [] for i in wanted if i in coders}

    def batch() -> tuple[np.ndarray, list[str]]:
        return together(np.array(values).reshape(-1, len(numeric)), wanted, coders, labels), texts

    with (
        unpacked(path) as stream,
        reading(path),
        io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text,
    ):
        reader = csv.reader(lines(text, path), strict=True, delimiter=head.separator)
        with well_formed(reader, path, head.separator):
            for cells in filter(None, reader):
                if reader.line_num <= head.lines:
                    continue
                if len(cells) != head.width:
                    raise _ragged(len(cells), head, path, row, reader.line_num)
                try:
                    values.extend(numbers(cells if every else [cells[i] for i in numeric]))
                except ValueError:
                    raise _no_number(cells, numeric, head, path, row, reader.line_num) from None
                for i, column in labels.items():
                    column.append(cells[i])
                if kept is not None:
                    texts.append(cells[kept])
                row += 1
                if row % ROWS == 0:
                    yield batch()
                    values, texts = array("d"), []
                    labels = {i: [] for i in labels}
    if row % ROWS:
        yield batch()


def together(
    values: np.ndarray,
    wanted: Sequence[int],
    coders: Mapping[int, Coder],
    labels: Mapping[int, Any],
) -> np.ndarray:
    """Numbers `[rows, columns]` with the codes of labels between them, `[rows, wanted]`."""
    if not labels:
        return values
    numeric = iter(values.T)
    return np.stack(
        [coders[i].codes(labels[i]) if i in labels else next(numeric) for i in wanted], axis=1
    )


def _ragged(found: int, head: Head, path: Path, row: int, line: int) -> InputError:
    return InputError(
        f"{path}, row {row} (line {line}) has {found} columns; expected {head.width} as in the "
        f"first line: correct the row{_of_another_separator(head)}"
    )


def _of_another_separator(head: Head) -> str:
    """What a first line of one cell may mean, where others have several."""
    if head.width > 1 or not head.names:
        return ""
    other = next((s for s in ";\t," if s != head.separator and s in head.names[0]), None)
    if other is None:
        return ""
    return (
        f"; the first line has {other!r} in it: is that the separator? expected "
        f"{NAMES[head.separator]}"
    )


def _no_number(
    cells: list[str], wanted: Sequence[int], head: Head, path: Path, row: int, line: int
) -> InputError:
    column, cell = next((i, cells[i]) for i in wanted if not is_number(cells[i]))
    name = f"column '{head.names[column]:.60}'" if head.names else f"column {column}"
    where = f"{path}, {name}, row {row} (line {line})"
    if not cell.strip():
        return InputError(f"{where} is blank; expected a number: fill it in or drop the row")
    shown = cell if len(cell) <= 40 else cell[:40] + "..."
    if any(other in cell for other in ";\t," if other != head.separator):
        return InputError(
            f"{where} holds {shown!r}; expected {NAMES[head.separator]} between numbers: convert it"
        )
    return InputError(
        f"{where} holds {shown!r}; expected a number: correct it, drop the column, "
        f"or make it a category (--column NAME=category)"
    )
