"""Rows some of whose numbers are missing, batch by batch: NaN stands where nothing does.

Elsewhere a missing value is refused with its place; here it is what is asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data.batches import Batch, Batches, coders_of
from tiltflow.data.categories import Coder, Texts
from tiltflow.data.containers import places
from tiltflow.data.limits import blocks
from tiltflow.data.sources import read, refuse_unreadable
from tiltflow.data.tables import refuse_twice
from tiltflow.data.text import ENDINGS, head_of, is_number, unpacked
from tiltflow.errors import InputError

MISSING = ("", " ", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none")
"""What a cell holds of which nothing is known."""
EXPECTED = "expected numbers, and nothing, NA, NaN, null or ? where one is missing"
BLOCK, ROWS = 2**22, 2**16  # bytes of text, rows of Parquet, that are looked at together


def read_gaps(
    source: str,
    width: int | None,
    *,
    columns: Sequence[str] | None = None,
    texts: Texts | None = None,
    **options: Any,
) -> Batches:
    """The rows of a source, NaN where a number is missing.

    Args:
        source: as in `tiltflow.data.load`; tables are never whole in memory.
        width: columns that are expected; None: the rows are no table.
        columns: their names; None: they are taken in their order.
        texts: of columns of labels, which are told as codes; None: there are none.
        options: as in `sources.read`.

    Raises:
        InputError: the source cannot be read, has not the columns that are expected, or holds what
            is neither a number nor missing.
    """
    path, name = Path(source), source.lower()
    table = width is not None and not any(options.values()) and not path.is_dir()
    if table and name.endswith(ENDINGS):
        refuse_unreadable(path)
        return _of_text(path, width or 0, columns, texts or Texts({}))
    if table and name.endswith(".parquet"):
        refuse_unreadable(path)
        return _of_parquet(path, width or 0, columns, texts or Texts({}))
    found = read(source, texts=texts, **options)
    rows = (Batch(start, block, None) for start, block in blocks(found.array))
    return Batches(found.name, found.columns, (), rows)


def _of_text(path: Path, width: int, columns: Sequence[str] | None, texts: Texts) -> Batches:
    import pyarrow
    from pyarrow import csv

    head = head_of(path)
    if head.names and any(map(is_number, head.names)) and _is_row(head.names):
        raise InputError(
            f"{path}: the first line is a row with a gap; expected the names of the columns there, "
            f"or a whole row: add a line of names"
        )
    names = head.names or tuple(map(str, range(head.width)))
    wanted = _wanted(names, width, columns if head.names else None, path)
    keys = [str(place) for place in range(head.width)]
    coders = coders_of(names, wanted, texts)
    types = {
        keys[place]: pyarrow.string() if place in coders else pyarrow.float64() for place in wanted
    }

    def rows() -> Iterator[np.ndarray]:
        with _numbers_of(path), unpacked(path) as stream:
            stream.read(head.bytes)
            if not stream.peek(1):
                return
            with csv.open_csv(
                pyarrow.PythonFile(stream, "r"),
                read_options=csv.ReadOptions(column_names=keys, block_size=BLOCK),
                parse_options=csv.ParseOptions(delimiter=head.separator),
                convert_options=csv.ConvertOptions(
                    column_types=types,
                    include_columns=[keys[place] for place in wanted],
                    null_values=list(MISSING),
                    strings_can_be_null=True,
                ),
            ) as reader:
                for batch in reader:
                    yield _filled(batch, wanted, coders)

    return _batches(path, names, wanted, rows(), named=head.names is not None)


def _is_row(cells: Sequence[str]) -> bool:
    return all(is_number(cell) or cell.strip() in MISSING for cell in cells)


def _of_parquet(path: Path, width: int, columns: Sequence[str] | None, texts: Texts) -> Batches:
    from pyarrow import parquet

    with _numbers_of(path):
        names = tuple(parquet.read_schema(path).names)
    wanted = _wanted(names, width, columns, path)
    coders = coders_of(names, wanted, texts)

    def rows() -> Iterator[np.ndarray]:
        with _numbers_of(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=[names[place] for place in wanted]):
                some = batch.select([names[place] for place in wanted])
                yield _filled(some, wanted, coders)

    return _batches(path, names, wanted, rows(), named=True)


@contextmanager
def _numbers_of(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises in the block into an InputError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: {error}; {EXPECTED}") from None


def _filled(batch: Any, wanted: Sequence[int], coders: dict[int, Coder]) -> np.ndarray:
    """The columns of a batch, `[rows, columns]`, NaN for null; labels as codes."""
    import pyarrow

    values = np.empty((batch.num_rows, batch.num_columns))
    for number, of in enumerate(batch.columns):
        if wanted[number] in coders:
            labels = of.cast(pyarrow.string()).fill_null("")
            values[:, number] = coders[wanted[number]].codes(labels)
            values[of.is_null().to_numpy(zero_copy_only=False), number] = np.nan
        else:
            values[:, number] = of.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
    return values


def _wanted(
    names: tuple[str, ...], width: int, columns: Sequence[str] | None, path: Path
) -> list[int]:
    refuse_twice(names, str(path))
    if columns is not None:
        return places(names, tuple(columns), str(path))
    if len(names) != width:
        raise InputError(
            f"{path} has {len(names)} columns; expected {width}, as the data that the model was "
            f"fitted to: leave out the others"
        )
    return list(range(width))


def _batches(
    path: Path,
    names: tuple[str, ...],
    wanted: list[int],
    rows: Iterator[np.ndarray],
    *,
    named: bool,
) -> Batches:
    def each() -> Iterator[Batch]:
        start = 0
        for values in rows:
            yield Batch(start, values, None)
            start += len(values)

    left_out = tuple(name for place, name in enumerate(names) if place not in wanted)
    return Batches(path.name, tuple(names[i] for i in wanted) if named else None, left_out, each())
