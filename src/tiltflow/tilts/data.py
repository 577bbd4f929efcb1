"""A function of the user's own as a tilt: of data x, or of coordinates; which one its type says.

A plain function means x in data units, since that is what its author has in mind: a backbone's
coordinates are the data shifted and scaled, or bent. What it is not told it reads wrongly, and
the log Z of f(coordinates) is as certain as that of f(x), and another number.

No log-determinant comes in: f is a scalar at a point, wherever the point is written down.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import Backbone
from tiltflow.backbones.generator import Generator
from tiltflow.backbones.prior import Prior
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError
from tiltflow.tilts.base import Frozen, ReadsCoordinates, Tilt, check_scalar
from tiltflow.tilts.network import NetworkTilt, takes_key


class DataTilt(ReadsCoordinates):
    """f(x) of x in data units (`data_shape`), for coordinates of a backbone.

    Attributes:
        function: one example x to a scalar, in JAX. Integers come dequantised: k as a number in
            (k, k + 1). If it is a pytree, such as an Equinox module, its arrays can be learned.
        units: the backbone's, which lead from coordinates to x.
        skip: so many coordinates come before those of x: the z of a generator.
        takes_key: whether it is called with `key=` in training, for dropout and the like.
    """

    function: Callable[..., Float[Array, ""]]
    units: Units
    skip: int = eqx.field(static=True)
    takes_key: bool = eqx.field(static=True)

    def __init__(self, function: Callable[..., Any], backbone: Backbone) -> None:
        """`function` of what `backbone` makes.

        Raises:
            InputError: no function of one example to a scalar; a backbone whose coordinates do not
                determine x, which is a generator seen from its z.
        """
        if isinstance(backbone, Prior):
            raise InputError(
                "a function of data x over a Prior, whose coordinates are z alone; expected "
                "the generator itself as backbone, or a function of z in "
                "tiltflow.tilts.CoordinateTilt"
            )
        _check_callable(function)
        check_scalar(_inference(function), backbone.data_shape, "tilt")
        self.function, self.units = function, backbone.units
        self.skip = backbone.z_dim if isinstance(backbone, Generator) else 0
        self.takes_key = takes_key(function)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(x) at the x of coordinates c."""
        x = self.units.decode(c[self.skip :])
        return _called(self.function, x, key if self.takes_key else None)


class CoordinateTilt(ReadsCoordinates):
    """f(c): says of a function that it is one of coordinates, `[dim]`, to a scalar.

    Attributes:
        function: if it is a pytree its arrays can be learned.
        takes_key: as of `DataTilt`.
    """

    function: Callable[..., Float[Array, ""]]
    takes_key: bool = eqx.field(static=True)

    def __init__(self, function: Callable[..., Any]) -> None:
        """`function`, in JAX. InputError if it cannot be called."""
        _check_callable(function)
        self.function, self.takes_key = function, takes_key(function)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c)."""
        return _called(self.function, c, key if self.takes_key else None)


def as_tilt(tilt: Any, backbone: Backbone) -> ReadsCoordinates:
    """The one rule: what does not say by its type that it reads coordinates reads data.

    Raises:
        InputError: as `DataTilt`.
    """
    return tilt if isinstance(tilt, ReadsCoordinates) else DataTilt(tilt, backbone)


def as_learned(tilt: Any, backbone: Backbone) -> Tilt:
    """What learners take: a network behind a gate; what has nothing to learn as it is, frozen.

    Raises:
        InputError: as `DataTilt`.
    """
    tilt = as_tilt(tilt, backbone)
    if isinstance(tilt, Tilt):
        return tilt
    own = tilt.function if isinstance(tilt, DataTilt | CoordinateTilt) else None
    learns = any(_is_learned(leaf) for leaf in jax.tree.leaves(own))
    return NetworkTilt(tilt) if learns else Frozen(tilt)


def _is_learned(leaf: object) -> bool:
    """Whether it is an array of floats, or the shape of one, as skeletons have them."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
    return eqx.is_inexact_array(leaf)


def _called(function: Callable[..., Any], value: Array, key: PRNGKeyArray | None) -> Array:
    return _inference(function)(value) if key is None else function(value, key=key)


def _inference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without dropout, if it is a network that has any."""
    return eqx.nn.inference_mode(function)


def _check_callable(function: object) -> None:
    if not callable(function):
        raise InputError(
            f"the tilt is a {type(function).__name__}; expected a tiltflow.tilts.Tilt, or a "
            f"function of one example to a scalar"
        )
