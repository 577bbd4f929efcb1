"""Many densities as one backbone: their mixture is q, and a flow carries its latent space.

What is easy to score and slow to push, such as an autoregressive flow, cannot carry chains. So a
coupling flow does, the *transport*, and q is told as its correction:

    q(c) = sum_m w_m q_m(c),        latent density of exact draws: N(u; 0, I) exp(excess(u)),
    excess(u) = log q(c(u)) - log q_transport(c(u)).

Its integral over N(0, I) is 1, so that log Z of a tilt stays relative to q, which is exact; and
draws of q are exact draws of the latent density, for starts, jumps and bridges.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import Flow
from tiltflow.backbones.density import Density
from tiltflow.backbones.units.bijections import Units

PART = 1_024  # draws in hand at a time


class Ensemble(Flow):
    """A mixture of densities of coordinates, with a flow as its latent space.

    Attributes:
        transport: from noise to coordinates; the first member.
        members: the others.
        log_weights: `[1 + others]`, normalised; of members that do not count they are -inf.
    """

    transport: Flow
    members: tuple[Density, ...]
    log_weights: Float[Array, " members"]

    def __init__(self, transport: Flow, members: tuple[Density, ...], log_weights: Array) -> None:
        """A mixture with these weights, the transport's first."""
        self.transport, self.members, self.log_weights = transport, members, log_weights

    @property
    def units(self) -> Units:  # type: ignore[override]
        """The transport's."""
        return self.transport.units

    @property
    def latent_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The transport's."""
        return self.transport.latent_shape

    @property
    def data_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The transport's."""
        return self.transport.data_shape

    def coordinates(self, u: Float[Array, "..."]) -> Float[Array, " dim"]:
        """Noise to coordinates, by the transport."""
        return self.transport.coordinates(u)

    def inverse(self, y: Float[Array, " dim"]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        """The transport's latent point, and log-determinant."""
        return self.transport.inverse(y)

    def log_prob_coordinates(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log q(y)."""
        return jax.nn.logsumexp(self.log_weights + self.each(y))

    def each(self, y: Float[Array, " dim"]) -> Float[Array, " members"]:
        """The log-density of y under each member, the transport first."""
        others = [member.log_prob(y) for member in self.members]
        return jnp.stack([self.transport.log_prob_coordinates(y), *others])

    def excess(self, u: Float[Array, "..."], c: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density of exact draws at u, whose coordinates are c, over that of N(0, I)."""
        each = self.each(c)
        return jax.nn.logsumexp(self.log_weights + each) - each[0]

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
        """So many exact draws of q, as latent points."""
        parts = -(-number // PART)
        size = min(number, PART)
        drawn = jax.lax.map(lambda key: self._some(key, size), jr.split(key, parts))
        return drawn.reshape(-1, *self.latent_shape)[:number]

    def _some(self, key: PRNGKeyArray, number: int) -> Array:
        """Of each member as many as of all: which is meant is then drawn."""
        pick_key, noise_key, *keys = jr.split(key, 2 + len(self.members))
        u = jr.normal(noise_key, (number, *self.latent_shape))
        own = jax.vmap(self.transport.coordinates)(u)
        others = [m.draws(k, number) for m, k in zip(self.members, keys, strict=True)]
        which = jr.categorical(pick_key, self.log_weights, shape=(number,))
        y = jnp.take_along_axis(jnp.stack([own, *others]), which[None, :, None], axis=0)[0]
        pulled = jax.vmap(lambda y: self.transport.inverse(y)[0])(y)
        return jnp.where((which == 0).reshape(-1, *[1] * (u.ndim - 1)), u, pulled)
