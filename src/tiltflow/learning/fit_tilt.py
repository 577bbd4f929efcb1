"""The loop that both learners share: a stage, a look at its health, a judgement, the best kept."""

import math
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.errors import InputError
from tiltflow.learning import optimiser, persistent, population
from tiltflow.learning.fit_backbone import Listener
from tiltflow.learning.health import Monitor
from tiltflow.learning.particles import exact
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState, StageInfo, TiltSettings
from tiltflow.learning.witnesses import Judge, Judgement, anchored
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze

Stage = Callable[..., tuple[LearnerState, StageInfo]]
STAGES: dict[str, Stage] = {"population": population.stage, "persistent": persistent.stage}
FIRST_STEP_SIZE = 0.5


def fit_tilt(
    backbone: Backbone,
    tilt: Tilt,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
) -> tuple[Tilt, Judgement, LearnerState]:
    """Learn `tilt`, which must be zero, by maximum likelihood.

    What is kept is the average of the weights with the best held-out gain, as the witnesses
    judge it, at the level where E_p f = 0.

    Returns the tilt, the judgement it was kept for, and the learner's last state.

    Raises:
        InputError: settings that cannot work, or a tilt that is not zero or cannot be learned.
    """
    settings.check()
    _checked(tilt, backbone)
    stage = STAGES[settings.learner]
    particles_key, judge_key, key = jr.split(key, 3)
    particles = exact(particles_key, backbone, settings.particles, FIRST_STEP_SIZE)
    state = LearnerState(
        tilt=tilt,
        average=tilt,
        adam=optimiser.ADAM.init(freeze(tilt)[0]),
        particles=particles,
        log_weights=jnp.zeros(settings.particles),
        log_z=jnp.zeros(()),
        log_z_learners=jnp.zeros(()),
        steps=jnp.asarray(0),
        gradients=jnp.asarray(0),
    )
    judge = Judge.gather(backbone, train, val, settings.bank, key=judge_key)
    best, best_judgement, best_stage, best_step = tilt, judge.judge(tilt, state), 0, 0
    monitor = Monitor()
    traced = settings.traced()
    number, good, started = 0, state, time.monotonic()
    while int(state.steps) < settings.steps and not monitor.gave_up:
        key, stage_key = jr.split(key)
        number += 1
        state, info = stage(state, backbone, train, traced, monitor.course(), stage_key)
        action = _health(monitor, state, info, settings) if settings.watch else None
        if action is not None:
            listen("tilt", "health", stage=number, action=action[0], why=action[1])
            if action[0].startswith("roll back"):
                # The steps count on, so that a learner which keeps failing still ends.
                counts = (state.steps, state.gradients)
                state = eqx.tree_at(lambda s: (s.steps, s.gradients), good, counts)
                continue
        last = int(state.steps) >= settings.steps
        if number % settings.judge_every and not last:
            continue
        judgement, now = judge.judge(state.average, state), judge.judge(state.tilt, state)
        sound = bool(judgement.holds) and action is None
        if sound:
            good = state
        if sound and float(judgement.gain_val) > float(best_judgement.gain_val):
            best, best_judgement = state.average, judgement
            best_stage, best_step = number, int(state.steps)
        seconds = time.monotonic() - started
        listen("tilt", "stage", **_told(settings, number, state, info, judgement, now, seconds))
        if bool(now.holds):
            state = anchored(state, now)
        if number - best_stage >= settings.patience * settings.judge_every:
            listen("tilt", "stopped", why="the held-out gain has not grown", stage=number)
            break
    if monitor.gave_up:
        why = "the rate was lowered too often: the data or the settings do not suit the learner"
        listen("tilt", "stopped", why=why, stage=number)
    gain = float(best_judgement.gain_val)
    listen(
        "tilt", "kept", learner=settings.learner, stage=best_stage, step=best_step, gain_val=gain
    )
    best = eqx.tree_at(lambda t: t.level, best, best.level + best_judgement.level)
    return best, best_judgement, state


def _checked(tilt: Tilt, backbone: Backbone) -> None:
    """Raises InputError for a tilt at which exact draws are not exact, or without a gradient."""
    if not isinstance(tilt, Tilt):
        raise InputError(
            f"the tilt is a {type(tilt).__name__}; expected a tiltflow.tilts.Tilt: wrap a network "
            f"of your own in tiltflow.tilts.NetworkTilt"
        )
    y = jr.normal(jr.key(0), (8, math.prod(backbone.data_shape)))
    parameters, frozen = freeze(tilt)
    f, pull_back = jax.vjp(lambda p: jax.vmap(eqx.combine(p, frozen))(y), parameters)
    if f.shape != (8,):
        raise InputError(f"the tilt of one example has shape {f.shape[1:]}; expected a scalar")
    if jnp.any(f != 0):
        raise InputError("the tilt is not zero; expected f = 0, where N(0, I) draws are exact")
    gradient = jax.tree.leaves(pull_back(jr.normal(jr.key(1), (8,))))
    if not any(jnp.any(leaf != 0) for leaf in gradient):
        raise InputError(
            "the tilt has no gradient in its parameters, so that it would stay 0; expected one: "
            "a network that is zero by itself goes into NetworkTilt with gate=1"
        )


def _health(
    monitor: Monitor, state: LearnerState, info: StageInfo, settings: TiltSettings
) -> tuple[str, str] | None:
    finite = jnp.all(jnp.isfinite(state.particles.f)) & jnp.all(jnp.isfinite(state.particles.u))
    return monitor.react(
        agreement=float(info.agreement),
        agree_within=settings.agree_within,
        lag=float(info.lag),
        share=float(info.share),
        acceptance=float(info.acceptance),
        finite=bool(finite),
    )


def _told(
    settings: TiltSettings,
    number: int,
    state: LearnerState,
    info: StageInfo,
    judgement: Judgement,
    now: Judgement,
    seconds: float,
) -> dict[str, float | int | str]:
    """The fields of a stage's event; `judgement` is of the average, `now` of the tilt itself."""
    return {
        "learner": settings.learner,
        "stage": number,
        "step": int(state.steps),
        "steps": settings.steps,
        "seconds": round(seconds, 2),
        "gradients": int(state.gradients),
        "gain_train": float(judgement.gain_train),
        "gain_val": float(judgement.gain_val),
        "log_z": float(judgement.log_z),
        "log_z_now": float(now.log_z),
        "log_z_running": float(now.running),
        "log_z_learners": float(now.learners),
        "ess_bank": float(judgement.ess_bank),
        "holds": bool(judgement.holds),
        "share": float(info.share),
        "transitions": int(info.transitions),
        "acceptance": float(info.acceptance),
        "divergences": int(info.divergences),
        "f_learners": float(info.f_learners),
        "f_witnesses": 0.0,  # by the choice of f's level
        "f_val": float(judgement.f_val),
        "agreement": float(info.agreement),
        "lag": float(info.lag),
        "step_size": float(state.particles.step_size),
    }
