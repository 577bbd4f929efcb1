"""A generator seen from its latent variable: the backbone of tilts that read z alone.

p(z, x) ∝ exp(f(z)) q(z) q(x|z) is the latent-space energy-based prior of Pang et al. 2020
(arXiv 2006.08205, eq. 3). Its noise eps is independent of z and standard normal under p as under
q, so chains over (z, eps) would walk through hundreds of dimensions for nothing: here u = z, and
coordinates are z.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import Backbone, standard_normal_log_prob
from tiltflow.backbones.generator import Generator
from tiltflow.backbones.units.bijections import Units


class Prior(Backbone):
    """The generator's z as latent variable and as coordinates.

    Attributes:
        generator: whose noise is added when z is turned into data.
    """

    embeds_at_random: ClassVar[bool] = True
    generator: Generator
    units: Units
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, generator: Generator) -> None:
        """The same model as `generator`, over z."""
        self.generator, self.units = generator, generator.units
        self.latent_shape, self.data_shape = (generator.z_dim,), generator.data_shape

    @property
    def dim(self) -> int:
        """That of z."""
        return self.generator.z_dim

    def coordinates(self, u: Float[Array, " z"]) -> Float[Array, " z"]:
        """z itself."""
        return u

    def log_prob_coordinates(self, c: Float[Array, " z"]) -> Float[Array, ""]:
        """Log N(z; 0, I)."""
        return standard_normal_log_prob(c)

    def decode(self, c: Float[Array, " z"]) -> Float[Array, "..."]:
        """A draw of q(x|z). Its noise is keyed by z, so that the same z gives the same x."""
        return self.generator.push(self.with_noise(c, key_of(c)))

    def with_noise(self, z: Float[Array, " z"], key: PRNGKeyArray) -> Float[Array, " u"]:
        """The generator's latent (z, eps), with fresh noise: a draw, if z is one."""
        return jnp.concatenate([z, jr.normal(key, (self.generator.dim - self.dim,), z.dtype)])

    def expected(self, c: Float[Array, " z"]) -> Float[Array, "..."]:
        """What the decoder makes of z, in data units (`data_shape`)."""
        return self.units.decode(self.generator.decoder(c))

    def embed(
        self, x: Float[Array, "..."], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " z"], Float[Array, ""]]:
        """z drawn from the encoder; the log-weight is log q(x|z) - log e(z|x).

        Raises:
            InputError: there is no key.
        """
        y, log_det = self.units.encode_and_log_det(x)
        z, log_e = self.generator.encode(y, key)
        c, log_rest = self.at(z, y)
        return c, log_rest + log_det - log_e

    def at(
        self, z: Float[Array, " z"], y: Float[Array, " y"]
    ) -> tuple[Float[Array, " z"], Float[Array, ""]]:
        """The coordinates of (z, y), and what their log-density leaves out: log q(y|z)."""
        return z, self.generator.log_prob_given(y, z)


def key_of(z: Float[Array, " z"]) -> PRNGKeyArray:
    """A key made of the digits of z."""
    digits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(z), jnp.uint32)
    return jax.lax.scan(lambda key, d: (jr.fold_in(key, d), None), jr.key(0), digits.ravel())[0]
