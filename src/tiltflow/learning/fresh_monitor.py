"""A look at chains started afresh, of the kind the settings ask for, and what is told of it."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning.fresh import FreshLook, look
from tiltflow.learning.renewal import renew, renewed
from tiltflow.learning.state import LearnerState, TiltSettings
from tiltflow.learning.witnesses import Judge, Judgement
from tiltflow.mcmc.progress import OnChunk


def look_afresh(
    key: PRNGKeyArray,
    backbone: Backbone,
    state: LearnerState,
    judge: Judge,
    now: Judgement,
    settings: TiltSettings,
    *,
    on_chunk: OnChunk,
) -> tuple[FreshLook, dict[str, float]]:
    """What the chains have found, and the fields of an event that tells it.

    Args:
        key: random key.
        backbone, state: the model, and the particles that are looked at.
        judge, now: who judges, and the judgement of the present tilt.
        settings: `fresh_chains`, `fresh_transitions`, `fresh_replicas`, `leapfrogs`.
        on_chunk: told the news of chains with replicas, now and then.
    """
    there = state.particles
    how = {
        "chains": settings.fresh_chains,
        "transitions": settings.fresh_transitions,
        "leapfrogs": settings.leapfrogs,
    }
    if settings.fresh_replicas:
        found = renew(
            key,
            backbone,
            state.tilt,
            settings.particles,
            there.step_size,
            replicas=settings.fresh_replicas,
            on_chunk=on_chunk,
            **how,
        )
        seen = renewed(found, backbone, state.tilt, there)
    else:
        seen = look(key, backbone, state.tilt, there, **how)
    none = jnp.zeros(len(seen.particles.f))
    fresh = eqx.tree_at(lambda s: (s.particles, s.log_weights), state, (seen.particles, none))
    judged = seen.anchored(judge, state).judge(state.tilt, fresh)
    return seen.against(float(now.gain_val - judged.gain_val)), {
        "gain_val": float(now.gain_val),
        "gain_fresh": float(judged.gain_val),
        "holds": bool(judged.holds),
        "gap": seen.gap,
        "error": seen.error,
        "rise": seen.rise,
    }
