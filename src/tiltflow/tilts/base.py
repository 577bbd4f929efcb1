"""What every tilt is: coordinates in, a scalar out, and a level that is not learned."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError


class ReadsCoordinates(eqx.Module):
    """A function of a backbone's coordinates c, `[dim]`, to a scalar: its type says so.

    Whatever is not of this type, such as a plain function, reads x in data units (`data.py`).
    """

    @abc.abstractmethod
    def __call__(self, c: Float[Array, " dim"], /) -> Float[Array, ""]:
        """f(c); larger is more probable."""


class Tilt(ReadsCoordinates):
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

    tilt: ReadsCoordinates
    level: Float[Array, ""]

    def __init__(self, tilt: ReadsCoordinates) -> None:
        """`tilt`, its own level included."""
        self.tilt = tilt
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c), without dropout, and without a gradient in its weights."""
        arrays, rest = eqx.partition(self.tilt, eqx.is_array)
        tilt: ReadsCoordinates = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        return tilt(c) - jax.lax.stop_gradient(self.level)


def freeze(tilt: Tilt) -> tuple[Any, Any]:
    """The tilt's trained parameters, and the rest: levels, units, and all of what is `Frozen`."""

    def trained(path: tuple, node: Any) -> Any:
        if isinstance(node, Frozen | Units):
            return False
        name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[2]
        return eqx.is_inexact_array(node) and name != "level"

    spec = jax.tree_util.tree_map_with_path(
        trained, tilt, is_leaf=lambda node: isinstance(node, Frozen | Units)
    )
    return eqx.partition(tilt, spec)


def is_kept(tilt: Tilt) -> bool:
    """Whether there is nothing in it to learn: it stays as it is, level included."""
    return not jax.tree.leaves(freeze(tilt)[0])


def check_scalar(function: Callable[..., Any], shape: tuple[int, ...], what: str) -> None:
    """Raises InputError unless `function`, called `what`, maps one example of `shape` to a scalar.

    It is traced, and not evaluated.
    """
    try:
        example = jax.ShapeDtypeStruct(shape, jnp.float32)
        value = eqx.filter_eval_shape(lambda f, x: f(x), function, example)
    except (TypeError, ValueError, IndexError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(
            f"the {what} fails for one example of shape {shape} ({first:.200}); "
            f"expected a JAX function of that shape to a scalar"
        ) from error
    found = getattr(value, "shape", () if isinstance(value, float | int) else None)
    if found != ():
        raise InputError(
            f"the {what} of one example of shape {shape} has shape {found}; expected a "
            f"scalar: write it for one example, not for a batch"
        )
