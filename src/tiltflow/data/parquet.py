"""Parquet through pyarrow: columns of numbers, and of labels, become a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data import limits
from tiltflow.data.categories import Coder, Texts
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

LONGEST_TEXT, MOST_ENTRIES = 2**24, 2**20  # of the file's own description
ROWS = 2**16  # of a batch


def read_parquet(path: Path, texts: Texts) -> Found:
    """The columns of a `.parquet` file, `[rows, columns]`; float64 if any is floating, or text.

    Args:
        path: of the file.
        texts: of the columns of text.

    Raises:
        InputError: missing values or nested columns; a corrupt file.
    """
    with _open(path) as file:
        names = tuple(file.schema_arrow.names)
        if not names:
            raise InputError(f"{path} has no columns; expected a table of numbers")
        coders = _coders(file.schema_arrow, names, texts)
        dtype = _type_of(file.schema_arrow, path, coders)
        rows = file.metadata.num_rows
        limits.refuse_size(rows * len(names), str(path))
        array = np.empty((rows, len(names)), dtype)
        filled = 0
        for batch in file.iter_batches(ROWS):
            if filled + batch.num_rows > rows:
                raise InputError(f"{path} holds more rows than it says: write it again")
            _fill(array[filled : filled + batch.num_rows], batch, filled, path, coders)
            filled += batch.num_rows
    if filled != rows or not array.size:
        raise InputError(f"{path} holds {filled} of {rows} rows; expected a table of numbers")
    labels = texts.finished(array, names, str(path))
    return Found(path.name, str(path), array, columns=names, texts=labels)


def _coders(schema: Any, names: Sequence[str], texts: Texts) -> dict[int, Coder]:
    """Of the columns of labels."""
    from pyarrow import types

    found = {}
    for place, name in enumerate(names):
        kind, key = schema.field(place).type, name or str(place)
        category = types.is_dictionary(kind)
        text = category or types.is_string(kind) or types.is_large_string(kind)
        if texts.wants(key) if texts.fixed else text:
            found[place] = texts.coder(key, category=category)
    return found


def names_of(path: Path) -> tuple[str, ...]:
    """The names of the columns.

    Raises:
        InputError: a corrupt file.
    """
    with _open(path) as file:
        return tuple(file.schema_arrow.names)


def batches(
    path: Path,
    wanted: Sequence[int],
    kept: int | None = None,
    coders: Mapping[int, Coder] | None = None,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Batches of rows: float64 `[rows, wanted]`, and the column `kept`, of any type.

    Columns that have one of the `coders` hold labels, and are told as its codes.

    Raises:
        InputError: text, missing values or nested columns among those wanted; a corrupt file.
    """
    with _open(path) as file:
        schema = file.schema_arrow
        places = [*wanted, *([] if kept is None else [kept])]
        names = [schema.names[place] for place in places]
        at = {n: coders[place] for n, place in enumerate(wanted) if coders and place in coders}
        _type_of([schema.field(place) for place in wanted], path, at)
        start = 0
        for batch in file.iter_batches(ROWS, columns=names):
            some = batch.select(names[: len(wanted)])
            values = np.empty((batch.num_rows, len(wanted)))
            _fill(values, some, start, path, at)
            start += batch.num_rows
            yield values, None if kept is None else batch.column(names[-1])


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The file; raises InputError for whatever shows that it is corrupt, in the block, too."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(
            path, thrift_string_size_limit=LONGEST_TEXT, thrift_container_size_limit=MOST_ENTRIES
        ) as file:
            yield file
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a whole Parquet file ({error}); write it again") from None


def _type_of(fields: Any, path: Path, coders: Mapping[int, Coder]) -> np.dtype:
    """The NumPy type that holds all columns; raises InputError if one holds no numbers.

    Those that have one of the `coders`, by their place, may.
    """
    from pyarrow import types

    for place, field in enumerate(fields):
        if place in coders:
            continue
        kind = field.type
        if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)):
            raise InputError(
                f"{path}, column '{field.name:.60}' holds {kind!s:.60}; expected integers, "
                f"floats or booleans: cast, encode or drop the column"
            )
    # Unsigned 64-bit integers beyond 2^63 would turn negative.
    floating = any(types.is_floating(f.type) or types.is_uint64(f.type) for f in fields)
    return np.dtype(np.float64 if floating or coders else np.int64)


def _fill(
    array: np.ndarray, batch: Any, before: int, path: Path, coders: Mapping[int, Coder]
) -> None:
    """Fill `array` from a batch that begins at row `before`, with codes where there are `coders`.

    Raises:
        InputError: a value is missing.
    """
    for number, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        if column.null_count:
            row = before + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise InputError(
                f"{path}, column '{name:.60}', row {row} is missing; expected a number: fill it in "
                f"or drop the row"
            )
        if number in coders:
            array[:, number] = coders[number].codes(_as_text(column))
        else:
            array[:, number] = column.to_numpy(zero_copy_only=False)


def _as_text(column: Any) -> Any:
    """A column of labels, whatever they are, as pyarrow's dictionary of texts, or as texts."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(column.type):
        texts = column.dictionary.cast(pyarrow.string())
        return pyarrow.DictionaryArray.from_arrays(column.indices, texts)
    return column.cast(pyarrow.string())
