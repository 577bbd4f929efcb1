"""What a caller has in memory, as a plain array, and the names of its columns.

A container may mean more than its numbers: what a mask hides is no data, a frame's column may hold
dates. `numpy.asarray` drops that meaning without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltflow.errors import InputError


def plain(source: Any, where: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`source` as an array, and its columns' names if it is a frame (pandas, Polars, pyarrow).

    Args:
        source: an array of any library, a list of rows, a masked array of which nothing is masked,
            or a frame of columns that hold numbers. Missing values of a frame become NaN.
        where: what it is called in messages.

    Raises:
        InputError: a masked entry, a sparse matrix, or a column of a frame that holds no numbers.
    """
    if isinstance(source, np.ma.MaskedArray):
        return _unmasked(source, where), None
    if _is_frame(source):
        from tiltflow.data.frames import of_frame

        return of_frame(source, where)
    if hasattr(source, "toarray") and hasattr(source, "nnz"):
        raise InputError(f"{where} is a sparse matrix; expected all numbers: pass its .toarray()")
    return np.asanyarray(source), None  # a map of a file stays one


def _is_frame(source: Any) -> bool:
    """Whether a container has named columns; frames that are yet to be computed, too."""
    kind = type(source)
    return hasattr(kind, "columns") and any(
        hasattr(kind, name) for name in ("dtypes", "schema", "column_names")
    )


def _unmasked(source: np.ma.MaskedArray, where: str) -> np.ndarray:
    mask = np.ma.getmaskarray(source)
    if mask.any():
        row, *position = (int(i) for i in np.argwhere(mask)[0])
        rows = int(mask.reshape(len(mask), -1).any(axis=1).sum())
        at = f"column {position[0]}" if len(position) == 1 else f"entry {tuple(position)}"
        raise InputError(
            f"{where} has masked values in {rows} of {len(mask)} rows, first at row {row}, {at}; "
            f"expected a number everywhere: fill them in or drop the rows"
        )
    return np.asarray(source)
