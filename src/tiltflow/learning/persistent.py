"""Persistent chains, the paper's learner: a few transitions for every gradient step.

Nijkamp et al. 2022 (arXiv 2006.06897), algorithm 1, with Metropolis-corrected transitions, and
with witnesses beside the chains that learn. It is the baseline that population learning is
held against; both share everything but the stage.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning import optimiser
from tiltflow.learning.objective import gradient
from tiltflow.learning.particles import (
    Particles,
    adapt,
    agreement,
    effective_share,
    f_of,
    lag,
    log_mean_exp,
)
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import (
    Course,
    LearnerState,
    StageInfo,
    TiltSettings,
    learning_rate,
    restart_gauge,
)
from tiltflow.mcmc import hmc
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.resampling import systematic
from tiltflow.parallel.devices import over_devices, spread, together
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze


@over_devices
def stage(
    state: LearnerState,
    backbone: Backbone,
    train: Rows,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    """`settings.iterations` times: one gradient step, then transitions of all particles.

    The witnesses' weights take each increment of f before the particles move; they are resampled
    at the end of the stage if their effective share is below `share_end`.
    """
    _, frozen = freeze(state.tilt)
    half = state.particles.half
    even = jnp.full(half, 1 / half)

    def iteration(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, tuple]:
        parameters, average, adam, steps, particles, log_weights = carry
        data_key, dropout_key, move_key = jr.split(key, 3)
        y_data, _, labels = train.labelled_batch(data_key, settings.batch_data)
        y_learners = spread(particles.y[particles.learners])
        slope = gradient(
            parameters, frozen, y_data, labels, y_learners, even, settings.class_weight, dropout_key
        )
        counted = eqx.tree_at(lambda s: s.steps, state, steps)
        rate = learning_rate(settings, counted, course.rate_scale)
        parameters, adam = optimiser.update(parameters, slope, adam, rate, settings.decay)
        average = optimiser.moving_average(average, parameters, settings.memory)
        tilt: Tilt = eqx.combine(parameters, frozen)
        log_weights = log_weights + jax.vmap(tilt)(particles.y) - particles.f
        model = TiltedModel(backbone, tilt)
        particles, told = _move(model, particles, settings, transitions, move_key)
        return (parameters, average, adam, steps + 1, particles, log_weights), told

    transitions = settings.transitions * course.effort
    resample_key, key = jr.split(key)
    start = (
        freeze(state.tilt)[0],
        freeze(state.average)[0],
        state.adam,
        state.steps,
        spread(state.particles),
        spread(state.log_weights),
    )
    end, (acceptance, divergences) = jax.lax.scan(
        iteration, start, jr.split(key, settings.iterations)
    )
    parameters, average, adam, steps, particles, log_weights = end
    info = StageInfo(
        share=effective_share(log_weights[particles.witnesses]),
        transitions=settings.iterations * transitions,
        acceptance=acceptance[-1],
        agreement=agreement(particles.f, half),
        lag=lag(particles.f[particles.witnesses], log_weights[particles.witnesses]),
        divergences=jnp.sum(divergences),
        f_learners=jnp.mean(particles.f[:half]) - jnp.mean(particles.f[half:]),
    )
    state = eqx.tree_at(
        lambda s: (s.tilt, s.average, s.adam, s.steps, s.particles, s.log_weights, s.gradients),
        state,
        (
            eqx.combine(parameters, frozen),
            eqx.combine(average, frozen),
            adam,
            steps,
            particles,
            log_weights,
            state.gradients + info.transitions * settings.leapfrogs,
        ),
    )
    state = _resample_witnesses(state, info.share < settings.share_end, resample_key)
    return restart_gauge(state, state.particles.f), info


def _move(
    model: TiltedModel,
    particles: Particles,
    settings: TiltSettings,
    transitions: Array,
    key: PRNGKeyArray,
) -> tuple[Particles, tuple[Array, Array]]:
    """So many `transitions`; also the mean acceptance and the divergences."""
    latent = hmc.value_and_gradient(model.latent_log_densities)

    def transition(index: Array, carry: tuple) -> tuple:
        state, step_size, accepted, divergences = carry
        state, info = hmc.step(
            jr.fold_in(key, index),
            state,
            latent,
            step_size,
            num_leapfrogs=settings.leapfrogs,
            jitter=0.2,
        )
        state, acceptance = spread(state), jnp.mean(together(info.acceptance_rate))
        step_size = adapt(step_size, acceptance, settings.target)
        return state, step_size, accepted + acceptance, divergences + jnp.sum(info.is_divergent)

    start = (
        spread(hmc.init(spread(particles.u), latent)),
        particles.step_size,
        jnp.zeros(()),
        jnp.asarray(0),
    )
    state, step_size, accepted, divergences = jax.lax.fori_loop(0, transitions, transition, start)
    y = jax.vmap(model.backbone.coordinates)(state.position)
    moved = Particles(state.position, y, f_of(model, state), step_size)
    return moved, (accepted / transitions, divergences)


def _resample_witnesses(state: LearnerState, now: Array, key: PRNGKeyArray) -> LearnerState:
    """Resample witnesses by their weights and bank the weights' mean in log Z, if `now`."""
    particles, log_weights = state.particles, state.log_weights
    witness_weights = log_weights[particles.witnesses]
    everyone = jnp.arange(len(log_weights))
    chosen = everyone.at[particles.half :].set(particles.half + systematic(key, witness_weights))
    index = jnp.where(now, chosen, everyone)
    banked = jnp.where(now, log_mean_exp(witness_weights), 0.0)
    banked_learners = jnp.where(now, log_mean_exp(log_weights[particles.learners]), 0.0)
    resampled = Particles(
        particles.u[index], particles.y[index], particles.f[index], particles.step_size
    )
    return eqx.tree_at(
        lambda s: (s.particles, s.log_weights, s.log_z, s.log_z_learners),
        state,
        (
            resampled,
            jnp.where(now, 0.0, log_weights),
            state.log_z + banked,
            state.log_z_learners + banked_learners,
        ),
    )
