"""The text of a table: opened, unpacked, refused where it grows beyond all measure; its head.

A table is `.csv` or `.tsv`, plain, gzipped (`.gz`) or in Zstandard's format (`.zst`).
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltflow.errors import InputError

LONGEST_LINE = 2**24
EXPANDED = 2**26
"""Bytes of text from which on a packed file may not be more than `RATIO` times its own size."""
RATIO = 200
MOST_BLANK = 2**20
PACKED = (".gz", ".zst")
ENDINGS = tuple(text + packed for text in (".csv", ".tsv") for packed in ("", *PACKED))
NAMES = {",": "commas", "\t": "tabs"}
SEPARATORS = ";\t,"
FEWEST_COUNTED = 3  # columns: 0 and 1 may well be a row
FIRST_ROWS = 100  # that say which columns are text
MARK = b"\xef\xbb\xbf"  # that some programs begin UTF-8 with


@dataclass(frozen=True)
class Head:
    """What the first lines say of a table.

    Attributes:
        separator: between cells.
        width: cells of a row.
        names: of the columns, or None.
        lines, bytes: before the first row.
    """

    separator: str
    width: int
    names: tuple[str, ...] | None
    lines: int
    bytes: int


def head_of(path: Path) -> Head:
    """The head of a table in text.

    The first line is a header if any of its cells is not a number, or if they are 0, 1, 2 and so
    on, as columns without names are written. Blank lines before it count for nothing.

    Raises:
        InputError: an unreadable file, or one of blank lines only.
    """
    separator = "\t" if path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(
        ".tsv"
    ) else ","  # fmt: skip
    before = [0]  # bytes in front of each line that was read
    with unpacked(path) as stream:
        if stream.peek(len(MARK)).startswith(MARK):
            before[0] = len(MARK)
        with reading(path), io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:

            def counted() -> Iterator[str]:
                for line in lines(text, path):
                    before.append(before[-1] + len(line.encode()))
                    yield line

            reader = csv.reader(counted(), strict=True, delimiter=separator)
            with well_formed(reader, path, separator):
                while True:
                    first = reader.line_num
                    cells = next(reader, None)
                    if cells is None:
                        break
                    if not cells:  # a blank line
                        continue
                    if not all(map(is_number, cells)) or counts(cells):
                        names = tuple(cell.strip() for cell in cells)
                        return Head(separator, len(cells), names, reader.line_num, before[-1])
                    return Head(separator, len(cells), None, first, before[first])
    raise InputError(f"{path} holds only blank lines; expected rows of numbers")


@contextmanager
def unpacked(path: Path) -> Iterator[Any]:
    """A stream (`io.BufferedReader`) of the file's bytes, as they were before they were packed.

    Raises:
        InputError: it cannot be opened, is damaged, or (by reading) expands beyond all measure.
    """
    with reading(path), path.open("rb") as raw:
        size, name = os.fstat(raw.fileno()).st_size, path.name.lower()
        source: Any = raw
        if name.endswith(".gz"):
            source = gzip.GzipFile(fileobj=raw)
        elif name.endswith(".zst"):
            import pyarrow

            source = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")
        with io.BufferedReader(_Bounded(source, path, size), 2**20) as stream:
            yield stream


class _Bounded(io.RawIOBase):
    """A stream that is refused where it expands beyond all measure."""

    def __init__(self, source: Any, path: Path, size: int) -> None:
        super().__init__()
        self._source, self._path, self._size, self._read = source, path, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        part = self._source.read(len(buffer))
        self._read += len(part)
        if self._read > max(EXPANDED, RATIO * self._size):
            raise InputError(
                f"{self._path} expands to more than {RATIO} times its {self._size:,} bytes; "
                f"expected a table of numbers: check where the file comes from"
            )
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what an unreadable file raises in the block into an InputError that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8 text") from None
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file") from None


@contextmanager
def well_formed(reader: Any, path: Path, separator: str) -> Iterator[None]:
    """Turns what `csv.reader` raises in the block into an InputError that names the line."""
    try:
        yield
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is not {NAMES[separator][:-1]}-separated text "
            f"({error}); correct it"
        ) from None


def lines(stream: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines of the file; raises InputError where one is beyond all measure, or most blank."""
    blank = 0
    while line := stream.readline(LONGEST_LINE):
        blank += line.isspace()
        if blank > MOST_BLANK:
            raise InputError(f"{path} has more than {MOST_BLANK:,} blank lines: remove them")
        if len(line) >= LONGEST_LINE:
            raise InputError(
                f"{path} has a line of more than {LONGEST_LINE:,} characters; expected rows of "
                f"numbers: write one row a line"
            )
        yield line


def text_columns(path: Path, head: Head) -> list[int]:
    """The columns of labels: text in each of the first rows, and nothing that may be a number.

    A label has a letter in it, or another cell of its column has; a separator it has not, for
    these may be numbers of another notation.

    Raises:
        InputError: an unreadable file.
    """
    from_first = list(range(head.width))
    lettered = set[int]()
    with unpacked(path) as stream, reading(path):
        stream.read(head.bytes)
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        reader = csv.reader(lines(text, path), strict=True, delimiter=head.separator)
        with well_formed(reader, path, head.separator):
            for row, cells in enumerate(filter(None, reader)):
                if row == FIRST_ROWS or not from_first:
                    break
                if len(cells) == head.width:
                    from_first = [i for i in from_first if _may_be_label(cells[i])]
                    lettered |= {i for i in from_first if any(map(str.isalpha, cells[i]))}
        text.detach()
    return [i for i in from_first if i in lettered]


def _may_be_label(cell: str) -> bool:
    return bool(cell.strip()) and not is_number(cell) and not any(s in cell for s in SEPARATORS)


def counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2 and so on."""
    counted = all(cell.strip() == str(place) for place, cell in enumerate(cells))
    return counted and len(cells) >= FEWEST_COUNTED


def numbers(cells: Sequence[str]) -> list[float]:
    """One number a cell; raises ValueError where `float` does, and for `1_000`."""
    if "_" in "".join(cells):
        raise ValueError
    return list(map(float, cells))


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        numbers([cell])
    except ValueError:
        return False
    return True
