"""What a reader has found in a source, before anything is asked of the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

LABELS = "biu"
"""Kinds of types that labels can be of."""


@dataclass(frozen=True, eq=False)
class Found:
    """An array as it stands in a file, and what the file says of it.

    Attributes:
        name: of the data set.
        where: the source, for messages.
        array: `[rows, *event_shape]`, boolean, integer or floating; a `numpy.memmap` if large.
        columns: names, one a column, or None.
        labels: integers, `[rows]`, or None.
        test_rows: how many rows at the end are the set's own test rows.
        note: what a reader of numbers must know, such as that images were stored with loss.
        texts: the labels of columns of text, by their number, whose places stand in the array; of
            a category of numbers by its type there are none.
    """

    name: str
    where: str
    array: np.ndarray
    columns: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    test_rows: int = 0
    note: str = ""
    texts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def named(self, name: str, where: str) -> Found:
        """The same under another name."""
        return replace(self, name=name, where=where)


def labels_for(labels: np.ndarray | None, rows: int) -> np.ndarray | None:
    """`labels` as int64 if they can be the labels of `rows` rows, else None."""
    if labels is None or labels.shape != (rows,) or labels.dtype.kind not in LABELS:
        return None
    return labels.astype(np.int64)
