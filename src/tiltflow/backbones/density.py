"""A density of coordinates that is easy to score and to draw from; none of it need be a push.

Members of an `Ensemble`, and bases of flows. All but `draws` take one example.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import LOG_2PI


class Density(eqx.Module):
    """An exact density with exact draws."""

    @abc.abstractmethod
    def log_prob(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density, in nats."""

    @abc.abstractmethod
    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """So many independent draws."""

    def training_log_probs(
        self, y: Float[Array, "rows dim"], key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        """The log-densities of a batch, with what is random in training, such as dropout."""
        return jax.vmap(self.log_prob)(y)


class MixtureDensity(Density):
    """K normal components; all of it can be learned.

    Attributes:
        log_weights: `[K]`, of any sum.
        means: `[K, dim]`.
        whiteners: `[K, dim, dim]`, lower triangular, with the logarithm of the diagonal in place
            of it: whiteners[k] (y - means[k]) is standard normal under component k.
    """

    log_weights: Float[Array, " K"]
    means: Float[Array, "K dim"]
    whiteners: Float[Array, "K dim dim"]

    @classmethod
    def standard(cls, components: int, dim: int) -> "MixtureDensity":
        """`components` times N(0, I)."""
        return cls(
            jnp.zeros(components), jnp.zeros((components, dim)), jnp.zeros((components, dim, dim))
        )

    def log_prob(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density, in nats."""
        return jax.nn.logsumexp(self.joint(y))

    def joint(self, y: Float[Array, " dim"]) -> Float[Array, " K"]:
        """The log-density of y and of each component; of many rows one product of matrices."""
        number, dim = self.means.shape
        diagonal, full = self._full()
        origin = jnp.einsum("kij,kj->ki", full, self.means)
        u = (full.reshape(number * dim, dim) @ y).reshape(number, dim) - origin
        each = jnp.sum(diagonal, axis=1) - 0.5 * jnp.sum(u**2, axis=1) - 0.5 * LOG_2PI * dim
        return jax.nn.log_softmax(self.log_weights) + each

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """So many independent draws."""
        pick_key, noise_key = jr.split(key)
        k = jr.categorical(pick_key, self.log_weights, shape=(number,))
        noise = jr.normal(noise_key, (number, self.means.shape[1]))
        _, full = self._full()
        inverse = jax.scipy.linalg.solve_triangular(
            full, jnp.broadcast_to(jnp.eye(full.shape[-1]), full.shape), lower=True
        )

        def of_component(made: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
            number, mean, inverse = given
            return jnp.where((k == number)[:, None], mean + noise @ inverse.T, made), None

        # Component by component: a matrix for each draw would take a hundred times the memory.
        each = jnp.arange(len(self.means)), self.means, inverse
        return jax.lax.scan(of_component, noise, each)[0]

    def _full(self) -> tuple[Float[Array, "K dim"], Float[Array, "K dim dim"]]:
        """The logarithms of the diagonals, and the matrices with the diagonals themselves."""
        diagonal = jnp.diagonal(self.whiteners, axis1=1, axis2=2)
        above = jnp.exp(diagonal)[:, :, None] * jnp.eye(diagonal.shape[1])
        return diagonal, jnp.tril(self.whiteners, -1) + above
