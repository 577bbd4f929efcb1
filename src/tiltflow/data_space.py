"""The same model without its latent space: log q(y) + f(y), in the backbone's coordinates y.

Chains on this density, from the same start, show what moving in the latent space is worth. The
backbone must be a flow: log q is then exact, and every y has a latent position.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from tiltflow.backbones.base import Flow
from tiltflow.errors import InputError
from tiltflow.tilted import TiltedModel


class DataSpaceLogDensity(eqx.Module):
    """The tilted model's log-density in coordinates, up to log Z; a pytree.

    Attributes:
        model: its backbone is a flow.
    """

    model: TiltedModel

    def __call__(self, y: Float[Array, "chains dim"]) -> Float[Array, " chains"]:
        """Log q(y) + f(y) of every chain, in nats."""
        backbone, tilt = self.model.backbone, self.model.tilt
        return jax.vmap(lambda one: backbone.log_prob_coordinates(one) + tilt(one))(y)


def data_space_log_density(model: TiltedModel) -> DataSpaceLogDensity:
    """What the samplers of `tiltflow.mcmc` take, for the data-space twin of `model`.

    Raises:
        InputError: the backbone is not a flow.
    """
    if not isinstance(model.backbone, Flow):
        raise InputError(
            f"the backbone is a {type(model.backbone).__name__}; expected a flow: without an exact "
            f"log q there is no density in data space to sample"
        )
    return DataSpaceLogDensity(model)


def data_space_start(
    model: TiltedModel, u: Float[Array, "chains ..."]
) -> Float[Array, "chains dim"]:
    """The coordinates of latent positions: the same start for the twin's chains."""
    return jax.vmap(model.backbone.coordinates)(u)
