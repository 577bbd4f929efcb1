"""A Glow and its tilt, learned within a given time: the first half of `images.py`.

A quarter of it goes to the flow, the rest to the tilt, in rounds: before all but the first the
particles are made anew by replica exchange, and tell the scale of the tilt, beta, that validation
images ask for; the witnesses of the last round tell it once more. Networks and learners are those
of `tiltflow fit --backbone glow`; numbers of steps follow the clock, and the rounds, the sizes of
population and batch, and the number and length of chains, are of this benchmark.
"""

import time
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from images_judged import CHAINS, EXCHANGED, REPLICAS, class_share

from tiltflow.backbones import Flow
from tiltflow.evaluation.calibration import Calibration, calibrate, scaled
from tiltflow.evaluation.likelihood import score
from tiltflow.fitting.recipes import begin_backbone, learn_backbone
from tiltflow.fitting.settings import Settings
from tiltflow.learning import BackboneSettings, Rows, TiltSettings, fit_backbone, fit_tilt
from tiltflow.learning.early_stopping import CHUNK
from tiltflow.learning.keeping import KeepsNothing
from tiltflow.learning.particles import Particles, log_mean_exp, resample
from tiltflow.learning.renewal import Renewal, renew
from tiltflow.learning.start import Start, as_particles
from tiltflow.learning.state import LearnerState
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.specs import Spec
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.resampling import systematic
from tiltflow.parallel.devices import map_in_parts
from tiltflow.tilts import Tilt

FLOW, TILT = 0.18, 0.47  # of the time; the judgement has the rest
SAFETY = 0.95  # of the time for the flow, for what is not foreseen


class Round(NamedTuple):
    """Of learning the tilt: stages of moved particles, or one stage of particles that stay.

    Moved particles drift, a class at a time, and are renewed soon. In the last round they are
    many: f learns the noise of few learners by heart, and of 4,096 particles the learners had
    shares of classes that fresh chains did not have. To resample would leave fewer draws to learn
    from, so those are not moved.

    Attributes:
        factor: on the rate, which falls along the steps.
        particles: learners and witnesses together.
        steps: at most.
        learning: share of the time for the tilt, for as many stages as there is time for.
        renewal: likewise, for new particles first.
    """

    factor: float
    particles: int
    steps: int = 10**6
    learning: float = 0.0
    renewal: float = 0.0


ROUNDS = (
    Round(1.0, 1_024, learning=0.18),
    Round(0.5, 1_024, learning=0.26, renewal=0.08),
    Round(0.35, 12_288, steps=320, renewal=0.38),
)
SHARE_END = 0.3  # the effective share that ends a stage
BATCH = 512
MEMORY = 0.98  # of the averaged weights
TRIED = 10  # transitions


class Enough(Exception):
    """The time of a part is over."""


class Timed(KeepsNothing):
    """Holds the newest state of a learner, and ends it when there is no time for another stage."""

    def __init__(self, until: float) -> None:
        """Until a moment of the monotonic clock."""
        super().__init__()
        self.until, self.state, self.before = until, None, time.monotonic()

    def offer(self, stage: str, step: int, tree: Any, plain: dict[str, Any]) -> None:
        """Take the state; another stage is taken to be as long as the last."""
        now = time.monotonic()
        took, self.state, self.before = now - self.before, tree, now
        if now + took > self.until:
            raise Enough


def learned(
    spec: Spec, train: Rows, val: Rows, settings: Settings, began: float, whole: float
) -> tuple[TiltedModel, dict[str, Any]]:
    """The model, and how it was learned in its share of the time."""
    start = begin_backbone(spec, train.units, key=jr.key(0))
    assert isinstance(start, Flow)
    flow, of_flow = timed_flow(start, train, val, settings, began + FLOW * whole)
    tilt, of_tilt = timed_tilt(
        flow, spec.tilt(key=jr.key(1)), train, val, settings, began + (FLOW + TILT) * whole
    )
    return TiltedModel(flow, tilt), {"backbone": of_flow, "learning": of_tilt}


def timed_flow(
    start: Flow, train: Rows, val: Rows, settings: Settings, until: float
) -> tuple[Flow, dict[str, float]]:
    """The flow after as many steps as there is time for.

    Two chunks warm it up and tell how long one takes; then the rate falls along the rest.
    """
    ends = []

    def listen(phase: str, event: str, **fields: Any) -> None:
        ends.append(time.monotonic())
        say(phase, event, **fields)

    how = {"listen": listen, "keeper": KeepsNothing()}
    warm = replace(settings, backbone=averaging(settings.backbone, 2 * CHUNK))
    flow, _ = learn_backbone(start, train, val, warm, key=jr.key(2), **how)
    seconds = ends[1] - ends[0]
    assert isinstance(flow, Flow)
    chunks = max(1, int(SAFETY * (until - ends[1]) / seconds))
    steps = chunks * CHUNK
    say("backbone", "planned", steps=steps, seconds_a_chunk=seconds)
    long = replace(averaging(settings.backbone, steps), patience=chunks)
    flow, _ = fit_backbone(flow, train, val, long, key=jr.key(3), **how)
    rate = CHUNK * settings.backbone.batch / seconds
    return flow, {"steps": steps + 2 * CHUNK, "images_per_second": round(rate, 1)}


def averaging(settings: BackboneSettings, steps: int) -> BackboneSettings:
    """So many steps, and an average of the weights over the last few of them."""
    return replace(settings, steps=steps, memory=min(settings.memory, 1 - 20 / steps))


def timed_tilt(
    flow: Flow, tilt: Tilt, train: Rows, val: Rows, settings: Settings, until: float
) -> tuple[Tilt, dict[str, Any]]:
    """The tilt with the best held-out gain of the last round, as its witnesses tell it."""
    began = time.monotonic()
    whole, end, gain, steps, start = until - began, began, 0.0, 0, None
    looks, each = [], 0.0  # seconds of a transition
    for number, plan in enumerate(ROUNDS):
        key = jr.fold_in(jr.key(4), number)
        if plan.renewal:
            assert start is not None
            found, each = renewed(
                key, flow, tilt, plan.particles, start.step_size, plan.renewal * whole, each
            )
            f_val = score(TiltedModel(flow, tilt), val, jr.key(8), 1).f
            fresh = float(f_val.mean()) - found.log_z.mean
            tilt, start, scale = calibrated(jr.fold_in(key, 1), flow, tilt, found, f_val)
            seconds = round(time.monotonic() - began, 1)
            looks.append({"seconds": seconds, "told": gain, "fresh": fresh, **scale.to_dict()})
            say(
                "tilt",
                "renewal",
                gain_val=gain,
                gain_fresh=fresh,
                rhat=found.rhat,
                error=found.log_z.standard_error,
                **scale.to_dict(),
                classes=shares_of(flow, start.u),
            )
        end = max(end, time.monotonic()) + plan.learning * whole
        moves = settings.tilt.least_transitions if plan.learning else 0
        learning = replace(
            settings.tilt,
            least_transitions=moves,
            most_transitions=moves,
            steps=plan.steps,
            patience=10**6,
            rate=plan.factor * settings.tilt.rate,
            particles=plan.particles,
            check_every=5 if moves else 20,
            batch_data=BATCH,
            batch_particles=BATCH,
            memory=MEMORY,
            share_end=SHARE_END,
            judge_every=1,
            fresh_every=0,  # rounds begin with fresh chains
            watch=False,  # a few stages, and particles are made anew: that mends what lags
        )
        how = {"key": key, "listen": say, "start": start}
        tilt, judgement, state = learned_until(end, flow, tilt, train, val, learning, **how)
        steps += int(state.steps)
        gain = float(judgement.gain_val)
        start = Start(state.particles.u, state.log_z, state.particles.step_size)
        say(
            "tilt",
            "round",
            round=number,
            steps=steps,
            gain_val=gain,
            classes=shares_of(flow, start.u),
        )
    f_witnesses = reweighted(jr.key(9), tilt, state.particles)
    scale = calibrate(score(TiltedModel(flow, tilt), val, jr.key(8), 1).f, f_witnesses)
    say("tilt", "scaled", **scale.to_dict())
    told = {"steps": steps, "gain_val_by_witnesses": gain + scale.rise, "scale": scale.beta}
    return scaled(tilt, scale.beta), told | {"looks": looks}


def learned_until(
    end: float, flow: Flow, tilt: Tilt, train: Rows, val: Rows, settings: TiltSettings,
    **how: Any,
) -> tuple[Tilt, Judgement, LearnerState]:  # fmt: skip
    """What `fit_tilt` returns, or would return if it ended when another stage is too long."""
    keeper = Timed(end)
    try:
        return fit_tilt(flow, tilt, train, val, settings, keeper=keeper, **how)
    except Enough:
        assert keeper.state is not None
        state, _, kept, judgement, *_ = keeper.state
        return replace_level(kept, kept.level + judgement.level), judgement, state


def renewed(
    key: jax.Array, flow: Flow, tilt: Tilt, particles: int, step_size: jax.Array, seconds: float,
    each: float,
) -> tuple[Renewal, float]:  # fmt: skip
    """Particles made anew in about so many seconds, and how many a transition has taken.

    `each` is what it took before; where that is not known, 0, a few transitions tell.
    """
    how = {"replicas": REPLICAS, "chains": CHAINS, "leapfrogs": EXCHANGED}
    began = before = time.monotonic()
    if not each:
        for _ in range(2):  # the first compiles
            before = time.monotonic()
            renew(key, flow, tilt, particles, step_size, transitions=TRIED, **how)
        each, before = (time.monotonic() - before) / TRIED, time.monotonic()
    transitions = max(TRIED, int((seconds - (before - began)) / each))
    found = renew(
        key,
        flow,
        tilt,
        particles,
        step_size,
        transitions=transitions,
        on_chunk=lambda news: say("renewal", "progress", **news.event()),
        **how,
    )
    return found, (time.monotonic() - before) / transitions


def shares_of(flow: Flow, u: jax.Array) -> list[str]:
    """The smallest and the largest share of a class, among learners and among witnesses."""
    halves = np.split(np.asarray(u), 2)
    shares = [class_share(flow, half[None]) for half in halves]
    return [f"{share['min']:.3f} to {share['max']:.3f}" for share in shares if share]


def calibrated(
    key: jax.Array, flow: Flow, tilt: Tilt, found: Renewal, f_val: np.ndarray
) -> tuple[Tilt, Start, Calibration]:
    """The tilt at the scale that validation rows ask for, and draws at that scale."""
    start = found.start
    scale = calibrate(f_val, found.f)
    particles, more = as_particles(start, flow, tilt), scale.beta - 1
    index = resample(key, particles, more * particles.f)
    log_z = start.log_z + log_mean_exp(more * jnp.asarray(found.f).ravel())
    return scaled(tilt, scale.beta), Start(start.u[index], log_z, start.step_size), scale


def reweighted(key: jax.Array, tilt: Tilt, particles: Particles) -> np.ndarray:
    """f of the witnesses, resampled from the tilt they were left under to `tilt`."""
    of = particles.witnesses
    f = f_in_parts(tilt, particles.y[of])
    return np.asarray(f[systematic(key, f - particles.f[of])])


@eqx.filter_jit
def f_in_parts(tilt: Tilt, y: jax.Array) -> jax.Array:
    """The tilt at many coordinates, in little memory."""
    return map_in_parts(tilt, y, 1_024)


def replace_level(tilt: Tilt, level: Any) -> Tilt:
    """`tilt` at another level."""
    return eqx.tree_at(lambda t: t.level, tilt, level)


def say(phase: str, event: str, **fields: Any) -> None:
    """Progress, in a line."""
    names = (
        "round", "step", "stage", "nll_val", "gain_val", "log_z", "agreement", "acceptance",
        "transitions", "action", "why", "steps", "seconds_a_chunk", "seconds", "share",
        "gain_fresh", "gap", "error", "rise", "beta", "rhat", "classes",
    )  # fmt: skip
    told = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
        if name in names
    )
    print(f"{phase} {event}: {', '.join(told)}", flush=True)
