"""Any function of normal noise, without noise of its own: draws, but no density.

Where the function's noise is smaller than data, or folded, x lies on a surface and q(x) is not a
density at all. A tilt of x can be sampled, normalised and learned (log Z and the latent density
need q's draws alone), but no likelihood can be told.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiltflow.backbones.base import Backbone
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError


class Pushforward(Backbone):
    """x = function(u), u ~ N(0, I); coordinates are those of x.

    Attributes:
        function: u (`latent_shape`) to x (`data_shape`), one example, differentiable.
    """

    units: Units
    function: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, units: Units, function: Callable[[Array], Array], latent_shape: tuple[int, ...]
    ) -> None:
        """`function` in front of `units`."""
        self.units, self.function = units, function
        self.latent_shape, self.data_shape = latent_shape, units.data_shape

    def coordinates(self, u: Float[Array, "..."]) -> Float[Array, " dim"]:
        """The coordinates of function(u)."""
        return self.units.encode(self.function(u))

    def push(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The function itself."""
        return jnp.asarray(self.function(u))

    def log_prob_coordinates(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """There is none: raises InputError."""
        raise InputError(
            "a generator without noise (sigma = 0) has no density, so no likelihood: sample it, "
            "learn its tilt with learner='nce', or give it noise"
        )
