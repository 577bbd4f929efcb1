"""A backbone of the user's own: an object, or a function that makes one over fitted units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.random as jr
from jaxtyping import PRNGKeyArray

from tiltflow.backbones.base import Backbone, Flow
from tiltflow.backbones.flowjax import FlowjaxFlow, is_flowjax
from tiltflow.backbones.pushforward import Pushforward
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError

MakesFlow = Callable[..., Flow]
"""Called as (units, key=key), once units are fitted: such as a class of flows."""


@dataclass(frozen=True)
class Kept:
    """A flow that `tiltflow.fit` takes as it is, in place of learning it.

    Attributes:
        flow: a `Flow` of this library or of the user's own, or a distribution of flowjax.
    """

    flow: Any


def as_backbone(own: Any, units: Units | None = None, *, key: PRNGKeyArray | None = None) -> Any:
    """The backbone that is meant, before it is learned.

    Args:
        own: a `Backbone`, a distribution of flowjax, one of them in `Kept`, or `MakesFlow`.
        units: for `MakesFlow`.
        key: for `MakesFlow`.

    Raises:
        InputError: none of these; a generator without noise, which has no likelihood to judge by.
    """
    own = own.flow if isinstance(own, Kept) else own
    if is_flowjax(own):
        return FlowjaxFlow(own)
    if not isinstance(own, Backbone) and callable(own) and units is not None:
        own = own(units, key=jr.key(0) if key is None else key)
    if isinstance(own, Pushforward):
        raise InputError(
            "a generator without noise has no density, so that no fit of it can be judged; "
            "expected one with noise: Generator.from_function(..., noise=0.1)"
        )
    if not isinstance(own, Backbone):
        raise InputError(
            f"the backbone is a {type(own).__name__}; expected a name, a tiltflow.backbones."
            f"Backbone, a distribution of flowjax, or a function of (units, key=key) that "
            f"returns a flow"
        )
    return own


def is_learned(own: Any) -> bool:
    """Whether `fit` learns it: what has an exact likelihood, unless it is `Kept`."""
    if isinstance(own, Kept):
        return False
    return isinstance(own, Flow) or not isinstance(own, Backbone)
