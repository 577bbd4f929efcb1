"""What every tilt is: coordinates in, a scalar out, and a level that is not learned."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Tilt(eqx.Module):
    """f(c) for coordinates c of shape `[dim]`; larger f is more probable.

    Attributes:
        level: is subtracted from f. f's level is free (log Z takes it up); learners set it so
            that f stays near 0 where the samples are (system.md's gauge).
    """

    level: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c); a key is for what is random in training, such as dropout."""


class Frozen(Tilt):
    """A tilt that is not learned further, such as the first stage of two."""

    tilt: Tilt
    level: Float[Array, ""]

    def __init__(self, tilt: Tilt) -> None:
        """`tilt`, its own level included."""
        self.tilt = tilt
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c), without dropout, and without a gradient in its weights."""
        arrays, rest = eqx.partition(self.tilt, eqx.is_array)
        tilt: Tilt = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        return tilt(c) - jax.lax.stop_gradient(self.level)


def freeze(tilt: Tilt) -> tuple[Any, Any]:
    """The tilt's trained parameters, and the rest: levels, and all of what is `Frozen`."""

    def trained(path: tuple, node: Any) -> Any:
        if isinstance(node, Frozen):
            return False
        name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[2]
        return eqx.is_inexact_array(node) and name != "level"

    spec = jax.tree_util.tree_map_with_path(
        trained, tilt, is_leaf=lambda node: isinstance(node, Frozen)
    )
    return eqx.partition(tilt, spec)
