"""A normal density as backbone: coordinates are the noise, and the units hold mean and covariance.

Over affine units, whitened ones above all, q is N(mean, covariance) in data units: the density by
maximum likelihood, and the latent space of tilts that begin with a mixture (`tilts/mixture.py`).
Over any other units it is what these make of independent normals.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiltflow.backbones.base import Flow
from tiltflow.backbones.units.bijections import Units


class Gaussian(Flow):
    """The flow that changes nothing: u = y. There is nothing in it to learn.

    Attributes:
        units: from data to y; `units.normal.affine_of` makes them of a mean and a covariance.
    """

    units: Units
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, units: Units) -> None:
        """N(0, I) in the coordinates of fitted `units`."""
        self.units, self.data_shape = units, units.data_shape
        self.latent_shape = (math.prod(units.data_shape),)

    def coordinates(self, u: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """u itself."""
        return u

    def inverse(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y itself, and log|det du/dy| = 0."""
        return y, jnp.zeros((), y.dtype)
