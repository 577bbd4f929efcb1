"""Comma-separated numbers, plain or gzipped, under an optional header."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from array import array
from pathlib import Path

import numpy as np

from tiltflow.errors import InputError


def read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The table in a `.csv` or `.csv.gz` file, and its header.

    The first line is a header if any of its cells is not a number. Blank lines are skipped. In
    messages, rows are counted from 0 without the header and lines from 1 as in an editor.

    Returns:
        Values, float64, `[rows, columns]`, and the column names or None.

    Raises:
        InputError: text or missing values, ragged rows, an unreadable or corrupt file.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    values = array("d")
    header: tuple[str, ...] | None = None
    width = 0
    try:
        for cells in filter(None, reader):
            if not width:
                width = len(cells)
                if not all(map(_is_number, cells)):
                    header = tuple(cell.strip() for cell in cells)
                    continue
            where = path, len(values) // width, reader.line_num
            if len(cells) != width:
                raise _ragged(len(cells), width, *where)
            try:
                values.extend(_numbers(cells))
            except ValueError:
                raise _text_cell(cells, header, *where) from None
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is not comma-separated text ({error}); correct it"
        ) from None
    if not width:
        raise InputError(f"{path} holds only blank lines; expected rows of numbers")
    return np.array(values).reshape(-1, width), header


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8 CSV") from None
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file") from None


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
    cells: list[str], header: tuple[str, ...] | None, path: Path, row: int, line: int
) -> InputError:
    column, cell = next((i, c) for i, c in enumerate(cells) if not _is_number(c))
    name = f"column '{header[column]}'" if header else f"column {column}"
    where = f"{path}, {name}, row {row} (line {line})"
    if not cell.strip():
        return InputError(f"{where} is blank; expected a number: fill it in or drop the row")
    shown = cell if len(cell) <= 40 else cell[:40] + "..."
    if ";" in cell or "\t" in cell:
        return InputError(f"{where} holds {shown!r}; expected commas between numbers: convert it")
    return InputError(f"{where} holds {shown!r}; expected a number: drop or encode the column")
