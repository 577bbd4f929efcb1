"""A function of the user's, outside of JAX: how it takes values by name, one example or many."""

from __future__ import annotations

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
    each, many = np.asarray(each, np.float64), np.asarray(many, np.float64)
    alike = each.shape == many.shape
    return alike and bool(np.allclose(each, many, rtol=1e-6, atol=1e-9, equal_nan=True))
