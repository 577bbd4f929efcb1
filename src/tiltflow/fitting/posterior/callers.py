"""A function of the user's, outside of JAX: how it takes values by name, one example or many."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tiltflow.fitting.posterior.parameters import Parameters


class Caller:
    """A function for one example, which a pool can send away if the function can be.

    Attributes:
        function, data: of the user.
        takes: how it takes its values (`Parameters.caller`).
        batched: whether it takes many examples at once as well.
    """

    def __init__(self, function: Callable[..., Any], parameters: Parameters, data: Any) -> None:
        """Of one example, for the present."""
        self.function, self.data, self.batched = function, data, False
        self.takes = parameters.caller(function)

    def __call__(self, values: dict[str, np.ndarray]) -> Any:
        """Of values by name; those that have no shape come as floats."""
        return self.of({name: float(v) if np.ndim(v) == 0 else v for name, v in values.items()})

    def of(self, values: dict[str, Any]) -> Any:
        """Of values as they are, those of many examples perhaps."""
        given = () if self.data is None else (self.data,)
        if self.takes == "names":
            return self.function(*given, **values)
        alone = next(iter(values.values())) if self.takes == "array" else values
        return self.function(alone, *given)


def advice(function: Callable[..., Any], parameters: Parameters, data: Any) -> str:
    """What to do about a function that has failed, as far as its arguments tell."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ""
    needed = [
        p.name
        for p in given
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    names = ", ".join(parameters.names)
    if not parameters.named:
        return f"; it takes {', '.join(needed)}, but gets one array" if len(needed) > 1 else ""
    unknown = [name for name in needed if name not in parameters.names]
    if parameters.caller(function) == "names":
        if data is not None and not unknown:
            return "; data is handed to it first: give it an argument for it"
        unknown = unknown[1:] if data is not None else unknown
        if not unknown:
            return ""
        return f"; its argument {unknown[0]!r} is no parameter: add it there, or give it a default"
    lacking = [name for name in parameters.names if name not in needed]
    if len(needed) > 1 + (data is not None):
        return f"; it takes {', '.join(needed)}, and the parameters are {names}: name them alike"
    return f"; it gets a dict of {names}, unless its arguments are called so" if lacking else ""


def row_of(stacked: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """One example of many, by name."""
    return {name: values[row] for name, values in stacked.items()}


def tried(function: Callable[..., Any], given: Any) -> tuple[Any, str]:
    """What it returns, or None and what it said."""
    try:
        with np.errstate(all="ignore"):
            return function(given), ""
    except Exception as error:  # whatever the user's function raises
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"


def same(each: Any, many: Any) -> bool:
    """Whether two arrays are alike, but for rounding."""
    each, many = np.asarray(each), np.asarray(many)
    if not all(np.issubdtype(found.dtype, np.floating) for found in (each, many)):
        return False
    alike = each.shape == many.shape
    return alike and bool(np.allclose(each, many, rtol=1e-6, atol=1e-9, equal_nan=True))
