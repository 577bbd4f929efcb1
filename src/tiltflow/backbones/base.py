"""The contract: a backbone turns standard normal noise into data, `x = g(u)`, u ~ N(0, I).

A backbone works in *coordinates* y of its own, in which data are well spread; `units` (see
`units/`) lead from data x to y and back. A tilt reads y, so that a sampler, which needs only
`coordinates(u)`, never passes through the units, and the latent density stays as smooth as the
backbone itself:

    push(u) = decode(coordinates(u)),    embed(x) = (coordinates of x, log-weight).

Of a flow, coordinates are data in other units: `embed` is the units' encoding and its log-weight
their log-determinant. A generator's coordinates hold its latent variable too (`generator.py`):
then `embed` draws one, and exp(log q(c) + log-weight) is an unbiased estimate of q(x).

The latent density of exact draws of q is N(0, I), unless a backbone says by what it exceeds that
(`ensemble.py`).

All methods but `draws` take one example; `jax.vmap` goes outside.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.units.bijections import Units

LOG_2PI = math.log(2 * math.pi)


class Backbone(eqx.Module):
    """A generative model with a standard normal latent variable.

    Attributes:
        units: the bijection between data and the backbone's coordinates.
        latent_shape: the shape of u.
        data_shape: the shape of x.
        embeds_at_random: whether `embed` needs a key, so that a row has many coordinates.
    """

    embeds_at_random: ClassVar[bool] = False
    units: eqx.AbstractVar[Units]
    latent_shape: eqx.AbstractVar[tuple[int, ...]]
    data_shape: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def coordinates(self, u: Float[Array, "..."]) -> Float[Array, " dim"]:
        """Noise u (`latent_shape`) to coordinates y (`[dim]`); differentiable."""

    @abc.abstractmethod
    def log_prob_coordinates(self, y: Float[Array, " dim"], /) -> Float[Array, ""]:
        """The log-density of coordinates y, in nats."""

    def excess(self, u: Float[Array, "..."], c: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density of exact draws of q at u over that of N(0, I); `c` is `coordinates(u)`.

        0 where u is standard normal noise.
        """
        return jnp.zeros(())

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
        """So many exact draws of q, as latent points."""
        return jr.normal(key, (number, *self.latent_shape))

    def drawn(
        self, key: PRNGKeyArray, number: int
    ) -> tuple[Float[Array, "number ..."], Float[Array, "number dim"]]:
        """So many exact draws of q, as latent points and as coordinates."""
        u = self.draws(key, number)
        return u, jax.vmap(self.coordinates)(u)

    @property
    def is_normal(self) -> bool:
        """Whether exact draws of q are standard normal in the latent space: there is no excess."""
        return type(self).excess is Backbone.excess

    @property
    def dim(self) -> int:
        """The number of coordinates, which is the size of what a tilt reads."""
        return math.prod(self.data_shape)

    def decode(self, c: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data x (`data_shape`)."""
        return self.units.decode(c)

    def expected(self, c: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data without the backbone's own noise, if it has some: to be looked at."""
        return self.decode(c)

    def embed(
        self, x: Float[Array, "..."], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Coordinates c of data x, and the log-weight w that makes log q(c) + w that of x."""
        return self.units.encode_and_log_det(x)

    def push(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """g: noise u (`latent_shape`) to data x (`data_shape`)."""
        return self.decode(self.coordinates(u))

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """Log q(x) in nats, in data units: the units' log-determinant is counted."""
        c, log_weight = self.embed(x)
        return self.log_prob_coordinates(c) + log_weight


class Flow(Backbone):
    """A backbone that is a bijection: q(x) is exact and data have a latent position."""

    @abc.abstractmethod
    def inverse(self, y: Float[Array, " dim"]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        """The u with `coordinates(u) == y`, and log|det du/dy|."""

    def log_prob_coordinates(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """Change of variables: log N(u; 0, I) + log|det du/dy|."""
        u, log_det = self.inverse(y)
        return standard_normal_log_prob(u) + log_det

    def training_log_prob(self, y: Float[Array, " dim"], key: PRNGKeyArray) -> Float[Array, ""]:
        """The log-density of coordinates, with what is random in training, such as dropout."""
        return self.log_prob_coordinates(y)

    def training_log_probs(
        self, y: Float[Array, "rows dim"], key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        """`training_log_prob` of a batch: what maximum likelihood takes (`fit_backbone.py`)."""
        return jax.vmap(self.training_log_prob)(y, jr.split(key, len(y)))

    def pull(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The u (`latent_shape`) with `push(u) == x`."""
        return self.inverse(self.units.encode_and_log_det(x)[0])[0]


def standard_normal_log_prob(u: Float[Array, "..."]) -> Float[Array, ""]:
    """Log N(u; 0, I), summed over all axes of u."""
    return -0.5 * (jnp.sum(u**2) + u.size * LOG_2PI)
