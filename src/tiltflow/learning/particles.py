"""The particles that both learners move: half learners, half witnesses.

Learners supply the model's side of the gradient, eq. (3) of the design. Witnesses never enter a
gradient, so their annealing weights (Carbone et al. 2023, arXiv 2305.19414) stay honest: the
weights of the particles that drive the update absorb it, and were off by 20 nats in a trial.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.mcmc import hmc
from tiltflow.model.exact import exact, exact_points, push_in_parts
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.resampling import systematic
from tiltflow.parallel.devices import over_devices


class Particles(eqx.Module):
    """N latent particles; the first half learns, the second half watches.

    Attributes:
        u: `[N, *latent_shape]`.
        y: `[N, dim]`, their coordinates.
        f: `[N]`, the tilt's value at y when they were last moved.
        step_size: of the transitions, common to all.
    """

    u: Float[Array, "N ..."]
    y: Float[Array, "N dim"]
    f: Float[Array, " N"]
    step_size: Float[Array, ""]

    @property
    def half(self) -> int:
        """The number of learners, and of witnesses."""
        return len(self.f) // 2

    @property
    def learners(self) -> slice:
        """Where the learners are."""
        return slice(0, self.half)

    @property
    def witnesses(self) -> slice:
        """Where the witnesses are."""
        return slice(self.half, 2 * self.half)


def exact_draws(backbone: Backbone, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
    """So many exact draws of the backbone, as latent points, in a program of its own."""
    return (
        _normal(backbone, key, number)
        if backbone.is_normal
        else exact_points(backbone, key, number)
    )


def exact_coordinates(
    backbone: Backbone, key: PRNGKeyArray, number: int
) -> Float[Array, "number dim"]:
    """The coordinates of so many exact draws."""
    if backbone.is_normal:
        return push_in_parts(backbone, _normal(backbone, key, number))
    return jnp.asarray(exact(backbone, key, number).c)


@over_devices
def _normal(backbone: Backbone, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
    return backbone.draws(key, number)


def effective_share(log_weights: Float[Array, " n"]) -> Float[Array, ""]:
    """(sum w)^2 / (n sum w^2): the effective sample size as a share of n."""
    log_weights = log_weights - jnp.max(log_weights)
    weights = jnp.exp(log_weights)
    return jnp.sum(weights) ** 2 / (jnp.sum(weights**2) * len(weights))


@jax.jit
def log_mean_exp(values: Float[Array, " n"]) -> Float[Array, ""]:
    """log((1/n) sum exp(values))."""
    return jax.nn.logsumexp(values) - jnp.log(len(values))


def resample(key: PRNGKeyArray, particles: Particles, log_weights: Float[Array, " N"]) -> Array:
    """Indices that resample learners and witnesses, each half by its own weights."""
    first, second = jr.split(key)
    return jnp.concatenate(
        [
            systematic(first, log_weights[particles.learners]),
            particles.half + systematic(second, log_weights[particles.witnesses]),
        ]
    )


def tilt_of(state: hmc.HMCState) -> Float[Array, " N"]:
    """f at the particles, and the backbone's excess: log pi + |u|^2 / 2."""
    squares = state.position.reshape(len(state.log_density), -1) ** 2
    return state.log_density + 0.5 * jnp.sum(squares, axis=1)


def f_of(model: TiltedModel, state: hmc.HMCState) -> Float[Array, " N"]:
    """f at the particles; from the latent log-density, if that is f and N(0, I) alone."""
    if model.backbone.is_normal:
        return tilt_of(state)
    return jax.vmap(lambda u: model.tilt(model.backbone.coordinates(u)))(state.position)


def agreement(f: Float[Array, " N"], half: int) -> Float[Array, ""]:
    """Mean f of learners minus that of witnesses, in standard errors.

    Learning lowers f at the learners; they have forgotten it when this is near 0.
    """
    learners, witnesses = f[:half], f[half:]
    error = jnp.sqrt((jnp.var(learners) + jnp.var(witnesses)) / half)
    return (jnp.mean(learners) - jnp.mean(witnesses)) / jnp.maximum(error, 1e-6)


def lag(f: Float[Array, " n"], log_weights: Float[Array, " n"]) -> Float[Array, ""]:
    """What weights add to the mean of f, in standard errors of the weighted mean."""
    weights = jax.nn.softmax(log_weights)
    mean = jnp.sum(weights * f)
    error = jnp.sqrt(jnp.sum((weights - 1 / len(f)) ** 2 * (f - mean) ** 2))
    return (mean - jnp.mean(f)) / jnp.maximum(error, 1e-6)


def adapt(step_size: Array, acceptance: Array, target: float) -> Array:
    """The step size times exp(acceptance - target), at most 15% up and a half down."""
    return step_size * jnp.clip(jnp.exp(acceptance - target), 0.5, 1.15)
