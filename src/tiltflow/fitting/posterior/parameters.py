"""Parameters by name, and one row of free numbers for all of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.kinds import Kind, Real

ALONE = "x"
"""The name of what has none."""


@dataclass(frozen=True)
class Parameters:
    """What a density is one of.

    Attributes:
        names: of the parameters.
        kinds: of each.
        named: whether the density takes them by name; if not, it takes the one there is.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    named: bool

    @classmethod
    def of(cls, given: Any, start: Any = None) -> "Parameters":
        """From what the user has said: a dict of kinds, one kind, a number of reals, or nothing.

        Raises:
            InputError: none of these, or nothing and no array to start from.
        """
        if given is None and start is not None and not isinstance(start, Mapping):
            shape = np.shape(start)
            given = int(tuple(shape)[-1]) if len(shape) == 2 else None
        if isinstance(given, Kind):
            return cls((ALONE,), (given,), False)
        if isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 1:
            return cls((ALONE,), (Real(int(given)),), False)
        if isinstance(given, Mapping) and given:
            for name, kind in given.items():
                if not (isinstance(name, str) and isinstance(kind, Kind)):
                    raise InputError(
                        f"parameter {name!r} is {kind!r:.60}; expected a name and a kind, such as "
                        f"Real(), Positive() or Interval(0, 1)"
                    )
            return cls(tuple(given), tuple(given.values()), True)
        raise InputError(
            f"parameters are {given!r:.60}; expected a dict of kinds by name, as in "
            f"{{'mu': Real(), 'tau': Positive()}}, or the number of real parameters"
        )

    @property
    def size(self) -> int:
        """How many free numbers there are in all."""
        return sum(kind.size for kind in self.kinds)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each free number: that of its parameter, and its place."""
        return tuple(
            name if kind.size == 1 else f"{name}[{place}]"
            for name, kind in zip(self.names, self.kinds, strict=True)
            for place in range(kind.size)
        )

    def natural(self, u: Float[Array, " size"]) -> tuple[dict[str, Array], Float[Array, ""]]:
        """Values by name, and the sum of the log-weights of their kinds."""
        values, log_weight, first = {}, jnp.zeros((), u.dtype), 0
        for name, kind in zip(self.names, self.kinds, strict=True):
            values[name], each = kind.natural(u[first : first + kind.size])
            log_weight, first = log_weight + each, first + kind.size
        return values, log_weight

    def free(self, values: Any, rng: np.random.Generator, what: str) -> np.ndarray:
        """Draws in natural coordinates to free numbers `[n, size]`, float64.

        Args:
            values: a dict of arrays `[n, *shape]` by name, or that array where there is one.
            rng: where a value does not say all.
            what: what the user calls them, for messages.

        Raises:
            InputError: a name that is missing, a wrong shape, or a value outside.
        """
        if not isinstance(values, Mapping):
            if len(self.names) > 1:
                raise InputError(
                    f"the {what} is {_what(values)}; expected a dict with {_listed(self.names)}"
                )
            values = dict.fromkeys(self.names, values)
        parts = []
        for name, kind in zip(self.names, self.kinds, strict=True):
            if name not in values:
                raise InputError(
                    f"the {what} has no {name!r}; expected draws of {_listed(self.names)}"
                )
            parts.append(_free(name, kind, values[name], rng, what))
        if more := [name for name in values if name not in self.names]:
            raise InputError(
                f"the {what} has {more[0]!r}, which is no parameter; expected draws of "
                f"{_listed(self.names)}"
            )
        if len({len(part) for part in parts}) > 1:
            numbers = [len(part) for part in parts]
            raise InputError(f"the {what} has {numbers} draws by parameter; expected as many each")
        return np.concatenate(parts, axis=1)

    def caller(self, function: Callable[..., Any]) -> str:
        """How `function` takes its values: `"names"` as keywords, `"dict"`, or `"array"`."""
        if not self.named:
            return "array"
        try:
            taken = set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            taken = set()
        return "names" if taken >= set(self.names) and len(self.names) <= len(taken) else "dict"


def _free(name: str, kind: Kind, values: Any, rng: np.random.Generator, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"the {what} of {name!r} does not hold numbers; expected draws") from None
    if array.ndim == 0 or array.shape[1:] != kind.shape:
        raise InputError(
            f"the {what} of {name!r} has shape {array.shape}; expected [draws, "
            f"{', '.join(map(str, kind.shape))}]"
        )
    if not len(array):
        raise InputError(f"the {what} of {name!r} has no draws; expected some")
    if not (inside := kind.inside(array)).all():
        raise InputError(
            f"the {what} of {name!r} has {np.sum(~inside)} of {len(array)} draws outside, the "
            f"first number {int(np.argmin(inside))}; expected {kind.where}"
        )
    return kind.free(array, rng)


def _what(values: Any) -> str:
    return f"{values!r:.40}" if isinstance(values, str) or np.ndim(values) == 0 else "an array"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
