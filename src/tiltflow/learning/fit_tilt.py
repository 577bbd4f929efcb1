"""The loop that both learners share: a stage, a look at its health, a judgement, the best kept."""

from collections.abc import Callable
from dataclasses import asdict, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.errors import InputError
from tiltflow.learning import optimiser, persistent, population
from tiltflow.learning.early_stopping import Listener
from tiltflow.learning.fresh import FreshLook, look, renewed
from tiltflow.learning.health import Monitor
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.nce import fit_nce
from tiltflow.learning.renewal import renew
from tiltflow.learning.rows import Rows
from tiltflow.learning.start import Start, as_particles, begin, is_zero
from tiltflow.learning.state import LearnerState, StageInfo, TiltSettings, restart_gauge
from tiltflow.learning.swings import Swings
from tiltflow.learning.witnesses import Judge, Judgement, anchored, moved_on
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze

Stage = Callable[..., tuple[LearnerState, StageInfo]]
STAGES: dict[str, Stage] = {
    "population": population.stage,
    "persistent": persistent.stage,
    "nce": population.stage,
    "nce+mle": population.stage,
}
LEAST_OVERLAP = 0.05  # effective share left of an anchor, below which it is time for the next
SETTLED = 0.6  # acceptance from which moves are taken to have brought particles to f


def fit_tilt(
    backbone: Backbone,
    tilt: Tilt,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
    start: Start | None = None,
    keeper: Keeper | None = None,
    classes: tuple[int, Callable[[Array], np.ndarray]] | None = None,
    phase: str = "tilt",
) -> tuple[Tilt, Judgement, LearnerState]:
    """Learn `tilt` by maximum likelihood, by contrast with the backbone, or by both in turn.

    What is kept is the average of the weights with the best held-out gain, as the witnesses
    judge it, at the level where E_p f = 0. A tilt that is zero starts from exact draws, any other
    from `start`, or else from a climb to it (`start.py`). `keeper` is offered the state after
    every stage of learning, as the stage `phase`, and the result of the contrast as `"nce"`.
    `classes`, a number and a function of coordinates `[n, dim]` to labels below it, has the
    witnesses' shares watched (`swings.py`). `phase` names the stage in events, and to `keeper`.

    Returns the tilt, the judgement it was kept for, and the learner's last state.

    Raises:
        InputError: settings that cannot work, a tilt that is no `Tilt` or has no gradient, or a
            first tilt that is out of reach.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    settings.check()
    _checked(tilt, backbone)
    train = train.through(backbone)
    stage = STAGES[settings.learner]
    particles_key, judge_key, key = jr.split(key, 3)
    if settings.learner in ("nce", "nce+mle"):
        if (found := keeper.finished("nce", tilt)) is None:
            nce_key = jr.fold_in(key, 1)
            tilt, _ = fit_nce(backbone, tilt, train, val, settings, key=nce_key, listen=listen)
            keeper.finish("nce", tilt, {})
        else:
            tilt = found[0]
        start = None
    start = start or begin(particles_key, backbone, tilt, settings.particles)
    particles = as_particles(start, backbone, tilt)
    state = LearnerState(
        tilt=tilt,
        average=tilt,
        adam=optimiser.ADAM.init(freeze(tilt)[0]),
        particles=particles,
        log_weights=jnp.zeros(settings.particles),
        log_z=start.log_z,
        log_z_learners=start.log_z,
        steps=jnp.asarray(0),
        gradients=jnp.asarray(0),
    )
    judge = Judge.gather(backbone, train, val, settings, tilt, particles, key=judge_key)
    if not is_zero(tilt, backbone):
        judge = judge.at(tilt, particles, start.log_z)
    best, best_judgement = tilt, judge.judge(tilt, state)
    number = best_stage = best_step = judged = 0
    overlap = 1.0
    monitor, good, started = Monitor(), state, keeper.clock()
    if found := keeper.last(phase, (state, good, best, best_judgement, judge.anchor, key)):
        (state, good, best, best_judgement, anchor, key), plain = found
        number, best_stage, best_step = (plain[n] for n in ("number", "best_stage", "best_step"))
        overlap, judged = plain["overlap"], plain["judged"]
        monitor, started = Monitor(**plain["monitor"]), plain["started"]
        judge = replace(judge, anchor=anchor)
    traced = settings.traced()
    swings = Swings(classes[0]) if classes else None
    steps = 0 if settings.learner == "nce" else settings.steps
    while int(state.steps) < steps and not monitor.gave_up:
        if number:
            tree = (state, good, best, best_judgement, judge.anchor, key)
            keeper.offer(phase, int(state.steps), tree, {
                "number": number, "best_stage": best_stage, "best_step": best_step,
                "monitor": asdict(monitor), "started": started, "overlap": overlap,
                "judged": judged,
            })  # fmt: skip
        key, stage_key = jr.split(key)
        number += 1
        before = int(state.steps)
        state, info = stage(state, backbone, train, traced, monitor.course(), stage_key)
        action = pace = None
        if settings.watch:
            action = _health(monitor, state, info, settings)
            pace = action or monitor.pace(int(state.steps) - before, settings.least_steps)
        if pace is not None:
            listen(phase, "health", stage=number, action=pace[0], why=pace[1])
        if action is not None and action[0].startswith("roll back"):
            # The steps count on, so that a learner which keeps failing still ends.
            counts = (state.steps, state.gradients)
            state = eqx.tree_at(lambda s: (s.steps, s.gradients), good, counts)
            continue
        last = int(state.steps) >= settings.steps
        overlap *= float(info.share)
        leaves_anchor = bool(judge.anchor.set) and overlap < LEAST_OVERLAP
        if number % settings.judge_every and not (last or leaves_anchor):
            continue
        overlap = 1.0
        judgement, now = judge.judge(state.average, state), judge.judge(state.tilt, state)
        sound = bool(judgement.holds) and action is None
        if sound:
            good = state
        if sound and float(judgement.gain_val) > float(best_judgement.gain_val):
            best, best_judgement = state.average, judgement
            best_stage, best_step = number, int(state.steps)
        seconds = keeper.clock() - started
        listen(phase, "stage", **_told(settings, number, state, info, judgement, now, seconds))
        if classes and swings:
            shown = classes[1](state.particles.y[state.particles.witnesses])
            if why := swings.look(shown, float(now.gain_val)):
                listen(phase, "health", stage=number, action="none", why=why)
        if bool(now.holds):
            state = anchored(state, now)
            if action is None and _settled(info, settings):
                judge = moved_on(judge, state, now)
        judged += 1
        if settings.fresh_every and judged % settings.fresh_every == 0 and not last:
            key, look_key, settle_key = jr.split(key, 3)
            seen, found = _look(look_key, backbone, state, judge, now, settings)
            told = {"stage": number, "step": int(state.steps), "seconds": round(seconds, 2)}
            listen(phase, "fresh", **told, **found)
            if seen.log_z is not None:
                state = _renewed(state, seen)
                judge = judge.at(state.tilt, state.particles, state.log_z)
            if seen.differs and settings.watch:
                action = "begin again where these chains are"
                if seen.log_z is None:
                    state = _begun_again(state, seen, backbone, traced, settings, settle_key)
                    action += f", {monitor.catch_up()}"
                listen(phase, "health", stage=number, action=action, why=seen.why)
                # What was judged by particles that lag is judged again.
                best, best_judgement = state.average, judge.judge(state.average, state)
                best_stage, best_step, good = number, int(state.steps), state
        if number - best_stage >= settings.patience * settings.judge_every:
            listen(phase, "stopped", why="the held-out gain has not grown", stage=number)
            break
    if monitor.gave_up:
        why = "the rate was lowered too often: the data or the settings do not suit the learner"
        listen(phase, "stopped", why=why, stage=number)
    gain = float(best_judgement.gain_val)
    listen(phase, "kept", learner=settings.learner, stage=best_stage, step=best_step, gain_val=gain)
    best = eqx.tree_at(lambda t: t.level, best, best.level + best_judgement.level)
    return best, best_judgement, state


def _checked(tilt: Tilt, backbone: Backbone) -> None:
    """Raises InputError for what cannot be learned as a tilt."""
    if not isinstance(tilt, Tilt):
        raise InputError(
            f"the tilt is a {type(tilt).__name__}; expected a tiltflow.tilts.Tilt: wrap a network "
            f"of your own in tiltflow.tilts.NetworkTilt"
        )
    c = jr.normal(jr.key(0), (8, backbone.dim))
    parameters, frozen = freeze(tilt)
    f, pull_back = jax.vjp(lambda p: jax.vmap(eqx.combine(p, frozen))(c), parameters)
    if f.shape != (8,):
        raise InputError(f"the tilt of one example has shape {f.shape[1:]}; expected a scalar")
    gradient = jax.tree.leaves(pull_back(jr.normal(jr.key(1), (8,))))
    if not any(jnp.any(leaf != 0) for leaf in gradient):
        raise InputError(
            "the tilt has no gradient in its parameters, so that it would stay as it is; expected "
            "one: a network that is zero by itself goes into NetworkTilt with gate=1"
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


def _look(
    key: PRNGKeyArray,
    backbone: Backbone,
    state: LearnerState,
    judge: Judge,
    now: Judgement,
    settings: TiltSettings,
) -> tuple[FreshLook, dict[str, float]]:
    """Chains started afresh, and what is told of them; `now` is the judgement of the tilt."""
    how = {
        "chains": settings.fresh_chains,
        "transitions": settings.fresh_transitions,
        "leapfrogs": settings.leapfrogs,
    }
    there = state.particles
    if settings.fresh_replicas:
        found = renew(
            key, backbone, state.tilt, settings.particles, there.step_size,
            replicas=settings.fresh_replicas, **how,
        )  # fmt: skip
        seen = renewed(found, backbone, state.tilt, there)
        if seen.log_z is not None:
            judge = judge.at(state.tilt, seen.particles, jnp.asarray(seen.log_z))
    else:
        seen = look(key, backbone, state.tilt, there, **how)
    none = jnp.zeros(len(seen.particles.f))
    fresh = eqx.tree_at(lambda s: (s.particles, s.log_weights), state, (seen.particles, none))
    judged = judge.judge(state.tilt, fresh)
    if seen.log_z is not None:
        seen = replace(seen, excess=float(now.gain_val - judged.gain_val))
    return seen, {
        "gain_val": float(now.gain_val),
        "gain_fresh": float(judged.gain_val),
        "holds": bool(judged.holds),
        "gap": seen.gap,
        "error": seen.error,
        "rise": seen.rise,
    }


def _renewed(state: LearnerState, seen: FreshLook) -> LearnerState:
    """The state with the draws of replica exchange in place of its particles, and their log Z."""
    log_z = jnp.asarray(seen.log_z, state.log_z.dtype)
    state = eqx.tree_at(
        lambda s: (s.particles, s.log_weights, s.log_z, s.log_z_learners),
        state,
        (seen.particles, jnp.zeros_like(state.log_weights), log_z, log_z),
    )
    return restart_gauge(state, seen.particles.f)


def _begun_again(
    state: LearnerState,
    seen: FreshLook,
    backbone: Backbone,
    traced: TiltSettings,
    settings: TiltSettings,
    key: PRNGKeyArray,
) -> LearnerState:
    """The state with its particles where the fresh chains are, moved on for as long again."""
    state = eqx.tree_at(
        lambda s: (s.particles, s.log_weights),
        state,
        (seen.instead_of(state.particles), jnp.zeros_like(state.log_weights)),
    )
    return population.settle(state, backbone, traced, settings.fresh_transitions, key)


def _settled(info: StageInfo, settings: TiltSettings) -> bool:
    """Whether the witnesses are where f is, so that others may be judged by them."""
    apart = max(abs(float(info.agreement)), abs(float(info.lag)))
    return apart <= settings.agree_within and float(info.acceptance) >= SETTLED


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
