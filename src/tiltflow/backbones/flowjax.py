"""A flow of flowjax, or of anything like it, as a backbone.

Needed are a `base_dist` with `log_prob`, which must be standard normal, and a `bijection` with
`shape`, `transform` and `inverse_and_log_det`, both of one example, as flowjax 19 has them. flowjax
itself is not imported.

A sampler goes through `transform` once a leapfrog: an autoregressive flow is wanted with its fast
side there, `masked_autoregressive_flow(..., invert=False)`; a coupling flow is fast on both.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from tiltflow.backbones.base import Flow, standard_normal_log_prob
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError


class FlowjaxFlow(Flow):
    """x = decode(bijection(u)), u ~ N(0, I).

    Attributes:
        bijection: of flowjax; its floating-point arrays are learned, those apart that flowjax
            marks as not trainable.
    """

    units: Units
    bijection: Any
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, distribution: Any, units: Units | None = None) -> None:
        """The flow of a `distribution`, behind `units` at the data's end.

        Args:
            distribution: of x, or, with units, of their coordinates.
            units: None: there are none, as in a distribution that was fitted to data itself.

        Raises:
            InputError: no bijection of a standard normal, one that waits for a condition, or one of
                another shape than the units'.
        """
        if not is_flowjax(distribution):
            raise InputError(
                f"a {type(distribution).__name__} is no flow of flowjax; expected a distribution "
                f"with base_dist and bijection, such as flowjax.flows.coupling_flow makes"
            )
        bijection = distribution.bijection
        if getattr(bijection, "cond_shape", None) is not None:
            raise InputError(
                f"the flow waits for a condition of shape {bijection.cond_shape}; expected a flow "
                f"without one"
            )
        shape = tuple(bijection.shape)
        _check_normal(distribution.base_dist, shape)
        units = identity(shape) if units is None else units
        size = int(np.prod(units.data_shape))
        if int(np.prod(shape)) != size:
            raise InputError(f"the flow has shape {shape}; expected the {size} numbers of the data")
        self.units, self.bijection = units, bijection
        self.latent_shape, self.data_shape = shape, units.data_shape

    def coordinates(self, u: Float[Array, "..."]) -> Float[Array, " dim"]:
        """Noise through the bijection."""
        return self.bijection.transform(u).ravel()

    def inverse(self, y: Float[Array, " dim"]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        """Back through the bijection, and its log-determinant."""
        return self.bijection.inverse_and_log_det(y.reshape(self.latent_shape))


def is_flowjax(value: object) -> bool:
    """Whether it has what the adapter needs."""
    return hasattr(value, "base_dist") and hasattr(value, "bijection")


def _check_normal(base: Any, shape: tuple[int, ...]) -> None:
    """Raises InputError unless log-densities at a few points are those of N(0, I)."""
    u = 2 * jr.normal(jr.key(0), (4, *shape))
    found = jax.vmap(base.log_prob)(u)
    expected = jax.vmap(standard_normal_log_prob)(u)
    if found.shape != expected.shape or not jnp.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise InputError(
            f"the flow's base is a {type(base).__name__} that is not the standard normal; expected "
            f"N(0, I), as in flowjax.distributions.StandardNormal: a latent space needs it"
        )
