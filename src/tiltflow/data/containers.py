"""What a caller has in memory, as a plain array, and the names of its columns.

A container may mean more than its numbers: what a mask hides is no data, a frame's column may hold
dates. `numpy.asarray` drops that meaning without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltflow.data.categories import Texts
from tiltflow.errors import InputError


def plain(
    source: Any, where: str, texts: Texts | None = None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`source` as an array, and its columns' names if it is a frame (pandas, Polars, pyarrow).

    Args:
        source: an array of any library, a list of rows, a masked array of which nothing is masked,
            or a frame of columns that hold numbers. Missing values of a frame become NaN.
        where: what it is called in messages.
        texts: of a frame's columns of text, which are told as codes; None: they are refused.

    Raises:
        InputError: a masked entry, a sparse matrix, or a column of a frame that holds no numbers.
    """
    if isinstance(source, np.ma.MaskedArray):
        return _unmasked(source, where), None
    if _is_frame(source):
        from tiltflow.data.frames import of_frame

        return of_frame(source, where, texts)
    if hasattr(source, "toarray") and hasattr(source, "nnz"):
        raise InputError(f"{where} is a sparse matrix; expected all numbers: pass its .toarray()")
    return np.asanyarray(source), None  # a map of a file stays one


def by_name(
    array: np.ndarray, names: tuple[str, ...] | None, known: tuple[str, ...] | None
) -> np.ndarray:
    """The columns of a table `[rows, columns]` in the order that a model knows them in.

    Args:
        array: the table.
        names: of its columns; None: they have none, and are taken in their order.
        known: the names that the model knows; None: it knows none.

    Raises:
        InputError: a name that the model knows is not among those of the table.
    """
    if names is None or known is None or names == known:
        return array
    return array[:, places(names, known, "the frame")]


def places(names: tuple[str, ...], known: tuple[str, ...], where: str) -> list[int]:
    """Where the columns that a model knows stand among `names`.

    Raises:
        InputError: one of them is not there, or there are two of one name, as of none.
    """
    if names == known:
        return list(range(len(known)))
    twice = next((name for name in known if names.count(name) > 1 or known.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{where}: the column '{twice:.60}', that the model knows, is not the only one of its "
            f"name; expected a name for each: rename all but one"
        )
    lacking = next((name for name in known if name not in names), None)
    if lacking is not None:
        there = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise InputError(
            f"{where} has no column '{lacking:.60}', that the model knows; expected one of that "
            f"name beside {there:.200}: rename the column that is meant"
        )
    return [names.index(name) for name in known]


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
