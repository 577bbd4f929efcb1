"""A density with all that belongs to it, as a file or a model of another library gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Given(NamedTuple):
    """What `tiltflow.posterior` takes, in one.

    Attributes:
        log_density, parameters, start, data, gradient: as its arguments of these names.
    """

    log_density: Callable[..., Any]
    parameters: Any
    start: Any = None
    data: Any = None
    gradient: Any = "jax"
