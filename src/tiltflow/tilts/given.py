"""A given density as a tilted model: f(x) = l(x) - log q(x), so that p is exp(l), normalised.

With an unnormalised log-density l in place of data, the same model, samplers and normalisers
serve: the latent density becomes l(g(u)) + log|det J_g(u)|, which is neural transport (Hoffman et
al. 2019, arXiv 1903.03704), and Z, an expectation under the backbone, is the integral of exp(l):
the evidence, where l is a likelihood plus a normalised prior.
"""

from collections.abc import Callable

from jaxtyping import Array, Float

from tiltflow.backbones.base import Flow
from tiltflow.tilts.base import ReadsCoordinates, check_scalar


class GivenTilt(ReadsCoordinates):
    """f(y) = l(x) - log q(x) for coordinates y of x, both in data units.

    Attributes:
        log_density: l, from one example x (`data_shape`) to a scalar, in nats; differentiable.
            It may be a pytree; its arrays are then traced.
        backbone: the flow q that the model is made of.
    """

    log_density: Callable[[Float[Array, "..."]], Float[Array, ""]]
    backbone: Flow

    def __check_init__(self) -> None:
        """Raises InputError unless l maps one example to a scalar."""
        check_scalar(self.log_density, self.backbone.data_shape, "log-density")

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """f(y); costs an inverse pass of the flow beside l."""
        x = self.backbone.units.decode(y)
        log_det = self.backbone.units.encode_and_log_det(x)[1]
        return self.log_density(x) - self.backbone.log_prob_coordinates(y) - log_det
