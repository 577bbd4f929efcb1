"""The same model without its latent space: log q + f, on data x or on coordinates y.

Chains on these densities, from the same start, show what moving in the latent space is worth. Data
x are what a user would sample; coordinates y are x after the units' bijection, which may have done
half of the flow's work: `Gaussianise` leaves every column standard normal. The backbone must be a
flow: log q is then exact, and every point has a latent position.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from tiltflow.backbones.base import Flow
from tiltflow.errors import InputError
from tiltflow.model.tilted import TiltedModel


class DataSpaceLogDensity(eqx.Module):
    """The tilted model's log-density without its latent space, up to log Z; a pytree.

    Attributes:
        model: its backbone is a flow.
        of_data: whether chains are data x, `data_shape`, or coordinates y, `[dim]`.
    """

    model: TiltedModel
    of_data: bool = eqx.field(static=True, default=False)

    def __call__(self, position: Float[Array, "chains ..."]) -> Float[Array, " chains"]:
        """Log q + f of every chain, in nats, in the units that it moves in."""
        backbone, tilt = self.model.backbone, self.model.tilt
        if self.of_data:
            return jax.vmap(lambda x: self.model.log_prob(x, 0.0))(position)
        return jax.vmap(lambda y: backbone.log_prob_coordinates(y) + tilt(y))(position)


def data_space_log_density(model: TiltedModel, *, of_data: bool = False) -> DataSpaceLogDensity:
    """What the samplers of `tiltflow.mcmc` take, for the data-space twin of `model`.

    Args:
        model: with a flow as backbone.
        of_data: whether its chains are data, or coordinates.

    Raises:
        InputError: the backbone is not a flow.
    """
    if not isinstance(model.backbone, Flow):
        raise InputError(
            f"the backbone is a {type(model.backbone).__name__}; expected a flow: without an exact "
            f"log q there is no density in data space to sample"
        )
    return DataSpaceLogDensity(model, of_data)


def data_space_start(
    model: TiltedModel, u: Float[Array, "chains ..."], *, of_data: bool = False
) -> Float[Array, "chains ..."]:
    """The data or coordinates of latent positions: the same start for the twin's chains."""
    return jax.vmap(model.backbone.push if of_data else model.backbone.coordinates)(u)
