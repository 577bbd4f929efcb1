"""Programs that are compiled lightly where the density is cheap, since compiling is most of a run.

At the first level of optimisation XLA compiles in some 60% of the time, and what it makes runs at
most half as long again; of ten seconds of evaluations of a cheap density eight are compilation. A
density that takes long (`Target.light` is False) is compiled well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import equinox as eqx

from tiltflow.parallel.devices import QUICKLY

LIGHTLY = {"xla_backend_optimization_level": 1}
Given = ParamSpec("Given")
Made = TypeVar("Made")


class HasLight(Protocol):
    """What says how it is to be compiled."""

    @property
    def light(self) -> bool:
        """Whether lightly."""
        ...


Light = TypeVar("Light", bound=HasLight)


def compiled(
    function: Callable[Concatenate[Light, Given], Made],
) -> Callable[Concatenate[Light, Given], Made]:
    """`equinox.filter_jit` of a function whose first argument says how well it is compiled."""
    well, lightly = eqx.filter_jit(function), lightly_compiled(function)

    @wraps(function)
    def program(target: Light, *rest: Given.args, **named: Given.kwargs) -> Made:
        return (lightly if target.light else well)(target, *rest, **named)

    return program


def lightly_compiled(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """The same for a function that runs for a short time whatever the density is."""
    return _compiled_by(LIGHTLY, function)


def once_compiled(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """The same for a function that runs once or twice: not optimised at all."""
    return _compiled_by(QUICKLY, function)


def _compiled_by(options: dict[str, Any], function: Callable[Given, Made]) -> Callable[Given, Made]:
    jit: Any = eqx.filter_jit
    return jit(function, compiler_options=options)
