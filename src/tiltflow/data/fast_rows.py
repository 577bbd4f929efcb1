"""Rows of a table in text, by pyarrow: fast, and without a word on where something is wrong.

What pyarrow would read in another way than `exact_rows.py` it is told to refuse: no cell means
"missing", and quotes are looked at only where text is passed through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data.categories import Coder
from tiltflow.data.exact_rows import exact_batches
from tiltflow.data.text import Head, unpacked

Texts = Any  # a list of them, or pyarrow's
BLOCK = 2**22
"""Bytes of text that are looked at together; no row may be longer."""


def batches(
    path: Path,
    head: Head,
    wanted: Sequence[int],
    kept: int | None = None,
    coders: Mapping[int, Coder] | None = None,
) -> Iterator[tuple[np.ndarray, Texts]]:
    """Batches of rows as `exact_batches` has them, fast as far as nothing is odd.

    Raises:
        InputError: as `exact_batches`, which reads again what pyarrow does not take.
    """
    import pyarrow

    rows = 0
    try:
        for values, texts in _fast(path, head, wanted, kept, coders or {}):
            yield values, texts
            rows += len(values)
    except pyarrow.ArrowException:
        yield from _after(exact_batches(path, head, wanted, kept, coders), rows)


def _after(
    batches: Iterator[tuple[np.ndarray, Texts]], rows: int
) -> Iterator[tuple[np.ndarray, Texts]]:
    """The batches without the first `rows`."""
    for values, texts in batches:
        if rows < len(values):
            yield values[rows:], texts[rows:]
        rows = max(0, rows - len(values))


def _fast(
    path: Path,
    head: Head,
    wanted: Sequence[int],
    kept: int | None,
    coders: Mapping[int, Coder],
) -> Iterator[tuple[np.ndarray, Texts]]:
    import pyarrow
    from pyarrow import csv

    names = [str(place) for place in range(head.width)]
    labels = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {names[i]: labels if i in coders else pyarrow.float64() for i in wanted}
    plain = kept is None and not coders
    if kept is not None:
        types[names[kept]] = pyarrow.string()
    with unpacked(path) as stream:
        stream.read(head.bytes)
        with csv.open_csv(
            pyarrow.PythonFile(stream, "r"),
            read_options=csv.ReadOptions(column_names=names, block_size=BLOCK),
            parse_options=csv.ParseOptions(
                delimiter=head.separator, quote_char=False if plain else '"'
            ),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[]
            ),
        ) as reader:
            for batch in reader:
                values = np.empty((batch.num_rows, len(wanted)))
                for place, column in enumerate(islice(batch.columns, len(wanted))):
                    coder = coders.get(wanted[place])
                    values[:, place] = column.to_numpy() if coder is None else coder.codes(column)
                yield values, [] if kept is None else batch.columns[-1]
