"""The tilted model, p(x) = exp(f(x)) q(x) / Z, once, with its sign.

Larger f is more probable; the energy is -f. References are to Nijkamp et al. 2022
(arXiv 2006.06897).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone, Gaussian, Generator, Prior
from tiltflow.tilts import (
    Frozen,
    MixtureTilt,
    OfLatent,
    ReadsCoordinates,
    Sum,
    Tilt,
    WithNoise,
    as_tilt,
)

K = TypeVar("K", bound=Tilt)


class TiltedModel(eqx.Module):
    """A backbone q, corrected by a tilt f.

    Attributes:
        backbone: noise to data (`backbones/base.py`).
        tilt: coordinates `[dim]` to a scalar.
    """

    backbone: Backbone
    tilt: ReadsCoordinates

    def __init__(self, backbone: Backbone, tilt: ReadsCoordinates | Callable[..., Any]) -> None:
        """A tilted model.

        Args:
            backbone: that is tilted.
            tilt: a tilt of `tiltflow.tilts`; or a function of one example x in data units
                (`data_shape`) to a scalar, in JAX, integers dequantised.

        Raises:
            InputError: a function that does not map one example to a scalar, or one of x over a
                `Prior`.
        """
        self.backbone, self.tilt = backbone, as_tilt(tilt, backbone)

    def latent_log_density(self, u: Float[Array, "..."]) -> Float[Array, ""]:
        """Log pi(u) up to log Z: f(g(u)) - |u|^2 / 2, eq. (2) of the design.

        There is no log-determinant: that of q(g(u)) and that of the change of variables cancel.
        Where exact draws of q are not N(0, I), their excess over it is added.
        """
        c = self.backbone.coordinates(u)
        return self.tilt(c) + self.backbone.excess(u, c) - 0.5 * jnp.sum(u**2)

    def latent_log_densities(self, u: Float[Array, "chains ..."]) -> Float[Array, " chains"]:
        """`latent_log_density` of a batch: what samplers take."""
        return jax.vmap(self.latent_log_density)(u)

    @property
    def mixture(self) -> "MixtureTilt | WithNoise | ExactDraws | None":
        """What is known of the model beside N(0, I), as a density of latent points.

        That of exact draws of a backbone whose noise is not normal, or a mixture that is a kept
        part of the tilt. It is the proposal of jumps that are accepted on what the rest adds. None:
        there is none, or it is not one over u, or over the z of u = (z, eps).
        """
        if not self.backbone.is_normal:
            return ExactDraws(self.backbone)
        if isinstance(self.backbone, Prior | Gaussian):
            return _kept(self.tilt, MixtureTilt)
        if isinstance(self.backbone, Generator) and (first := _kept(self.tilt, OfLatent)):
            found = _kept(first.tilt, MixtureTilt)
            return None if found is None else WithNoise(found, self.backbone.dim)
        return None

    def f(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """The tilt at data x; the energy is -f(x). InputError if it reads a latent variable."""
        return self.tilt(self.backbone.embed(x)[0])

    def log_prob(self, x: Float[Array, "..."], log_z: float | Array) -> Float[Array, ""]:
        """Log p(x) = f(x) + log q(x) - log Z, in nats, data units.

        Args:
            x: one example, `data_shape`; integers are to be dequantised first.
            log_z: from `tiltflow.normalizer`.

        Raises:
            InputError: the backbone is a generator: its density has bounds only
                (`evaluation/likelihood.py`), or none.
        """
        c, log_weight = self.backbone.embed(x)
        return self.tilt(c) + self.backbone.log_prob_coordinates(c) + log_weight - log_z


class ExactDraws(eqx.Module):
    """Exact draws of a backbone, as a proposal (`mcmc.independence.Proposal`); log Z is 0."""

    backbone: Backbone

    @property
    def level(self) -> Float[Array, ""]:
        """There is none."""
        return jnp.zeros(())

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, ""]:
        """Log of their density over that of N(0, I)."""
        return self.backbone.excess(u, self.backbone.coordinates(u))

    def latent_log_densities(self, u: Float[Array, "chains ..."]) -> Float[Array, " chains"]:
        """Their log-density up to that of N(0, I) at 0, of a batch."""
        squares = jnp.sum(u.reshape(len(u), -1) ** 2, axis=1)
        return jax.vmap(self)(u) - 0.5 * squares

    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
        """So many of them."""
        return self.backbone.draws(key, number)

    def renew(self, key: PRNGKeyArray, u: Float[Array, "chains ..."]) -> Float[Array, "chains ..."]:
        """A fresh draw for each chain, wherever it is."""
        return self.draw(key, len(u))


def _kept(tilt: Any, kind: type[K]) -> K | None:
    """The first part of a sum that is kept as it is, and of that kind; None: there is none."""
    if not isinstance(tilt, Sum):
        return None
    kept = (part.tilt for part in tilt.parts if isinstance(part, Frozen))
    return next((part for part in kept if isinstance(part, kind)), None)
