"""A tilt that is linear in what the members of an ensemble say: a few weights, convex to learn.

    f(y) = w_0 log q(y) + sum_j w_j (log q_j(y) - log q(y)),

of the ensemble q and its members q_j. It makes the model a product of its members' powers where
that is nearer to the data than their mixture; w_0 below 0 flattens it, above 0 sharpens it.
"""

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
        weights: `[1 + members]`: of log q, and of each member's log-ratio, the transport's first.
        level: is subtracted.
    """

    ensemble: Ensemble
    weights: Float[Array, " features"]
    level: Float[Array, ""]

    def __init__(self, ensemble: Ensemble, weights: Array, level: float | Array = 0.0) -> None:
        """These weights of the members."""
        self.ensemble = ensemble
        self.weights = jnp.asarray(weights, jnp.float32)
        self.level = jnp.asarray(level, jnp.float32)

    @classmethod
    def zero(cls, ensemble: Ensemble) -> "LinearTilt":
        """f = 0."""
        return cls(ensemble, jnp.zeros(1 + len(ensemble.log_weights)))

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c)."""
        arrays, rest = eqx.partition(self.ensemble, eqx.is_array)
        ensemble: Ensemble = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        return self.weights @ features(ensemble, c) - jax.lax.stop_gradient(self.level)


def features(ensemble: Ensemble, c: Float[Array, " dim"]) -> Float[Array, " features"]:
    """Log q, and the log-ratio of each member to it, in nats."""
    each = ensemble.each(c)
    log_q = jax.nn.logsumexp(ensemble.log_weights + each)
    return jnp.concatenate([log_q[None], each - log_q])
