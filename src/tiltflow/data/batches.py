"""Rows of a file that may be larger than memory, batch by batch, for a model to look at.

Tables are read with the columns that the model knows, by name where they have names; one column
may be passed through as it stands, to know the rows by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiltflow.data import parquet
from tiltflow.data.categories import Coder, Texts
from tiltflow.data.containers import places
from tiltflow.data.fast_rows import batches
from tiltflow.data.limits import blocks
from tiltflow.data.sources import read, refuse_unreadable
from tiltflow.data.tables import refuse_twice
from tiltflow.data.text import ENDINGS, head_of
from tiltflow.errors import InputError


class Batch(NamedTuple):
    """Consecutive rows.

    Attributes:
        start: the number of the first.
        values: `[some, *event_shape]`, as they stand in the file.
        ids: what stands in the column that is passed through, or None.
    """

    start: int
    values: np.ndarray
    ids: Any


@dataclass(frozen=True)
class Batches:
    """What `read_batches` returns.

    Attributes:
        name: of the source.
        columns: their names, in the order of the values; None: they have none.
        left_out: names of columns that are not looked at.
        rows: one batch after the other; raises InputError for what is wrong there.
    """

    name: str
    columns: tuple[str, ...] | None
    left_out: tuple[str, ...]
    rows: Iterator[Batch]


def read_batches(
    source: str,
    width: int | None,
    *,
    columns: Sequence[str] | None = None,
    kept: str | None = None,
    texts: Texts | None = None,
    **options: Any,
) -> Batches:
    """The rows of a source.

    Args:
        source: as in `tiltflow.data.load`; tables in text and Parquet are never whole in memory.
        width: columns that are expected; None: the rows are no table.
        columns: their names; None: they are taken in their order.
        kept: the name of the column that is passed through.
        texts: of columns of labels, which are told as codes; None: there are none.
        options: as in `sources.read`.

    Raises:
        InputError: the source cannot be read, or has not the columns that are expected.
    """
    path = Path(source)
    of = next((of for ends, of in _TABLES.items() if path.name.lower().endswith(ends)), None)
    plain = not any(options.values()) and not path.is_dir()
    if of is not None and width is not None and plain:
        refuse_unreadable(path)
        return of(path, width, columns, kept, texts or Texts({}))
    if kept is not None:
        raise InputError(f"{source} has no named columns; leave out --id {kept}")
    found = read(source, texts=texts, **options)
    rows = (Batch(start, block, None) for start, block in blocks(found.array))
    return Batches(found.name, found.columns, (), rows)


def _of_text(
    path: Path, width: int, columns: Sequence[str] | None, kept: str | None, texts: Texts
) -> Batches:
    head = head_of(path)
    if kept is not None and head.names is None:
        raise InputError(f"{path} has no header; leave out --id {kept}")
    names = head.names or tuple(map(str, range(head.width)))
    wanted, at = _places(names, width, columns if head.names else None, kept, path)

    coders = coders_of(names, wanted, texts)

    def rows() -> Iterator[Batch]:
        start = 0
        for values, ids in batches(path, head, wanted, at, coders):
            yield Batch(start, values, None if at is None else ids)
            start += len(values)

    return _batches(path, names, wanted, at, rows(), named=head.names is not None)


def _of_parquet(
    path: Path, width: int, columns: Sequence[str] | None, kept: str | None, texts: Texts
) -> Batches:
    names = parquet.names_of(path)
    wanted, at = _places(names, width, columns, kept, path)

    coders = coders_of(names, wanted, texts)

    def rows() -> Iterator[Batch]:
        start = 0
        for values, ids in parquet.batches(path, wanted, at, coders):
            yield Batch(start, values, ids)
            start += len(values)

    return _batches(path, names, wanted, at, rows(), named=True)


def coders_of(names: Sequence[str], wanted: Sequence[int], texts: Texts) -> dict[int, Coder]:
    """Of the columns of labels, by their number."""
    return {i: texts.coder(names[i] or str(i)) for i in wanted if texts.wants(names[i] or str(i))}


_TABLES = {ENDINGS: _of_text, (".parquet",): _of_parquet}


def _batches(
    path: Path,
    names: tuple[str, ...],
    wanted: list[int],
    at: int | None,
    rows: Iterator[Batch],
    *,
    named: bool,
) -> Batches:
    left_out = [n for i, n in enumerate(names) if i not in {*wanted, at}]
    columns = tuple(names[i] for i in wanted) if named else None
    return Batches(path.name, columns, tuple(left_out), rows)


def _places(
    names: tuple[str, ...],
    width: int,
    columns: Sequence[str] | None,
    kept: str | None,
    path: Path,
) -> tuple[list[int], int | None]:
    """Which columns are looked at, and which is passed through.

    Raises:
        InputError: one of them is not there, or is there twice; too few or too many.
    """
    refuse_twice(names, str(path))
    if kept is not None and kept not in names:
        raise InputError(f"{path} has no column '{kept:.60}', that --id names; name one that is")
    at = None if kept is None else names.index(kept)
    if columns is not None:
        return places(names, tuple(columns), str(path)), at
    wanted = [i for i in range(len(names)) if i != at]
    if len(wanted) != width:
        beside = "" if at is None else f" beside '{kept}'"
        raise InputError(
            f"{path} has {len(wanted)} columns{beside}; expected {width}, as the data that the "
            f"model was fitted to: leave out the others"
        )
    return wanted, at
