"""A generator with noise: x = decoder(z) + sigma eps, with u = (z, eps) standard normal.

q(x) is an integral over z. But u and the pair of z and the data's coordinates y determine each
other, so the *joint* density is exact: a generator's coordinates are c = [z, y], of size
z_dim + dim(x), and

    log q(c) = log N(z; 0, I) + log N(y; decoder(z), sigma^2).

A tilt reads z, y or both (`tilts/select.py`), p(z, x) ∝ exp(f(z, x)) q(z) q(x|z), and samplers
and normalisers see a backbone like any other. Data become coordinates by the encoder: z is drawn
from e(z|x), and -log e(z|x) is part of the log-weight, so that the mean of
log q(c) + log-weight is the evidence lower bound (Kingma and Welling 2014, arXiv 1312.6114,
eq. 3) and the log-mean over draws the importance-weighted one (Burda et al. 2016,
arXiv 1509.00519, eq. 8).
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import LOG_2PI, Backbone, standard_normal_log_prob
from tiltflow.backbones.pushforward import Pushforward
from tiltflow.backbones.units.bijections import Affine, Units
from tiltflow.backbones.units.scale import Scale, identity
from tiltflow.errors import InputError

Encoder = Callable[[Float[Array, " dim"]], tuple[Float[Array, " z"], Float[Array, " z"]]]
"""The data's coordinates to mean and log standard deviation of a normal of z."""


class KnowsNothing(eqx.Module):
    """The encoder of a generator that has none: the prior. Its bounds hold, and are loose."""

    z_dim: int = eqx.field(static=True)

    def __call__(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean 0 and log standard deviation 0."""
        return jnp.zeros(self.z_dim, y.dtype), jnp.zeros(self.z_dim, y.dtype)


class Generator(Backbone):
    """A decoder with normal noise, and an encoder.

    Attributes:
        decoder: z (`[z_dim]`) to the mean of the data's coordinates (`[dim(x)]`); smooth.
        encoder: see `Encoder`.
        log_noise: log(sigma - floor) in coordinates, `[]` or `[dim(x)]`.
        floor: sigma's least value: without it a pixel that never changes has infinite density.
    """

    embeds_at_random: ClassVar[bool] = True
    units: Units
    decoder: Callable[[Float[Array, " z"]], Float[Array, " dim"]]
    encoder: Encoder
    log_noise: Float[Array, "..."]
    floor: float = eqx.field(static=True)
    z_dim: int = eqx.field(static=True)
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        units: Units,
        decoder: Callable[[Array], Array],
        encoder: Encoder | None,
        *,
        z_dim: int,
        noise: float | np.ndarray | Array,
        floor: float = 0.0,
    ) -> None:
        """A generator over `units`, with `noise` as sigma, above its `floor`.

        Raises:
            InputError: noise that is not above its floor.
        """
        noise = _checked_noise(noise, floor)
        size = int(np.prod(units.data_shape))
        self.units, self.decoder = units, decoder
        self.encoder = KnowsNothing(z_dim) if encoder is None else encoder
        self.log_noise = jnp.log(jnp.asarray(noise) - floor)
        self.floor, self.z_dim = floor, z_dim
        self.latent_shape, self.data_shape = (z_dim + size,), units.data_shape

    @staticmethod
    def from_function(
        function: Callable[[Array], Array],
        latent_shape: tuple[int, ...],
        *,
        noise: float | np.ndarray | None = None,
        units: Units | None = None,
        encoder: Encoder | None = None,
    ) -> "Generator | Pushforward":
        """Any differentiable function of normal noise as a backbone.

        Args:
            function: z (`latent_shape`) to data x, one example, in JAX.
            latent_shape: of z.
            noise: standard deviation of what is added to x, in data units, one for all or one a
                number of x; None: nothing is, and the result is a `Pushforward`, without density.
            units: a bijection of the data; the data themselves, if None. With noise, one that
                scales each number by itself, as `"standardise"` and `scale.fit_scale` do: of others
                normal noise in data units is none in coordinates.
            encoder: of z (flat) from the data's coordinates; None: the prior stands in, with
                which bounds of the likelihood are loose. `learning.fit_vae` learns one.

        Raises:
            InputError: noise that is not positive; units that it cannot be said in; a function
                that does not map `latent_shape` to one array of floats.
        """
        push = _checked(function, latent_shape, units)
        units = identity(push.data_shape) if units is None else units
        if noise is None:
            return Pushforward(units, function, latent_shape)
        noise = _checked_noise(noise, 0.0)
        spread = _slopes(units) * jnp.broadcast_to(noise, units.data_shape).ravel()
        flat = _Flat(function, units, latent_shape)
        size = int(np.prod(latent_shape))
        return Generator(units, flat, encoder, z_dim=size, noise=spread)

    @property
    def sigma(self) -> Float[Array, "..."]:
        """The noise's standard deviation, in coordinates; `[]` or `[dim(x)]`."""
        return self.floor + jnp.exp(self.log_noise)

    @property
    def dim(self) -> int:
        """z_dim + dim(x)."""
        return self.latent_shape[0]

    def split(self, c: Float[Array, " dim"]) -> tuple[Float[Array, " z"], Float[Array, " y"]]:
        """Coordinates c to z and the data's coordinates y; a latent u to z and eps."""
        return c[: self.z_dim], c[self.z_dim :]

    def coordinates(self, u: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """(z, eps) to (z, y)."""
        z, eps = self.split(u)
        return jnp.concatenate([z, self.decoder(z) + self.sigma * eps])

    def inverse(self, c: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """The u with `coordinates(u) == c`, and log|det du/dc|."""
        z, y = self.split(c)
        u = jnp.concatenate([z, (y - self.decoder(z)) / self.sigma])
        return u, -jnp.sum(jnp.broadcast_to(jnp.log(self.sigma), y.shape))

    def log_prob_coordinates(self, c: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log q(z) + log q(y|z)."""
        u, log_det = self.inverse(c)
        return standard_normal_log_prob(u) + log_det

    def log_prob_given(self, y: Float[Array, " y"], z: Float[Array, " z"]) -> Float[Array, ""]:
        """Log q(y|z), in coordinates."""
        return normal_log_prob(y, self.decoder(z), jnp.log(self.sigma))

    def decode(self, c: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data; z is left behind."""
        return self.units.decode(self.split(c)[1])

    def expected(self, c: Float[Array, " dim"]) -> Float[Array, "..."]:
        """What the decoder makes of z, in data units (`data_shape`)."""
        return self.units.decode(self.decoder(self.split(c)[0]))

    def embed(
        self, x: Float[Array, "..."], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Coordinates of x with z drawn from the encoder; the log-weight has -log e(z|x) in it.

        Raises:
            InputError: there is no key.
        """
        y, log_det = self.units.encode_and_log_det(x)
        z, log_e = self.encode(y, key)
        c, log_rest = self.at(z, y)
        return c, log_rest + log_det - log_e

    def at(
        self, z: Float[Array, " z"], y: Float[Array, " y"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """The coordinates of (z, y), and what their log-density leaves out of log q(z, y): 0."""
        return jnp.concatenate([z, y]), jnp.zeros((), y.dtype)

    def encode(
        self, y: Float[Array, " y"], key: PRNGKeyArray | None
    ) -> tuple[Float[Array, " z"], Float[Array, ""]]:
        """A draw z of e(z|y), and log e(z|y). InputError without a key."""
        if key is None:
            raise InputError(
                "a generator has no exact log q(x): it is an integral over z; use the bounds of "
                "tiltflow.evaluation.likelihood"
            )
        mean, log_scale = self.encoder(y)
        z = mean + jnp.exp(log_scale) * jr.normal(key, mean.shape, mean.dtype)
        return z, normal_log_prob(z, mean, log_scale)


class _Flat(eqx.Module):
    """A user's function as a decoder: flat z to flat coordinates."""

    function: Callable[[Array], Array]
    units: Units
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, z: Float[Array, " z"]) -> Float[Array, " dim"]:
        return self.units.encode(self.function(z.reshape(self.shape)))


def normal_log_prob(value: Array, mean: Array, log_scale: Array) -> Float[Array, ""]:
    """Log N(value; mean, exp(log_scale)^2), summed over all axes of `value`."""
    scaled = (value - mean) * jnp.exp(-log_scale)
    each = -0.5 * (scaled**2 + LOG_2PI) - log_scale
    return jnp.sum(jnp.broadcast_to(each, value.shape))


def _slopes(units: Units) -> Array:
    """Coordinates a unit of data, number by number; raises InputError if there is no such thing."""
    if isinstance(units, Scale):
        return 1 / units.scale
    if isinstance(units, Affine):
        slopes = jnp.diagonal(units.matrix)
        if np.array_equal(units.matrix, np.diag(slopes)):
            return slopes
    raise InputError(
        f"units of type {type(units).__name__} with noise in data units; expected units that scale "
        f"each number by itself: tiltflow.backbones.fit_units('standardise', ...)"
    )


def _checked_noise(noise: float | np.ndarray | Array, floor: float) -> np.ndarray:
    noise = np.asarray(noise, np.float32)
    if not (floor >= 0 and np.all(np.isfinite(noise)) and np.all(noise > floor)):
        raise InputError(
            f"noise is {noise.min():g} and its floor {floor:g}; expected finite noise above a "
            f"floor of 0 or more: leave noise out for a generator without"
        )
    return noise


def _checked(
    function: Callable[[Array], Array], latent_shape: tuple[int, ...], units: Units | None
) -> Pushforward:
    """The function as a map of data; raises InputError for one that cannot be."""
    try:
        x = eqx.filter_eval_shape(function, jnp.zeros(latent_shape))
    except TypeError as error:
        raise InputError(
            f"the function does not take noise of shape {latent_shape}: {error}"
        ) from None
    if not (hasattr(x, "shape") and jnp.issubdtype(x.dtype, jnp.floating)):
        raise InputError(f"the function returns {x}; expected one array of floats")
    if units is not None and x.shape != units.data_shape:
        raise InputError(
            f"the function returns shape {x.shape}; expected {units.data_shape}, that of the units"
        )
    return Pushforward(units or identity(x.shape), function, latent_shape)
