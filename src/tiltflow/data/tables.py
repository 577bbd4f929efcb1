"""Numbers in text, separated by commas (.csv) or tabs (.tsv), plain or gzipped, with a header."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

LONGEST_LINE = 2**24
EXPANDED = 2**26
"""Bytes of text from which on a gzipped file may not be more than `RATIO` times its own size."""
RATIO = 200
MOST_BLANK = 2**20

_NAMES = {",": "commas", "\t": "tabs"}
COUNTED = "the first line counts the columns from 0, and was taken for their names"
FEWEST_COUNTED = 3  # columns: 0 and 1 may well be a row


def read_table(path: Path) -> Found:
    """The table in a `.csv`, `.tsv`, `.csv.gz` or `.tsv.gz` file, and its header.

    The first line is a header if any of its cells is not a number, or if they are 0, 1, 2 and so
    on, as columns without names are written. Blank lines are skipped. In messages, rows are
    counted from 0 without the header and lines from 1 as in an editor. Values are float64,
    `[rows, columns]`.

    Raises:
        InputError: text or missing values, ragged rows, an unreadable or corrupt file.
    """
    separator = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    try:
        with (
            gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream,
        ):
            values, header = _parse(_lines(stream, path), path, separator)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8 text") from None
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file") from None
    return Found(path.name, str(path), values, columns=header, note=_note(values, header))


def _lines(stream: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines of the file; raises InputError where it grows beyond all measure."""
    size, read, blank = os.path.getsize(path), 0, 0
    while line := stream.readline(LONGEST_LINE):
        read += len(line)
        blank += line.isspace()
        if blank > MOST_BLANK:
            raise InputError(f"{path} has more than {MOST_BLANK:,} blank lines: remove them")
        if len(line) >= LONGEST_LINE:
            raise InputError(
                f"{path} has a line of more than {LONGEST_LINE:,} characters; expected rows of "
                f"numbers: write one row a line"
            )
        if read > max(EXPANDED, RATIO * size):
            raise InputError(
                f"{path} expands to more than {RATIO} times its {size:,} bytes; expected a table "
                f"of numbers: check where the file comes from"
            )
        yield line


def _parse(
    lines: Iterator[str], path: Path, separator: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Values `[rows, columns]` and the names of the columns, or None."""
    reader = csv.reader(lines, strict=True, delimiter=separator)
    values = array("d")
    header: tuple[str, ...] | None = None
    width = 0
    try:
        for cells in filter(None, reader):
            if not width:
                width = len(cells)
                if not all(map(_is_number, cells)) or _counts(cells):
                    header = tuple(cell.strip() for cell in cells)
                    continue
            where = path, len(values) // width, reader.line_num
            if len(cells) != width:
                raise _ragged(len(cells), width, *where)
            try:
                values.extend(_numbers(cells))
            except ValueError:
                raise _text_cell(cells, header, separator, *where) from None
            if 4 * len(values) > limits.LARGEST:
                limits.refuse_size(len(values), str(path))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is not {_NAMES[separator][:-1]}-separated text "
            f"({error}); correct it"
        ) from None
    if not width:
        raise InputError(f"{path} holds only blank lines; expected rows of numbers")
    return np.array(values).reshape(-1, width), header


def _note(values: np.ndarray, header: tuple[str, ...] | None) -> str:
    """What is odd about a table, and not wrong."""
    notes = [COUNTED] if header and _counts(header) else []
    if len(values) > 1 and np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1)):
        name = f"'{header[0]:.60}'" if header else "0"
        notes.append(
            f"column {name} counts the rows: leave it out, unless that is what you want to model"
        )
    return "; ".join(notes)


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2 and so on."""
    counted = all(cell.strip() == str(place) for place, cell in enumerate(cells))
    return counted and len(cells) >= FEWEST_COUNTED


def _numbers(cells: list[str]) -> list[float]:
    """One number a cell; raises ValueError where `float` does, and for `1_000`."""
    if "_" in "".join(cells):
        raise ValueError
    return list(map(float, cells))


def _is_number(cell: str) -> bool:
    try:
        _numbers([cell])
    except ValueError:
        return False
    return True


def _ragged(found: int, expected: int, path: Path, row: int, line: int) -> InputError:
    return InputError(
        f"{path}, row {row} (line {line}) has {found} columns; expected {expected} as in the "
        f"first line: correct the row"
    )


def _text_cell(
    cells: list[str],
    header: tuple[str, ...] | None,
    separator: str,
    path: Path,
    row: int,
    line: int,
) -> InputError:
    column, cell = next((i, c) for i, c in enumerate(cells) if not _is_number(c))
    name = f"column '{header[column]:.60}'" if header else f"column {column}"
    where = f"{path}, {name}, row {row} (line {line})"
    if not cell.strip():
        return InputError(f"{where} is blank; expected a number: fill it in or drop the row")
    shown = cell if len(cell) <= 40 else cell[:40] + "..."
    if any(other in cell for other in ";\t," if other != separator):
        return InputError(
            f"{where} holds {shown!r}; expected {_NAMES[separator]} between numbers: convert it"
        )
    return InputError(f"{where} holds {shown!r}; expected a number: drop or encode the column")
