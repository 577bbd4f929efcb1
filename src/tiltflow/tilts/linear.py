"""A tilt that is linear in what the members of an ensemble say: a few weights, convex to learn.

    g(y) = w_0 log q(y) + sum_j w_j (log q_j(y) - log q(y)) + sum_k v_k p(k | y) + w_n h(y),
    f(y) = g(y) - softplus(g(y) - ceiling),

of the ensemble q, its members q_j, the components k of its mixtures, and a network h, if there is
one. It makes the model a product of its members' powers where that is nearer to the data than their
mixture; w_0 below 0 flattens it, above 0 sharpens it. A product weighs more what its members agree
on, so that some kinds of rows come too often and others too seldom; v gives each its share back, as
at the optimum the model has the data's mean of every feature. As f stays below its ceiling, exp f
has all moments under q whatever its tail was, and chains whose proposals are exact draws of q are
uniformly ergodic: each transition forgets a share exp(log Z - ceiling) of where the chain was, at
least (Mengersen and Tweedie 1996, theorem 2.1).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Ensemble
from tiltflow.tilts.base import Tilt


class LinearTilt(Tilt):
    """f of an ensemble's coordinates.

    Attributes:
        ensemble: whose members are weighed; it is not learned.
        network: that is one more feature, as it is; None: there is none.
        kinds: whether the components of mixtures are features.
        weights: `[features]`: of log q, of each member's log-ratio, the transport's first, of the
            components, and of the network.
        ceiling: of f before the level is subtracted, in nats; infinite: there is none.
        level: is subtracted.
    """

    ensemble: Ensemble
    network: Tilt | None
    kinds: bool = eqx.field(static=True)
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
        kinds: bool = False,
    ) -> None:
        """These weights of the members, of kinds, and of the network."""
        self.ensemble, self.network, self.kinds = ensemble, network, kinds
        self.weights, self.ceiling, self.level = (
            jnp.asarray(x, jnp.float32) for x in (weights, ceiling, level)
        )

    @classmethod
    def zero(
        cls, ensemble: Ensemble, network: Tilt | None = None, *, kinds: bool = False
    ) -> "LinearTilt":
        """f = 0."""
        number = 1 + len(ensemble.log_weights) + (network is not None)
        number += ensemble.number_of_kinds if kinds else 0
        return cls(ensemble, jnp.zeros(number), network=network, kinds=kinds)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c)."""
        arrays, rest = eqx.partition((self.ensemble, self.network), eqx.is_array)
        ensemble, network = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        g = self.weights @ features(ensemble, c, network, kinds=self.kinds)
        ceiling, level = jax.lax.stop_gradient((self.ceiling, self.level))
        return g - jax.nn.softplus(g - ceiling) - level

    def of(self, said: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, " rows"]:
        """f where the features are these, on the host, in float64."""
        g = said @ np.asarray(self.weights, np.float64)
        return below(float(self.ceiling), g) - float(self.level)


def below(ceiling: float, g: Float[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows"]:
    """Numbers on the host as they are below a ceiling."""
    return g - np.logaddexp(0.0, g - ceiling)


def features(
    ensemble: Ensemble,
    c: Float[Array, " dim"],
    network: Tilt | None = None,
    *,
    kinds: bool = False,
) -> Float[Array, " features"]:
    """Log q, the log-ratio of each member to it, and what the network says, in nats.

    The probabilities of kinds, if they are asked for, stand before the network.
    """
    told = ensemble.told(c)
    log_q = jax.nn.logsumexp(ensemble.log_weights + told.each)
    said = [log_q[None], told.each - log_q, *([told.kinds] if kinds else [])]
    return jnp.concatenate(said if network is None else [*said, network(c)[None]])
