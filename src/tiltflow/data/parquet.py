"""Parquet through pyarrow (the extra `parquet`): numeric columns become a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data import limits
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

LONGEST_TEXT, MOST_ENTRIES = 2**24, 2**20  # of the file's own description


def read_parquet(path: Path) -> Found:
    """The columns of a `.parquet` file, `[rows, columns]`; float64 if any is floating.

    Raises:
        InputError: pyarrow is not installed; text, missing values or nested columns; a corrupt
            file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{path} needs pyarrow, which is not installed: pip install 'tiltflow[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(
            path, thrift_string_size_limit=LONGEST_TEXT, thrift_container_size_limit=MOST_ENTRIES
        ) as file:
            names, dtype = _columns(file.schema_arrow, path)
            rows = file.metadata.num_rows
            limits.refuse_size(rows * len(names), str(path))
            array = np.empty((rows, len(names)), dtype)
            filled = 0
            for batch in file.iter_batches(2**16):
                if filled + batch.num_rows > rows:
                    raise InputError(f"{path} holds more rows than it says: write it again")
                _refuse_missing(batch, filled, path)
                for number, column in enumerate(batch.columns):
                    part = array[filled : filled + batch.num_rows, number]
                    part[:] = column.to_numpy(zero_copy_only=False)
                filled += batch.num_rows
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a whole Parquet file ({error}); write it again") from None
    if filled != rows or not array.size:
        raise InputError(f"{path} holds {filled} of {rows} rows; expected a table of numbers")
    return Found(path.name, str(path), array, columns=names)


def _columns(schema: Any, path: Path) -> tuple[tuple[str, ...], np.dtype]:
    """The names of the columns, and the NumPy type that holds them all."""
    from pyarrow import types

    if not len(schema):
        raise InputError(f"{path} has no columns; expected a table of numbers")
    for field in schema:
        kind = field.type
        if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind)):
            raise InputError(
                f"{path}, column '{field.name:.60}' holds {kind!s:.60}; expected integers, "
                f"floats or booleans: cast, encode or drop the column"
            )
    # Unsigned 64-bit integers beyond 2^63 would turn negative.
    floating = any(types.is_floating(f.type) or types.is_uint64(f.type) for f in schema)
    return tuple(schema.names), np.dtype(np.float64 if floating else np.int64)


def _refuse_missing(batch: Any, before: int, path: Path) -> None:
    """Raises InputError for the first missing value of a batch that begins at row `before`."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            row = before + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise InputError(
                f"{path}, column '{name:.60}', row {row} is missing; expected a number: fill it in "
                f"or drop the row"
            )
