"""Log p(x) of a generator by annealing from the encoder to the posterior of z, row by row.

With z = mean + scale v from the encoder, log q(x) and log p(x) + log Z are log-normalisers over
v ~ N(0, I) of the ratio

    L(v) = [f(z, x)] + log q(z) + log q(x|z) - log e(z|x),

so a row's climb along beta L is the one of `normalizer/smc.py`: its mean weight is an
unbiased estimate of the likelihood, and the logarithm bounds it from below on average (Wu et al.
2017, arXiv 1611.04273, section 3.1, who start from the prior instead of the encoder). With p the
bound holds if log Z is right: an interval of log Z widens it.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Generator, Prior
from tiltflow.backbones.base import standard_normal_log_prob
from tiltflow.errors import InputError, at_least_one
from tiltflow.learning import Rows
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import smc
from tiltflow.parallel.devices import over_devices


@dataclass(frozen=True)
class PosteriorSettings:
    """How far a row is annealed.

    Attributes:
        rungs: of equal steps, at most 128; a rung costs 2 transitions of 8 leapfrogs.
        particles: of each row.
        part: rows at a time.
    """

    rungs: int = 16
    particles: int = 8
    part: int = 256

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        at_least_one(self, "rungs", "particles", "part")
        if self.rungs > smc.MOST_RUNGS:
            raise InputError(f"rungs is {self.rungs}; expected at most {smc.MOST_RUNGS}")


def annealed_rows(
    model: TiltedModel, rows: Rows, key: PRNGKeyArray, settings: PosteriorSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lower bounds of log q and of log p + log Z of each row, `[rows]`, in nats, data units.

    Integers are dequantised once.

    Raises:
        InputError: the backbone has no encoder, being no generator; or settings that cannot work.
    """
    settings = settings or PosteriorSettings()
    settings.check()
    if not isinstance(model.backbone, Generator | Prior):
        raise InputError(
            f"the backbone is a {type(model.backbone).__name__}; expected a generator or its "
            f"prior: only they have a posterior of z to anneal to"
        )
    noise_key, key = jr.split(key)
    x = np.asarray(rows.data(noise_key))[: len(rows)]
    part = min(settings.part, len(x))
    found = [np.zeros(len(x)), np.zeros(len(x))]
    for start in [*range(0, len(x) - part, part), len(x) - part]:  # the last may overlap
        some = jnp.asarray(x[start : start + part])
        part_key = jr.fold_in(key, start)
        for bound, tilted in zip(found, (0.0, 1.0), strict=True):
            climbed = _climb(
                model, some, jnp.asarray(tilted), part_key, settings.rungs, settings.particles
            )
            bound[start : start + part] = np.asarray(climbed, np.float64)
    return found[0], found[1]


class _Posterior(eqx.Module):
    """L(v) - |v|^2 / 2 of `[rows * particles, z]`, the same number of particles for each row."""

    model: TiltedModel
    y: Float[Array, "rows y"]
    mean: Float[Array, "rows z"]
    log_scale: Float[Array, "rows z"]
    tilted: Float[Array, ""]

    def __call__(self, v: Float[Array, "particles z"]) -> Float[Array, " particles"]:
        def row(y: Array, mean: Array, log_scale: Array, v: Array) -> Array:
            return jax.vmap(lambda v: self.one(y, mean, log_scale, v))(v)

        by_row = v.reshape(len(self.y), -1, v.shape[-1])
        return jax.vmap(row)(self.y, self.mean, self.log_scale, by_row).ravel()

    def one(self, y: Array, mean: Array, log_scale: Array, v: Array) -> Float[Array, ""]:
        backbone = self.model.backbone
        assert isinstance(backbone, Generator | Prior)
        c, log_rest = backbone.at(mean + jnp.exp(log_scale) * v, y)
        log_q = backbone.log_prob_coordinates(c) + log_rest
        log_e = standard_normal_log_prob(v) - jnp.sum(log_scale)
        return self.tilted * self.model.tilt(c) + log_q - log_e - 0.5 * jnp.sum(v**2)


@over_devices
def _climb(
    model: TiltedModel,
    x: Float[Array, "rows ..."],
    tilted: Float[Array, ""],
    key: PRNGKeyArray,
    rungs: int,
    particles: int,
) -> Float[Array, " rows"]:
    backbone = model.backbone
    assert isinstance(backbone, Generator | Prior)
    generator = backbone.generator if isinstance(backbone, Prior) else backbone
    y, log_det = jax.vmap(backbone.units.encode_and_log_det)(x)
    mean, log_scale = jax.vmap(generator.encoder)(y)
    log_density = _Posterior(model, y, mean, log_scale, tilted)
    pace_key, first_key, start_key, key = jr.split(key, 4)
    first = jr.normal(first_key, mean.shape)
    ladder = smc.paced(log_density, pace_key, first, rungs)
    start = jr.normal(start_key, (len(y), particles, mean.shape[-1]))
    return smc.travel(log_density, key, ladder, start).log_ratio + log_det
