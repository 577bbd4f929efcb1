"""A table of rows that is written batch by batch, as `.csv` or `.parquet`: whole or not there.

What is not known is an empty cell in text and null in Parquet. Memory does not grow with the rows.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tiltflow.errors import InputError
from tiltflow.runs import atomic

ENDINGS = (".csv", ".parquet")


class RowTable:
    """A table being written: `write` takes batches of columns, all of one length."""

    def __init__(self, stream: BinaryIO, *, parquet: bool, about: Mapping[str, str]) -> None:
        """Not for callers: use `writing_rows`."""
        self._stream, self._parquet, self._about = stream, parquet, about
        self._writer: Any = None
        self.rows = 0

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add rows: arrays, or lists of text, by name; the first batch says names and types.

        NaN is what is not known.
        """
        import pyarrow

        arrays = [pyarrow.array(column, from_pandas=True) for column in columns.values()]
        batch = pyarrow.RecordBatch.from_arrays(arrays, names=list(columns))
        if self._writer is None:
            self._writer = self._begun(batch.schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def _begun(self, schema: Any) -> Any:
        if self._parquet:
            from pyarrow import parquet

            told = schema.with_metadata({f"tiltflow.{k}": v for k, v in self._about.items()})
            return parquet.ParquetWriter(self._stream, told)
        from pyarrow import csv as arrow

        self._stream.write(_line(schema.names))
        how = arrow.WriteOptions(include_header=False, quoting_style="needed")
        return arrow.CSVWriter(self._stream, schema, write_options=how)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _line(names: Sequence[str]) -> bytes:
    """A header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode()


@contextmanager
def writing_rows(path: Path, about: Mapping[str, str] | None = None) -> Iterator[RowTable]:
    """A table that is at `path` when the block ends, unless it raises.

    Args:
        path: ends in one of `ENDINGS`.
        about: what is to be known of the table, by name: metadata of a Parquet file.

    Raises:
        InputError: the disk refuses; what was at `path` is there still.
    """
    with atomic.replacing(path) as stream:
        table = RowTable(stream, parquet=path.suffix == ".parquet", about=about or {})
        yield table
        table.close()


def check_out(path: Path, *, overwrite: bool, also: Sequence[str] = ()) -> None:
    """Raises InputError if no table can be written at `path`, or in one of the formats `also`."""
    endings = (*ENDINGS, *also)
    if path.suffix not in endings:
        expected = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise InputError(f"--out {path}: expected a name that ends in {expected}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} is not a folder that can be written: choose another --out")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another --out, or pass --overwrite")
