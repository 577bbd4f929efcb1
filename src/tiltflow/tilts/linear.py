"""A tilt that is linear in what the members of an ensemble say: a few weights, convex to learn.

    g(y) = w_0 log q(y) + sum_j w_j (log q_j(y) - log q(y)) + w_n h(y),
    f(y) = g(y) - softplus(g(y) - ceiling),

of the ensemble q, its members q_j, and a network h, if there is one. It makes the model a product
of its members' powers where that is nearer to the data than their mixture; w_0 below 0 flattens
it, above 0 sharpens it. As f stays below its ceiling, exp f has all moments under q whatever its
tail was, and chains whose proposals are exact draws of q are uniformly ergodic: each transition
forgets a share exp(log Z - ceiling) of where the chain was, at least (Mengersen and Tweedie 1996,
theorem 2.1).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Ensemble
from tiltflow.tilts.base import Tilt


class LinearTilt(Tilt):
    """f of an ensemble's coordinates.

    Attributes:
        ensemble: whose members are weighed; it is not learned.
        network: that is one more feature, as it is; None: there is none.
        weights: `[features]`: of log q, of each member's log-ratio, the transport's first, and of
            the network.
        ceiling: of f before the level is subtracted, in nats; infinite: there is none.
        level: is subtracted.
    """

    ensemble: Ensemble
    network: Tilt | None
    weights: Float[Array, " features"]
    ceiling: Float[Array, ""]
    level: Float[Array, ""]

    def __init__(
        self,
        ensemble: Ensemble,
        weights: Array,
        level: float | Array = 0.0,
        *,
        ceiling: float | Array = math.inf,
        network: Tilt | None = None,
    ) -> None:
        """These weights of the members, and of the network."""
        self.ensemble, self.network = ensemble, network
        self.weights, self.ceiling, self.level = (
            jnp.asarray(x, jnp.float32) for x in (weights, ceiling, level)
        )

    @classmethod
    def zero(cls, ensemble: Ensemble, network: Tilt | None = None) -> "LinearTilt":
        """f = 0."""
        number = 1 + len(ensemble.log_weights) + (network is not None)
        return cls(ensemble, jnp.zeros(number), network=network)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c)."""
        arrays, rest = eqx.partition((self.ensemble, self.network), eqx.is_array)
        ensemble, network = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        g = self.weights @ features(ensemble, c, network)
        ceiling, level = jax.lax.stop_gradient((self.ceiling, self.level))
        return g - jax.nn.softplus(g - ceiling) - level


def features(
    ensemble: Ensemble, c: Float[Array, " dim"], network: Tilt | None = None
) -> Float[Array, " features"]:
    """Log q, the log-ratio of each member to it, and what the network says, in nats."""
    each = ensemble.each(c)
    log_q = jax.nn.logsumexp(ensemble.log_weights + each)
    said = [log_q[None], each - log_q]
    return jnp.concatenate(said if network is None else [*said, network(c)[None]])
