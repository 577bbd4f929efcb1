"""The loop that both learners share: a stage, a look at its health, a judgement, the best kept."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning import persistent, population
from tiltflow.learning.bank import with_fresh_draws
from tiltflow.learning.class_swings import Swings
from tiltflow.learning.early_stopping import Listener
from tiltflow.learning.fresh_monitor import look_afresh
from tiltflow.learning.health import Monitor
from tiltflow.learning.keeping import Keeper
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import Course, LearnerState, StageInfo, TiltSettings
from tiltflow.learning.witnesses import Judge, Judgement, anchored, moved_on
from tiltflow.mcmc.progress import Progress
from tiltflow.tilts import Tilt

Stage = Callable[
    [LearnerState, Backbone, Rows, TiltSettings, Course, PRNGKeyArray],
    tuple[LearnerState, StageInfo],
]
"""One stage of a learner: gradient steps, and moves of its particles; what happened beside it.

Between two of them the loop looks at the health, judges the average of the weights by the
witnesses, and keeps the best. The settings are `traced`; the state's `steps` have to grow, or
learning never ends.
"""


class Learner(Protocol):
    """A learner of the user's own, for `tiltflow.fit`; `learning.population.stage` is an example.

    Attributes:
        settings: particles, judgements and the end of learning are as they say, whatever the stage.
    """

    settings: TiltSettings

    @property
    def stage(self) -> Stage:
        """How it learns."""
        ...


STAGES: dict[str, Stage] = {
    "population": population.stage,
    "persistent": persistent.stage,
    "nce": population.stage,
    "nce+mle": population.stage,
}
LEAST_OVERLAP = 0.05  # effective share left of an anchor, below which it is time for the next
LOOKS = (1, 2, 4, 8)  # stages after which a first look is cast at what is learned
FALLS = 3.0  # standard errors of held-out rows below the best, that are no chance
LEAST_FALL = 0.01  # nats: less may be the noise of log Z
SETTLED = 0.6  # acceptance from which moves are taken to have brought particles to f

Classes = tuple[int, Callable[[Array], np.ndarray]]
"""How many there are, and a function of coordinates `[n, dim]` to labels below that."""


class Best(NamedTuple):
    """The tilt that is kept: the average of the weights with the best held-out gain.

    Attributes:
        tilt, judgement: it, and what it was kept for.
        stage, step: after which it was judged.
    """

    tilt: Tilt
    judgement: Judgement
    stage: int
    step: int

    def gives_way_to(self, other: Judgement) -> bool:
        """Whether a judgement that holds is better, or this one does not hold."""
        better = float(other.gain_val) > float(self.judgement.gain_val)
        return better or not bool(self.judgement.holds)


@dataclass
class Learning:
    """A learner between two stages: everything that an interruption must not lose.

    Attributes:
        backbone, train, settings: what is learned, from what, and how.
        listen, keeper, phase: who is told, who is offered the state, and its name to both.
        classes: whose shares among the witnesses are watched.
        state, judge, key: the learner, who judges it, and the random key.
        stage: how it learns.
        good: the last state that was judged to be sound.
        best: what is kept.
        number: stages so far.
        judged: judgements so far.
        overlap: the effective share that is left of the witnesses since the last judgement.
        wider: the standard error between learners and witnesses over that of independent draws.
        below: looks in a row that found the gain clearly below the best.
    """

    backbone: Backbone
    train: Rows
    settings: TiltSettings
    listen: Listener
    keeper: Keeper
    phase: str
    classes: Classes | None
    state: LearnerState
    judge: Judge
    key: PRNGKeyArray
    stage: Stage
    good: LearnerState = field(init=False)
    best: Best = field(init=False)
    number: int = 0
    judged: int = 0
    overlap: float = 1.0
    wider: float = 1.0
    below: int = 0

    def __post_init__(self) -> None:
        """Before the first stage."""
        settings, average = self.settings, self.state.average
        self.good = self.state
        self.best = Best(average, self.judge.judge(average, self.state), 0, 0)
        self.monitor = Monitor(renews=settings.fresh_replicas > 0 and settings.fresh_every > 0)
        self.swings = Swings(self.classes[0]) if self.classes else None
        self.started = self.keeper.clock()

    def run(self, steps: int) -> None:
        """Stages until so many steps are made, the gain has stopped to grow, or all goes wrong."""
        self._resume()
        while int(self.state.steps) < steps and not self.monitor.gave_up:
            if self.number:
                self._offer()
            info, action = self._stage()
            if action and action.startswith("roll back"):
                self._roll_back()
            elif self._is_time_to_judge(info):
                now = self._judge(info, sound=action is None)
                self._look(now)
                if self.number - self.best.stage >= self._patience:
                    self._tell("stopped", why=_why_stopped(now), stage=self.number)
                    break
            if self.settings.watch and self._falls:
                why = "the held-out gain falls: there is no more to learn from so many rows"
                self._tell("stopped", why=why, stage=self.number)
                break
        if self.monitor.gave_up:
            why = "the rate was lowered too often: the data or the settings do not suit the learner"
            self._tell("stopped", why=why, stage=self.number)

    @property
    def _patience(self) -> int:
        return self.settings.patience * self.settings.judge_every

    @property
    def _falls(self) -> bool:
        """Whether two looks in a row have found the gain below the best by more than chance.

        A first few come early: where nothing is to be gained, that shows soon.
        """
        if self.number in LOOKS or self.number % self.settings.judge_every == 0:
            average, best = self.state.average, self.best
            judgement = self.judge.judge(average, self.state)
            lost = float(best.judgement.gain_val - judgement.gain_val)
            error = float(self.judge.error_between(average, best.tilt))
            falls = bool(judgement.holds) and lost > max(FALLS * error, LEAST_FALL)
            self.below = self.below + 1 if falls else 0
        return self.below > 1

    @property
    def _is_last(self) -> bool:
        return int(self.state.steps) >= self.settings.steps

    def _tell(self, event: str, **fields: Any) -> None:
        self.listen(self.phase, event, **fields)

    def _tree(self) -> tuple[Any, ...]:
        """The arrays that are kept."""
        best = (self.best.tilt, self.best.judgement)
        return (self.state, self.good, *best, self.judge.anchor, self.key)

    def _offer(self) -> None:
        plain = {
            "number": self.number,
            "best_stage": self.best.stage,
            "best_step": self.best.step,
            "monitor": asdict(self.monitor),
            "started": self.started,
            "overlap": self.overlap,
            "judged": self.judged,
            "wider": self.wider,
            "below": self.below,
            "swings": self.swings.to_dict() if self.swings else {},
        }
        self.keeper.offer(self.phase, int(self.state.steps), self._tree(), plain)

    def _resume(self) -> None:
        """Go on from the state that was kept last, if there is one."""
        if (found := self.keeper.last(self.phase, self._tree())) is None:
            return
        (self.state, self.good, tilt, judgement, anchor, self.key), plain = found
        self.best = Best(tilt, judgement, plain["best_stage"], plain["best_step"])
        self.judge = replace(self.judge, anchor=anchor)
        self.number, self.judged = plain["number"], plain["judged"]
        self.overlap, self.started = plain["overlap"], plain["started"]
        self.wider, self.below = plain.get("wider", 1.0), plain.get("below", 0)
        self.monitor = Monitor(**plain["monitor"])
        if self.swings:
            self.swings = replace(self.swings, **plain.get("swings", {}))

    def _stage(self) -> tuple[StageInfo, str | None]:
        """One stage; what happened, and what was done about it if it went wrong."""
        self.key, key = jr.split(self.key)
        self.number += 1
        before = int(self.state.steps)
        agree_within = self.wider * self.settings.agree_within
        self.state, info = self.stage(
            self.state,
            with_fresh_draws(self.backbone, jr.fold_in(key, 1), self.settings.particles),
            self.train,
            replace(self.settings, agree_within=agree_within).traced(),
            self.monitor.course(),
            key,
        )
        if not self.settings.watch:
            return info, None
        ill = self._health(info)
        made = int(self.state.steps) - before
        if pace := ill or self.monitor.pace(made, self.settings.least_steps):
            self._tell("health", stage=self.number, action=pace[0], why=pace[1])
        return info, ill[0] if ill else None

    def _health(self, info: StageInfo) -> tuple[str, str] | None:
        there = self.state.particles
        return self.monitor.react(
            agreement=float(info.agreement) / self.wider,
            agree_within=self.settings.agree_within,
            lag=float(info.lag),
            share=float(info.share),
            acceptance=float(info.acceptance),
            finite=bool(_are_finite(there.f, there.u)),
        )

    def _roll_back(self) -> None:
        """To the last good state; steps count on, so that a learner that keeps failing ends."""
        counts = (self.state.steps, self.state.gradients)
        self.state = eqx.tree_at(lambda s: (s.steps, s.gradients), self.good, counts)

    def _is_time_to_judge(self, info: StageInfo) -> bool:
        self.overlap *= float(info.share)
        leaves_anchor = bool(self.judge.anchor.set) and self.overlap < LEAST_OVERLAP
        in_turn = self.number % self.settings.judge_every == 0
        return in_turn or self._is_last or leaves_anchor or self.monitor.due

    def _judge(self, info: StageInfo, *, sound: bool) -> Judgement:
        """Judge the average, and keep it if it is better; the judgement of the tilt itself."""
        self.overlap = 1.0
        state, average = self.state, self.state.average
        judgement, now = self.judge.judge(average, state), self.judge.judge(state.tilt, state)
        if sound and bool(judgement.holds):
            self.good = state
            if self.best.gives_way_to(judgement):
                self.best = Best(average, judgement, self.number, int(state.steps))
        self._tell("stage", **self._told(info, judgement, now))
        self._watch_classes(now)
        if bool(now.holds):
            self.state = anchored(state, now)
            if sound and self._is_settled(info):
                self.judge = moved_on(self.judge, self.state, now)
        self.judged += 1
        return now

    def _is_settled(self, info: StageInfo) -> bool:
        """Whether the witnesses are where f is, so that others may be judged by them."""
        apart = max(abs(float(info.agreement)) / self.wider, abs(float(info.lag)))
        return apart <= self.settings.agree_within and float(info.acceptance) >= SETTLED

    def _watch_classes(self, now: Judgement) -> None:
        if not (self.classes and self.swings):
            return
        there = self.state.particles
        shown = self.classes[1](there.y[there.witnesses])
        if why := self.swings.look(shown, float(now.gain_val)):
            self._tell("health", stage=self.number, action="none", why=why)

    def _look(self, now: Judgement) -> None:
        """Where it is time to, compare the particles with chains started afresh; mend them."""
        every = self.settings.fresh_every
        in_turn = every and self.judged % every == 0
        if not (in_turn or self.monitor.due) or self._is_last:
            return
        self.monitor.due = False
        self.key, look_key, settle_key = jr.split(self.key, 3)
        told = {
            "stage": self.number,
            "step": int(self.state.steps),
            "steps": self.settings.steps,
        }
        seconds = round(self.keeper.clock() - self.started, 2)

        def hear(news: Progress) -> None:
            # Chains that take minutes tell how far they are, and hear that the fit is to stop.
            self._tell("looking", **told, done=news.done, total=news.total)
            self.keeper.listen()

        seen, found = look_afresh(
            look_key, self.backbone, self.state, self.judge, now, self.settings, on_chunk=hear
        )
        self._tell("fresh", **told, seconds=seconds, **found)
        ill = seen.differs and self.settings.watch
        if seen.takes_over or ill:
            self.judge = seen.anchored(self.judge, self.state)
            traced = self.settings.traced()
            self.state = seen.taken_up(self.state, self.backbone, traced, settle_key)
            self.good, self.wider = self.state, seen.wider
        if ill:
            action = "begin again where these chains are"
            if not seen.takes_over:
                action += f", {self.monitor.catch_up()}"
            self._tell("health", stage=self.number, action=action, why=seen.why)
            # What was judged by particles that lag is judged again.
            average, steps = self.state.average, int(self.state.steps)
            self.best = Best(average, self.judge.judge(average, self.state), self.number, steps)

    def _told(
        self, info: StageInfo, judgement: Judgement, now: Judgement
    ) -> dict[str, float | int | str]:
        """The fields of a stage's event; `judgement` is of the average, `now` of the tilt."""
        return {
            "learner": self.settings.learner,
            "stage": self.number,
            "step": int(self.state.steps),
            "steps": self.settings.steps,
            "seconds": round(self.keeper.clock() - self.started, 2),
            "gradients": int(self.state.gradients),
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
            "step_size": float(self.state.particles.step_size),
        }


@jax.jit
def _are_finite(f: Array, u: Array) -> Array:
    return jnp.all(jnp.isfinite(f)) & jnp.all(jnp.isfinite(u))


def _why_stopped(now: Judgement) -> str:
    if bool(now.holds):
        return "the held-out gain has not grown"
    return "the held-out gain can no longer be judged: few draws of known log Z are near"
