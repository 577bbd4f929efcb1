"""Frames of any library that narwhals knows (pandas, Polars, pyarrow, ...), as numbers with names.

What a column means is not lost on the way: missing values become NaN, decimals and nullable types
are the numbers that they are, text and categories are labels, and a column of anything else is
named.
"""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from tiltflow.data.categories import Texts, is_written_number
from tiltflow.errors import InputError

KINDS = "biuf"  # of NumPy's types, that are numbers
NUMBER = (int, float, np.number, np.bool_)
LABELLED = ("text", "categories")
ADVICE = {
    "text": "give its values numbers, or leave it out",
    "categories": "give them numbers, such as their codes, or leave it out",
    "dates": "give them numbers, such as seconds since a day of your choice, or leave it out",
    "other": "leave it out, or give its values numbers",
}


def as_frame(source: Any) -> Any:
    """The frame as narwhals has it; None: it is none, or of a library that narwhals cannot read.

    Frames that are computed when they are looked at (Polars' `LazyFrame`, ...) are computed.
    """
    frame = nw.from_native(source, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return frame if isinstance(frame, nw.DataFrame) else None


def of_frame(
    source: Any, where: str, texts: Texts | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers of a frame, `[rows, columns]`, and the names of its columns.

    Args:
        source: the frame.
        where: what it is called in messages.
        texts: of the columns of text and of categories, whose codes are told as numbers; None:
            they are refused.

    Raises:
        InputError: no columns, two of one name, one that holds no numbers.
    """
    names = _names(source)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where} has more than one column '{twice[0]:.60}'; rename all but one")
    if not names:
        raise InputError(f"{where} has no columns; expected a frame of numbers")
    frame = as_frame(source)
    if frame is None:
        raise InputError(
            f"{where} is a {type(source).__name__}, a frame that cannot be read; expected one of "
            f"pandas, Polars or pyarrow: convert it, or pass an array"
        )
    columns = [
        _numbers(frame[key], name, where, texts, name or str(i))
        for i, (key, name) in enumerate(zip(frame.columns, names, strict=True))
    ]
    return np.stack(columns, axis=1), names


def _names(source: Any) -> tuple[str, ...]:
    """The names as they stand there, before a library refuses two of one name in its own words."""
    if hasattr(source, "collect_schema"):
        return tuple(source.collect_schema().names())
    return tuple(map(str, getattr(source, "column_names", source.columns)))


def _numbers(series: Any, name: str, where: str, texts: Texts | None, key: str) -> np.ndarray:
    """A column, as numbers."""
    kind = series.dtype
    if texts is not None and ((texts.fixed and texts.wants(key)) or _words(kind) in LABELLED):
        codes = _codes(series, name, where, texts, key)
        if codes is not None:
            return codes
    known = kind == nw.Boolean or kind.is_numeric()
    if known and (series.null_count() or kind.is_decimal()):
        return series.cast(nw.Float64).to_numpy().astype(np.float64)
    words, kind_name = _words(kind), _kind_name(series)
    if words == "other":  # numbers, or a type that narwhals does not know
        values = np.asarray(series.to_numpy())
        if values.dtype.kind in KINDS:
            return values
    if kind == nw.Object:
        raise InputError(_of_object(series, name, where))
    raise InputError(
        f"{where}: column '{name:.60}' holds {kind_name:.60}; expected numbers: {ADVICE[words]}"
    )


def _codes(series: Any, name: str, where: str, texts: Texts, key: str) -> np.ndarray | None:
    """A column of labels, as codes; None: it is none of the text that a model knows."""
    missing = series.is_null().to_numpy()
    if missing.any() and not texts.gaps:
        row = int(np.argmax(missing))
        raise InputError(
            f"{where}: column '{name:.60}', row {row} is missing; expected a label: fill it in or "
            f"drop the row"
        )
    coder = texts.coder(key, category=_words(series.dtype) == "categories")
    codes = coder.codes([label or "" for label in series.cast(nw.String).to_list()])
    codes[missing] = np.nan
    if not texts.fixed or texts.wants(key):
        return codes
    if not all(map(is_written_number, coder.known)):
        return None
    return np.array(coder.known, float)[codes.astype(np.int64)]


def _words(kind: Any) -> str:
    if kind == nw.String:
        return "text"
    if kind in (nw.Categorical, nw.Enum):
        return "categories"
    return "dates" if kind.is_temporal() else "other"


def _kind_name(series: Any) -> str:
    """The type as the frame's own library calls it."""
    native = series.to_native()
    return str(getattr(native, "dtype", None) or getattr(native, "type", series.dtype))


def _of_object(series: Any, name: str, where: str) -> str:
    """What is said of a column of Python objects: the first that is no number."""
    values = np.asarray(series.to_numpy(), object)
    row = next((i for i, value in enumerate(values) if not isinstance(value, NUMBER)), None)
    if row is None:
        return (
            f"{where}: column '{name:.60}' holds numbers as Python objects; expected a type of "
            f"numbers: convert it to one, such as float"
        )
    return (
        f"{where}: column '{name:.60}' holds objects, in row {row} {str(values[row])!r:.40}; "
        f"expected numbers: {ADVICE['other']}"
    )
