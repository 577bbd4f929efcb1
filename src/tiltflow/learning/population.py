"""Population learning: many cheap gradient steps on a frozen population, then moves.

A stage learns without any MCMC from importance-weighted learners until the witnesses' effective
share falls to `share_end`, resamples both halves, and moves all of them under
the new f until acceptance is in range and learners and witnesses agree (system.md, "Population
learning"). A whole stage is one compiled program; rates and limits are traced, sizes are not.
"""

from dataclasses import replace

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
    log_mean_exp,
    resample,
    tilt_of,
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
from tiltflow.mcmc import Tuning, catalogue, hmc
from tiltflow.model.exact import push_in_parts
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.running import bridge_jax
from tiltflow.parallel.devices import map_in_parts, over_devices, spread, together
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze

LOWEST_ACCEPTANCE = 0.6  # below it a stage's moves go on
MOST_STEPS = 400  # of one stage


@over_devices
def stage(
    state: LearnerState,
    backbone: Backbone,
    train: Rows,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    """One stage: learn, resample, move."""
    learn_key, *keys = jr.split(key, 3)
    before = state.tilt
    state, share = _learn(state, train, settings, course, learn_key)
    return _follow(state, before, share, backbone, settings, course, *keys)


def follow(
    state: LearnerState,
    before: Tilt,
    share: Array,
    backbone: Backbone,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    """Bring the particles, which are where f was `before`, to the state's tilt: resample, move.

    `share` is the witnesses' effective share, which is told.
    """
    return _follow(state, before, share, backbone, settings, course, *jr.split(key))


def _follow(
    state: LearnerState,
    before: Tilt,
    share: Array,
    backbone: Backbone,
    settings: TiltSettings,
    course: Course,
    resample_key: PRNGKeyArray,
    move_key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    particles = state.particles
    log_weights = together(jax.vmap(state.tilt)(spread(particles.y))) - particles.f
    index = resample(resample_key, particles, log_weights)
    model = TiltedModel(backbone, state.tilt)
    u, y = (together(x)[index] for x in (particles.u, particles.y))
    moved, f, info = _move(model, u, y, particles.step_size, settings, course.effort, move_key)
    info = eqx.tree_at(lambda i: i.share, info, share)
    increment = _increment(before, log_weights, moved)
    state = eqx.tree_at(
        lambda s: (s.particles, s.log_z, s.log_z_learners, s.gradients),
        state,
        (
            moved,
            state.log_z + increment,
            state.log_z_learners + log_mean_exp(log_weights[particles.learners]),
            state.gradients + info.transitions * settings.leapfrogs,
        ),
    )
    return restart_gauge(state, f), info


@over_devices
def settle(
    state: LearnerState, backbone: Backbone, settings: TiltSettings, transitions: Array, key: Array
) -> LearnerState:
    """The state after so many transitions of all particles, and no step of learning.

    They carry no weights.
    """
    particles = state.particles
    long = replace(settings, least_transitions=transitions, most_transitions=transitions)
    moved, f, info = _move(
        TiltedModel(backbone, state.tilt),
        together(particles.u),
        together(particles.y),
        particles.step_size,
        long,
        jnp.asarray(1),
        key,
    )
    state = eqx.tree_at(
        lambda s: (s.particles, s.gradients),
        state,
        (moved, state.gradients + info.transitions * settings.leapfrogs),
    )
    return restart_gauge(state, f)


def _increment(before: Tilt, log_weights: Array, moved: Particles) -> Array:
    """log Z of the new f over that of the old: a bridge between the witnesses, before and after.

    One side alone, the log-mean of the annealing weights, fell short by 2 nats in 200 stages.
    """
    half = moved.half
    after = moved.f[half:] - jax.vmap(before)(moved.y[half:])
    return bridge_jax(log_weights[half:], after, jnp.zeros(half))[0]


def _learn(
    state: LearnerState,
    train: Rows,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, Array]:
    """Gradient steps on the frozen population; returns the witnesses' share at the end too.

    A step costs two passes of f forward and one back, and none through the backbone.
    """
    particles = state.particles
    y_learners, f_learners = particles.y[particles.learners], particles.f[particles.learners]
    y_witnesses, f_witnesses = spread(
        (particles.y[particles.witnesses], particles.f[particles.witnesses])
    )
    _, frozen = freeze(state.tilt)

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
        parameters, average, adam, steps = carry
        data_key, index_key, dropout_key = jr.split(key, 3)
        y_data, _, labels = train.labelled_batch(data_key, settings.batch_data)
        index = spread(jr.randint(index_key, (settings.batch_particles,), 0, particles.half))
        y, tilt = y_learners[index], eqx.combine(parameters, frozen)
        weights = jax.nn.softmax(jax.vmap(tilt)(y) - f_learners[index])
        slope = gradient(
            parameters, frozen, y_data, labels, y, weights, settings.class_weight, dropout_key
        )
        counted = eqx.tree_at(lambda s: s.steps, state, steps)
        rate = learning_rate(settings, counted, course.rate_scale)
        parameters, adam = optimiser.update(parameters, slope, adam, rate, settings.decay)
        average = optimiser.moving_average(average, parameters, settings.memory)
        return (parameters, average, adam, steps + 1), None

    def some_steps(carry: tuple) -> tuple:
        learned, key, _ = carry
        key, steps_key = jr.split(key)
        learned, _ = jax.lax.scan(step, learned, jr.split(steps_key, settings.check_every))
        tilt = eqx.combine(learned[0], frozen)
        return learned, key, effective_share(jax.vmap(tilt)(y_witnesses) - f_witnesses)

    def goes_on(carry: tuple) -> Array:
        (_, _, _, steps), _, share = carry
        left = jnp.minimum(settings.steps, state.steps + MOST_STEPS)
        return (share > settings.share_end) & (steps < left)

    start = (freeze(state.tilt)[0], freeze(state.average)[0], state.adam, state.steps)
    learned, _, share = jax.lax.while_loop(goes_on, some_steps, (start, key, jnp.ones(())))
    parameters, average, adam, steps = learned
    new = (eqx.combine(parameters, frozen), eqx.combine(average, frozen), adam, steps)
    return eqx.tree_at(lambda s: (s.tilt, s.average, s.adam, s.steps), state, new), share


def _jump(key: PRNGKeyArray, model: TiltedModel, u: Array, at_once: int) -> Array:
    """A jump of every particle: to a draw of the mixture in the tilt, if there is one.

    `at_once` is how many of them a device evaluates at a time.
    """
    jump, unused = catalogue.jumps_to(model.mixture), Tuning(jnp.ones(()), jnp.ones(()))

    def log_densities(u: Array) -> Array:
        return map_in_parts(model.latent_log_density, u, at_once)

    point = jump.init(log_densities, u)
    return jump.step(key, log_densities, point, unused)[0].position


def _move(
    model: TiltedModel,
    u: Array,
    y: Array,
    step_size: Array,
    settings: TiltSettings,
    effort: Array,
    key: PRNGKeyArray,
) -> tuple[Particles, Array, StageInfo]:
    """Transitions of all particles until they are in equilibrium, as far as f can tell.

    The first is a jump: a fresh draw, accepted on what f adds. It costs one evaluation,
    fills what the tilt has raised where no particle was, and where f is small it makes all new.
    Jumps to a mixture go on in turn with the others: they are accepted however large its part
    of f is, and without them resampling leaves the descendants of a few.
    """
    if not model.backbone.is_normal:
        return _jumped(model, u, y, step_size, settings, effort, key)
    half = len(u) // 2
    at_once = settings.moved_at_once or len(u)
    latent = hmc.value_and_gradient_in_parts(model.latent_log_density, at_once)
    jump_key, key = jr.split(key)
    u = _jump(jump_key, model, spread(u), at_once)

    def goes_on(carry: tuple) -> Array:
        _, _, _, transitions, _, acceptance, apart = carry
        lags = (acceptance < LOWEST_ACCEPTANCE) | ~(jnp.abs(apart) < settings.agree_within)
        few = transitions < settings.least_transitions * effort
        return few | (lags & (transitions < settings.most_transitions * effort))

    def transition(carry: tuple) -> tuple:
        state, step_size, key, transitions, divergences, _, _ = carry
        key, step_key = jr.split(key)
        if model.mixture is not None:
            u = _jump(jr.fold_in(step_key, 1), model, state.position, at_once)
            state = hmc.init(spread(u), latent)
        state, info = hmc.step(
            step_key, state, latent, step_size, num_leapfrogs=settings.leapfrogs, jitter=0.2
        )
        state, acceptance = spread(state), jnp.mean(together(info.acceptance_rate))
        step_size = adapt(step_size, acceptance, settings.target)
        divergences = divergences + jnp.sum(info.is_divergent)
        apart = agreement(together(tilt_of(state)), half)
        return state, step_size, key, transitions + 1, divergences, acceptance, apart

    zero = jnp.asarray(0)
    start = (spread(hmc.init(u, latent)), step_size, key, zero, zero, jnp.zeros(()), jnp.zeros(()))
    state, step_size, _, transitions, divergences, acceptance, apart = jax.lax.while_loop(
        goes_on, transition, start
    )
    f = together(f_of(model, state))
    y = push_in_parts(model.backbone, state.position)
    info = StageInfo(
        share=jnp.ones(()),
        transitions=transitions,
        acceptance=acceptance,
        agreement=apart,
        lag=jnp.zeros(()),  # weights were used up by resampling
        divergences=divergences,
        f_learners=jnp.mean(f[:half]) - jnp.mean(f[half:]),
    )
    return Particles(state.position, y, f, step_size), f, info


def _jumped(
    model: TiltedModel,
    u: Array,
    y: Array,
    step_size: Array,
    settings: TiltSettings,
    effort: Array,
    key: PRNGKeyArray,
) -> tuple[Particles, Array, StageInfo]:
    """`_move` over a backbone that draws near the model: a transition is one fresh draw for each.

    It is accepted on what f adds, so that it needs neither a gradient nor the backbone's density;
    nor its draws, where the backbone is a `Bank` of them. Most are refused where f is large, and
    cost little: the acceptance that is told is the share of particles that have moved at all.
    """
    half = len(u) // 2
    at_once = settings.moved_at_once or len(u)

    def located(u: Array, y: Array) -> tuple[Array, Array, Array]:
        return u, y, together(map_in_parts(model.tilt, y, at_once))

    def goes_on(carry: tuple) -> Array:
        _, _, _, transitions, apart = carry
        few = transitions < settings.least_transitions * effort
        lags = ~(jnp.abs(apart) < settings.agree_within)
        return few | (lags & (transitions < settings.most_transitions * effort))

    def transition(carry: tuple) -> tuple:
        there, has_moved, key, transitions, _ = carry
        key, draw_key, accept_key = jr.split(key, 3)
        new = located(*model.backbone.drawn(draw_key, len(u)))
        rise = new[2] - there[2]
        rate = jnp.where(jnp.isfinite(rise), jnp.exp(jnp.minimum(rise, 0.0)), 0.0)
        accepted = jr.uniform(accept_key, rate.shape) < rate
        there = tuple(
            jnp.where(accepted.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            for a, b in zip(new, there, strict=True)
        )
        apart = agreement(there[2], half)
        return there, has_moved | accepted, key, transitions + 1, apart

    zero = jnp.asarray(0)
    start = (located(u, y), jnp.zeros(len(u), bool), key, zero, jnp.zeros(()))
    (u, y, f), has_moved, _, transitions, apart = jax.lax.while_loop(goes_on, transition, start)
    info = StageInfo(
        share=jnp.ones(()),
        transitions=transitions,
        acceptance=jnp.mean(has_moved),
        agreement=apart,
        lag=jnp.zeros(()),
        divergences=zero,
        f_learners=jnp.mean(f[:half]) - jnp.mean(f[half:]),
    )
    return Particles(u, y, f, step_size), f, info
