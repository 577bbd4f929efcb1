"""Python and NumPy values as JSON and TOML text.

Arrays of any library become nested lists, zero-dimensional ones numbers; paths become strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w


def to_json(value: Any, *, indent: int | None = None, ascii: bool = False) -> str:
    """JSON, keys in their order, NaN and infinities as null; in `ascii`, other signs escaped.

    Raises:
        TypeError: `value` holds something that is neither JSON nor one of the above.
    """
    plain = _plain(value, lambda leaf: leaf if math.isfinite(leaf) else None)
    return json.dumps(plain, indent=indent, ensure_ascii=ascii, allow_nan=False)


def to_toml(table: Mapping[str, Any]) -> str:
    """TOML, keys in their order; entries that are None, for which it has no word, are left out.

    Raises:
        TypeError: `table` holds something that is neither TOML nor one of the above.
    """
    return tomli_w.dumps(_without_none(_plain(table, float)))


def _plain(value: Any, number: Callable[[float], Any]) -> Any:
    """`value` in dicts and lists, with `number` applied to its floats."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, number) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, number) for item in value]
    if isinstance(value, float):
        return number(float(value))
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist(), number)
    return value


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(item) if isinstance(item, dict) else item
        for key, item in table.items()
        if item is not None
    }
