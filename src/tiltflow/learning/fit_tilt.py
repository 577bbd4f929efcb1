"""The loop that both learners share: a stage, a look at its health, a judgement, the best kept."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

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
from tiltflow.learning.health import Monitor
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.looks import look_afresh
from tiltflow.learning.nce import fit_nce
from tiltflow.learning.rows import Rows
from tiltflow.learning.start import Start, as_particles, begin, is_zero
from tiltflow.learning.state import LearnerState, StageInfo, TiltSettings
from tiltflow.learning.swings import Swings
from tiltflow.learning.witnesses import Judge, Judgement, anchored, moved_on
from tiltflow.mcmc.news import News, OnChunk
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
            tilt, _ = fit_nce(
                backbone, tilt, train, val, settings, key=nce_key, listen=listen, keeper=keeper
            )
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
    renews = settings.fresh_replicas > 0 and settings.fresh_every > 0
    monitor, good, started = Monitor(renews=renews), state, keeper.clock()
    seen_before: dict[str, Any] = {}
    if found := keeper.last(phase, (state, good, best, best_judgement, judge.anchor, key)):
        (state, good, best, best_judgement, anchor, key), plain = found
        number, best_stage, best_step = (plain[n] for n in ("number", "best_stage", "best_step"))
        overlap, judged = plain["overlap"], plain["judged"]
        monitor, started = Monitor(**plain["monitor"]), plain["started"]
        seen_before = plain.get("swings", {})
        judge = replace(judge, anchor=anchor)
    traced = settings.traced()
    swings = Swings(classes[0], **seen_before) if classes else None
    steps = 0 if settings.learner == "nce" else settings.steps
    while int(state.steps) < steps and not monitor.gave_up:
        if number:
            tree = (state, good, best, best_judgement, judge.anchor, key)
            keeper.offer(phase, int(state.steps), tree, {
                "number": number, "best_stage": best_stage, "best_step": best_step,
                "monitor": asdict(monitor), "started": started, "overlap": overlap,
                "judged": judged, "swings": swings.to_dict() if swings else {},
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
        if number % settings.judge_every and not (last or leaves_anchor or monitor.due):
            continue
        overlap = 1.0
        judgement, now = judge.judge(state.average, state), judge.judge(state.tilt, state)
        sound = bool(judgement.holds) and action is None
        if sound:
            good = state
        better = float(judgement.gain_val) > float(best_judgement.gain_val)
        if sound and (better or not bool(best_judgement.holds)):
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
        looks = settings.fresh_every and judged % settings.fresh_every == 0
        if (looks or monitor.due) and not last:
            monitor.due = False
            key, look_key, settle_key = jr.split(key, 3)
            told = {"stage": number, "step": int(state.steps), "steps": settings.steps}
            seen, found = look_afresh(
                look_key, backbone, state, judge, now, settings,
                on_chunk=_while_looking(phase, told, listen, keeper),
            )  # fmt: skip
            listen(phase, "fresh", **told, seconds=round(seconds, 2), **found)
            ill = seen.differs and settings.watch
            if seen.takes_over or ill:
                judge = seen.anchored(judge, state)
                state = good = seen.taken_up(state, backbone, traced, settle_key)
            if ill:
                action = "begin again where these chains are"
                if not seen.takes_over:
                    action += f", {monitor.catch_up()}"
                listen(phase, "health", stage=number, action=action, why=seen.why)
                # What was judged by particles that lag is judged again.
                best, best_judgement = state.average, judge.judge(state.average, state)
                best_stage, best_step = number, int(state.steps)
        if number - best_stage >= settings.patience * settings.judge_every:
            why = "the held-out gain has not grown"
            if not bool(now.holds):
                why = "the held-out gain can no longer be judged: few draws of known log Z are near"
            listen(phase, "stopped", why=why, stage=number)
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


def _while_looking(phase: str, told: dict[str, Any], listen: Listener, keeper: Keeper) -> OnChunk:
    """Chains that take minutes tell how far they are, and hear that the fit is to stop."""

    def hear(news: News) -> None:
        listen(phase, "looking", **told, done=news.done, total=news.total)
        keeper.listen()

    return hear


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
