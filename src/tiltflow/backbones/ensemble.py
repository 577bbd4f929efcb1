"""Many densities as one backbone: their mixture is q, and a flow carries its latent space.

What is easy to score and slow to push, such as an autoregressive flow, cannot carry chains. So a
coupling flow does, the *transport*, and q is told as its correction:

    q(c) = sum_m w_m q_m(c),        latent density of exact draws: N(u; 0, I) exp(excess(u)),
    excess(u) = log q(c(u)) - log q_transport(c(u)).

Its integral over N(0, I) is 1, so that log Z of a tilt stays relative to q, which is exact; and
draws of q are exact draws of the latent density, for starts, jumps and bridges.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import Flow
from tiltflow.backbones.density import Density, MixtureDensity
from tiltflow.backbones.units.bijections import Units

PART = 1_024  # draws in hand at a time


class Told(NamedTuple):
    """What members say of a point.

    Attributes:
        each: the log-density under each member, the transport first.
        kinds: the probability of each component given the point, of all mixtures among them.
    """

    each: Float[Array, " members"]
    kinds: Float[Array, " components"]


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
        return self.told(y).each

    def told(self, y: Float[Array, " dim"]) -> Told:
        """All that the members say of y."""
        joint = {
            i: member.joint(y)
            for i, member in enumerate(self.members)
            if isinstance(member, MixtureDensity)
        }
        found = [(np.asarray([i]), jax.nn.logsumexp(x)[None]) for i, x in joint.items()]
        rest = [i for i in range(len(self.members)) if i not in joint]
        found += [
            (np.asarray(rest)[which], jax.lax.map(lambda member: member.log_prob(y), alike))
            for which, alike in _groups(tuple(self.members[i] for i in rest))
        ]
        kinds = [jax.nn.softmax(x) for x in joint.values()]
        return Told(
            jnp.stack([self.transport.log_prob_coordinates(y), *_in_order(found)]),
            jnp.concatenate(kinds) if kinds else jnp.zeros(0),
        )

    @property
    def number_of_kinds(self) -> int:
        """Components of all mixtures among the members."""
        mixtures = [x for x in self.members if isinstance(x, MixtureDensity)]
        return sum(len(mixture.means) for mixture in mixtures)

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
        pick_key, noise_key, key = jr.split(key, 3)
        keys = jr.split(key, len(self.members))
        u = jr.normal(noise_key, (number, *self.latent_shape))
        own = jax.vmap(self.transport.coordinates)(u)
        # One member after the other: loops that run side by side have locked each other out for
        # good on few threads (jaxlib 0.10.2 on processors).
        others = _in_order(
            (which, jax.lax.map(lambda pair: pair[0].draws(pair[1], number), (alike, keys[which])))
            for which, alike in _groups(self.members)
        )
        which = jr.categorical(pick_key, self.log_weights, shape=(number,))
        y = jnp.take_along_axis(jnp.stack([own, *others]), which[None, :, None], axis=0)[0]
        pulled = jax.vmap(lambda y: self.transport.inverse(y)[0])(y)
        return jnp.where((which == 0).reshape(-1, *[1] * (u.ndim - 1)), u, pulled)


def _groups(members: tuple[Density, ...]) -> list[tuple[np.ndarray, Density]]:
    """Members of one structure, stacked: their places, and one pytree. A program has each once."""
    places: dict[tuple, list[int]] = {}
    for place, member in enumerate(members):
        leaves, structure = jax.tree.flatten(member)
        places.setdefault((structure, *(x.shape for x in leaves)), []).append(place)
    return [
        (np.asarray(some), jax.tree.map(lambda *x: jnp.stack(x), *(members[i] for i in some)))
        for some in places.values()
    ]


def _in_order(found: Iterable[tuple[np.ndarray, Array]]) -> list[Array]:
    """What groups have found, member by member."""
    each = {int(i): x for which, values in found for i, x in zip(which, values, strict=True)}
    return [each[i] for i in sorted(each)]
