"""Where learning starts: exact draws where f = 0, a climb up the ladder where it is not.

A tilt that was learned by contrast (`nce.py`), or the first of two stages, is not zero, and draws
of the backbone are none of the tilted model. Sequential Monte Carlo along beta f brings them
there, learners and witnesses each by themselves, and tells log Z on the way
(`normalizer/smc.py`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.errors import InputError
from tiltflow.learning.particles import Particles, exact_draws
from tiltflow.model.exact import exact, push_in_parts
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import smc
from tiltflow.parallel.devices import over_devices_once
from tiltflow.tilts import Tilt

SHARE = 0.4  # how far apart the rungs are, see `smc.plan`


class Start(NamedTuple):
    """Latent draws of a tilted model.

    Attributes:
        u: `[N, *latent_shape]`; the second half, the witnesses, is independent of the first.
        log_z: of the model, in nats.
        step_size: that suits its transitions.
        y: `[N, dim]`, the coordinates of u, if they are known.
    """

    u: Float[Array, "N ..."]
    log_z: Float[Array, ""]
    step_size: Float[Array, ""]
    y: Float[Array, "N dim"] | None = None


def begin(key: PRNGKeyArray, backbone: Backbone, tilt: Tilt, number: int) -> Start:
    """`number` draws of the model: exact ones of the backbone where f = 0, climbed otherwise.

    Raises:
        InputError: f is too large, or not finite, for a ladder of 128 rungs.
    """
    plan_key, start_key, key, planners_key = jr.split(key, 4)
    if is_zero(tilt, backbone) and not backbone.is_normal:
        made = exact(backbone, start_key, number)
        u, y = jnp.asarray(made.u), jnp.asarray(made.c)
        return Start(u, jnp.zeros(()), jnp.asarray(0.5, u.dtype), y)
    u = exact_draws(backbone, start_key, number)
    if is_zero(tilt, backbone):
        return Start(u, jnp.zeros(()), jnp.asarray(0.5, u.dtype))
    log_density = TiltedModel(backbone, tilt).latent_log_densities
    planners = exact_draws(backbone, planners_key, number)
    ladder = smc.plan(log_density, plan_key, planners, jnp.asarray(SHARE), at_once=None)
    if float(ladder.reached) != 1.0:
        raise InputError(
            f"{smc.MOST_RUNGS} rungs lead from the backbone only to beta = "
            f"{float(ladder.reached):.3g} of the first tilt; expected 1: learn it for fewer steps, "
            f"or give a smaller f"
        )
    halves = u.reshape(2, number // 2, *backbone.latent_shape)
    climbed = smc.travel(log_density, key, ladder, halves, at_once=None)
    log_z = climbed.log_ratio[1]  # the witnesses' own
    return Start(climbed.u.reshape(u.shape), log_z, ladder.step_sizes[ladder.steps])


def as_particles(start: Start, backbone: Backbone, tilt: Tilt) -> Particles:
    """The particles of a learner that begins at `start` with `tilt`."""
    y = push_in_parts(backbone, start.u) if start.y is None else start.y
    f = _f_of(tilt, y)
    # With a weak type a stage would compile again when it is handed its own result.
    return Particles(start.u, y, f, jnp.asarray(start.step_size, start.u.dtype))


@over_devices_once
def _f_of(tilt: Tilt, y: Array) -> Array:
    return jax.lax.map(tilt, y, batch_size=1024) + jnp.zeros(len(y))


def is_zero(tilt: Tilt, backbone: Backbone) -> bool:
    """Whether f = 0, where draws of the backbone are draws of the model."""
    return bool(_vanishes(tilt, backbone.dim))


@over_devices_once
def _vanishes(tilt: Tilt, dim: int) -> Array:
    return ~jnp.any(jax.vmap(tilt)(jr.normal(jr.key(0), (8, dim))) != 0)
