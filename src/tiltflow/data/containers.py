"""What a caller has in memory, as a plain array, and the names of its columns.

A container may mean more than its numbers: what a mask hides is no data, a frame's column may hold
dates. `numpy.asarray` drops that meaning without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltflow.errors import InputError

KINDS = "biuf"  # of NumPy's types, that are numbers
NUMBER = (int, float, np.number, np.bool_)  # what else stands in a nullable column is missing


def plain(source: Any, where: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`source` as an array, and its columns' names if it is a frame (pandas, Polars).

    Args:
        source: an array of any library, a list of rows, a masked array of which nothing is masked,
            or a frame of columns that hold numbers. Missing values of a frame become NaN.
        where: what it is called in messages.

    Raises:
        InputError: a masked entry, a sparse matrix, or a column of a frame that holds no numbers.
    """
    if isinstance(source, np.ma.MaskedArray):
        return _unmasked(source, where), None
    if hasattr(source, "columns") and hasattr(source, "dtypes"):
        return _of_frame(source, where)
    if hasattr(source, "toarray") and hasattr(source, "nnz"):
        raise InputError(f"{where} is a sparse matrix; expected all numbers: pass its .toarray()")
    return np.asanyarray(source), None  # a map of a file stays one


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


def _of_frame(frame: Any, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    names = tuple(map(str, frame.columns))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where} has more than one column '{twice[0]:.60}'; rename all but one")
    if not names:
        raise InputError(f"{where} has no columns; expected a frame of numbers")
    pairs = zip(frame.columns, names, strict=True)
    return np.stack([_numbers(frame[key], name, where) for key, name in pairs], axis=1), names


def _numbers(series: Any, name: str, where: str) -> np.ndarray:
    """A column of a frame, as numbers."""
    kind = str(series.dtype)
    values = series.to_numpy()
    if values.dtype.kind in KINDS:
        return values
    nullable = kind.lower().startswith(("int", "uint", "float", "bool", "double"))
    if values.dtype == object and nullable:
        return np.array([float(v) if isinstance(v, NUMBER) else np.nan for v in values])
    raise InputError(
        f"{where}: column '{name:.60}' holds {kind:.60}; expected numbers: leave it out, or give "
        f"its values numbers"
    )
