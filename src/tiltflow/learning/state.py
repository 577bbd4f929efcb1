"""What a learner carries from stage to stage, and what it tells of a stage."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiltflow.errors import InputError, at_least_one
from tiltflow.learning import optimiser
from tiltflow.learning.particles import Particles, log_mean_exp
from tiltflow.tilts import Tilt

FEWEST_PARTICLES = 40  # the judge needs 10 effective draws of its half
FEWEST_RENEWING = 8  # transitions of replicas, of which a quarter are warm-up


class LearnerState(eqx.Module):
    """A learner between two stages.

    Attributes:
        tilt: the current f.
        average: the moving average of its weights, which is what is judged and kept.
        adam: the optimiser's state.
        particles: learners and witnesses, moved under `tilt`.
        log_weights: `[N]`, annealing log-weights since the last resampling.
        log_z: log Z as the witnesses tell it, without their present weights; see `anchored`.
        log_z_learners: the same from the learners' own weights: a number that is not to be
            believed, kept to show why there are witnesses.
        steps: optimiser steps so far.
        gradients: latent gradients per particle so far.
    """

    tilt: Tilt
    average: Tilt
    adam: Any
    particles: Particles
    log_weights: Float[Array, " N"]
    log_z: Float[Array, ""]
    log_z_learners: Float[Array, ""]
    steps: Int[Array, ""]
    gradients: Int[Array, ""]


class StageInfo(eqx.Module):
    """What happened in a stage; all scalars.

    Attributes:
        share: effective share of the witnesses' weights before they were resampled.
        transitions: Markov transitions of the whole population.
        acceptance: of the last transition.
        agreement: mean f of learners minus that of witnesses, in standard errors, at the end.
        lag: what the witnesses' weights add to their mean f, in its standard errors: chains that
            are where their f says have equal weights.
        divergences: transitions that were rejected because they were not finite.
        f_learners: mean f of the learners at the end, that of the witnesses being 0.
    """

    share: Array
    transitions: Array
    acceptance: Array
    agreement: Array
    lag: Array
    divergences: Array
    f_learners: Array


_TRACED = (
    "steps",
    "rate",
    "final_rate",
    "decay",
    "memory",
    "target",
    "leapfrogs",
    "least_transitions",
    "most_transitions",
    "transitions",
    "agree_within",
    "share_end",
    "fresh_transitions",
    "class_weight",
)
_SIZES = ("batch_data", "batch_particles", "moved_at_once", "check_every", "iterations")
_OF_THE_HOST = (
    "learner",
    "nce_steps",
    "particles",
    "least_steps",
    "judge_every",
    "patience",
    "bank",
    "judge_rows",
    "judge_draws",
    "fresh_every",
    "fresh_chains",
    "fresh_replicas",
    "watch",
)


LEARNERS = ("linear", "nce", "nce+linear", "nce+mle", "persistent", "population")
LINEAR = ("linear", "nce+linear")  # in what the members of an ensemble say
_PERSISTENT = {"steps": 2_000, "particles": 512, "rate": 5e-4, "leapfrogs": 5, "judge_every": 5}


@partial(jax.tree_util.register_dataclass, data_fields=_TRACED, meta_fields=_SIZES + _OF_THE_HOST)
@dataclass(frozen=True)
class TiltSettings:
    """How the tilt is learned.

    The defaults suit the population learner; `TiltSettings.default("persistent")` suits the other.

    Attributes:
        learner: `"population"`, `"persistent"` (the paper's), `"nce"` (by contrast with the
            backbone, see `nce.py`), `"nce+mle"` (population, from where contrast has led), or
            `"linear"` in what the members of an ensemble say (`fit_linear.py`), or
            `"nce+linear"` in that and what contrast has found.
        nce_steps: optimiser steps of the contrast.
        steps: optimiser steps.
        particles: learners and witnesses together.
        batch_data: rows of data in a step.
        batch_particles: learners in a step; the persistent learner takes all.
        rate: Adam's, at the start.
        final_rate: at the end of half a cosine, as a share of the first.
        decay: decoupled weight decay, as a multiple of the rate.
        memory: of the moving average of the weights.
        leapfrogs: in a transition.
        moved_at_once: particles that a device has in hand at a time while they are moved
            (population), so that memory is bounded; 0: all of them.
        target: acceptance that the step size follows.
        share_end: effective share of the witnesses at which a stage ends (population).
        check_every: steps between two looks at that share (population).
        least_steps: a stage that is over sooner lowers the rate (population); 0: none does.
        least_transitions, most_transitions: of a stage (population).
        agree_within: standard errors between learners and witnesses that end a stage's moves.
        iterations: in a stage (persistent).
        transitions: in an iteration (persistent).
        judge_every: stages between two judgements.
        patience: judgements without a better one before learning stops.
        bank: exact backbone draws for the judgements.
        judge_rows: rows of training and of validation data in a judgement, at most.
        judge_draws: dequantisations of each validation row in it.
        fresh_every: judgements between two looks at chains started afresh (`fresh.py`); 0: none.
        fresh_chains, fresh_transitions: how many, and how long.
        fresh_replicas: of each of these chains, so that they travel wherever the backbone reaches;
            their draws then become the particles (`renewal.py`). 0: chains alone, heard only where
            they differ.
        watch: whether the health monitor may act, and particles that lag are moved on.
        class_weight: of the cross-entropy of labels, where rows have some and the tilt classes;
            1: the likelihood of rows and labels together.
    """

    learner: str = "population"
    nce_steps: int = 2_000
    steps: int = 7_000
    particles: int = 2_048
    batch_data: int = 256
    batch_particles: int = 512
    rate: float = 1e-3
    final_rate: float = 0.05
    decay: float = 0.1
    memory: float = 0.995
    leapfrogs: int = 8
    moved_at_once: int = 0
    target: float = 0.8
    share_end: float = 0.3
    check_every: int = 2
    least_steps: int = 0
    least_transitions: int = 2
    most_transitions: int = 12
    agree_within: float = 2.5
    iterations: int = 20
    transitions: int = 3
    judge_every: int = 10
    patience: int = 12
    bank: int = 20_000
    judge_rows: int = 1_000_000
    judge_draws: int = 10
    fresh_every: int = 0
    fresh_chains: int = 64
    fresh_transitions: int = 60
    fresh_replicas: int = 0
    watch: bool = True
    class_weight: float = 1.0

    @classmethod
    def default(cls, learner: str, **changes: Any) -> "TiltSettings":
        """The settings that suit `learner`, with those `changes` that are not None."""
        found = cls().suiting(learner)
        return replace(found, **{name: x for name, x in changes.items() if x is not None})

    def suiting(self, learner: str) -> "TiltSettings":
        """The same for another learner: what is at its default here becomes what suits that."""
        suited = _PERSISTENT if learner == "persistent" else {}
        default = TiltSettings()
        untouched = {n: x for n, x in suited.items() if getattr(self, n) == getattr(default, n)}
        return replace(self, learner=learner, **untouched)

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        if self.learner not in LEARNERS:
            raise InputError(f"learner {self.learner!r}; expected one of {', '.join(LEARNERS)}")
        if self.particles < FEWEST_PARTICLES or self.particles % 2:
            raise InputError(
                f"{self.particles} particles; expected an even number of at least "
                f"{FEWEST_PARTICLES}: half of them learn, half are witnesses, who judge"
            )
        if self.bank < FEWEST_PARTICLES // 2:
            raise InputError(
                f"bank is {self.bank}; expected at least {FEWEST_PARTICLES // 2} draws, to judge by"
            )
        at_least_one(
            self,
            "nce_steps",
            "steps",
            "batch_data",
            "batch_particles",
            "leapfrogs",
            "check_every",
            "iterations",
            "transitions",
            "judge_every",
            "patience",
            "judge_rows",
            "judge_draws",
            "fresh_transitions",
        )
        if self.fresh_every < 0 or self.fresh_chains < 4 or self.fresh_chains % 2:
            raise InputError(
                f"fresh_every is {self.fresh_every} and fresh_chains {self.fresh_chains}; expected "
                f"0 or more, and an even number of at least 4"
            )
        if self.moved_at_once < 0:
            raise InputError(
                f"moved_at_once is {self.moved_at_once}; expected a number of particles, or 0 for "
                f"all of them"
            )
        if self.fresh_replicas < 0 or self.fresh_replicas == 1:
            raise InputError(
                f"fresh_replicas is {self.fresh_replicas}; expected 0, or 2 and more: from the "
                f"backbone to the model"
            )
        if self.fresh_replicas and self.fresh_transitions < FEWEST_RENEWING:
            raise InputError(
                f"fresh_transitions is {self.fresh_transitions}; expected at least "
                f"{FEWEST_RENEWING} with replicas, whose draws tell log Z"
            )
        for name in ("share_end", "target"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number in (0, 1)")
        if not self.class_weight >= 0:
            raise InputError(f"class_weight is {self.class_weight}; expected 0 or more")
        if not (self.decay >= 0 and 0 <= self.final_rate <= 1 and self.agree_within > 0):
            raise InputError(
                f"decay is {self.decay}, final_rate {self.final_rate} and agree_within "
                f"{self.agree_within}; expected 0 or more, a share in [0, 1], and a positive "
                f"number of standard errors"
            )
        if not 0 <= self.least_transitions <= self.most_transitions:
            raise InputError(
                f"transitions from {self.least_transitions} to {self.most_transitions}; expected "
                f"least_transitions of 0 or more, and most_transitions no fewer"
            )
        if not (self.rate > 0 and 0 <= self.memory < 1):
            raise InputError(
                f"rate is {self.rate} and memory {self.memory}; expected a positive rate and a "
                f"memory in [0, 1)"
            )

    def traced(self) -> "TiltSettings":
        """The settings for a stage's program: all but sizes of arrays are no reason to compile.

        Numbers are arrays, and what only the host asks for is at its default.
        """
        numbers = {name: jnp.asarray(getattr(self, name)) for name in _TRACED}
        unasked = {name: getattr(_DEFAULT, name) for name in _OF_THE_HOST}
        return replace(self, **numbers, **unasked)


_DEFAULT = TiltSettings()


class Course(NamedTuple):
    """What the health monitor has made of the settings; scalars.

    Attributes:
        rate_scale: a factor on the learning rate.
        effort: a factor on the number of transitions.
    """

    rate_scale: Float[Array, ""]
    effort: Int[Array, ""]


def learning_rate(settings: TiltSettings, state: LearnerState, scale: Array) -> Array:
    """The rate at this step, times what the health monitor has left of it."""
    rate = optimiser.cosine(state.steps, settings.steps, settings.rate, settings.final_rate)
    return rate * scale


def banked(state: LearnerState) -> LearnerState:
    """The state without weights, what they tell of log Z put into it."""
    weights = state.log_weights
    return eqx.tree_at(
        lambda s: (s.log_weights, s.log_z, s.log_z_learners),
        state,
        (
            jnp.zeros_like(weights),
            state.log_z + log_mean_exp(weights[state.particles.witnesses]),
            state.log_z_learners + log_mean_exp(weights[state.particles.learners]),
        ),
    )


def restart_gauge(state: LearnerState, f: Float[Array, " N"]) -> LearnerState:
    """Shift f so that the witnesses' mean is 0, and log Z with it.

    The level of f is free, drifts, and costs digits of everything computed from f.
    """
    shift = jnp.mean(f[state.particles.witnesses])
    particles = eqx.tree_at(lambda p: p.f, state.particles, f - shift)
    return eqx.tree_at(
        lambda s: (s.tilt.level, s.average.level, s.particles, s.log_z, s.log_z_learners),
        state,
        (
            state.tilt.level + shift,
            state.average.level + shift,
            particles,
            state.log_z - shift,
            state.log_z_learners - shift,
        ),
    )
