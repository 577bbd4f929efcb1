"""The short-run learner: chains are begun anew for each gradient, and never reach the model.

It is the literature's, kept to be seen to fail: Nijkamp et al. 2019 (arXiv 1904.09770), algorithm
1, in the latent space. Each gradient, eq. (3) of the design, has its second expectation from chains
that have made `Protocol.transitions` unadjusted Langevin transitions since their start. At its end
the law after so many transitions is that of the data, and not the density exp(f) q / Z, which need
not even have a Z (Agoritsas et al. 2023, arXiv 2301.09428). So the protocol goes with the model,
and no verdict on it is `ok`.
"""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning import optimiser
from tiltflow.learning.objective import gradient
from tiltflow.learning.particles import Particles, agreement
from tiltflow.learning.rows import Rows
from tiltflow.learning.stages import Stage
from tiltflow.learning.state import (
    Course,
    LearnerState,
    StageInfo,
    TiltSettings,
    learning_rate,
    restart_gauge,
)
from tiltflow.model.short_run import Protocol, run
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices, spread
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze

NEVER = 10**9


def _settings() -> TiltSettings:
    return TiltSettings.default("persistent", watch=False, patience=NEVER)


@dataclass(frozen=True)
class ShortRun:
    """A learner for `tiltflow.fit(..., learner=ShortRun(Protocol(20, 0.2)))`, or for `fit_tilt`.

    What is kept is the last average of the weights: nothing that this learner knows could judge.

    Attributes:
        protocol: how chains go.
        settings: `steps`, `iterations` of a stage, `particles` (half of which learn), `rate` and
            the like; there are no witnesses to stop learning.
    """

    protocol: Protocol
    settings: TiltSettings = field(default_factory=_settings)

    @property
    def stage(self) -> Stage:
        """How it learns."""
        return ShortRunStage(self.protocol)


@dataclass(frozen=True)
class ShortRunStage:
    """`iterations` gradient steps, each from chains of its own.

    Attributes:
        protocol: how these go; `fit` saves it with the model.
        keeps_last: what is learned last is kept.
    """

    protocol: Protocol
    keeps_last: bool = True

    def __call__(
        self,
        state: LearnerState,
        backbone: Backbone,
        train: Rows,
        settings: TiltSettings,
        course: Course,
        key: PRNGKeyArray,
    ) -> tuple[LearnerState, StageInfo]:
        """One stage (`learning.stages.Stage`)."""
        numbers = jnp.asarray(self.protocol.transitions), jnp.asarray(self.protocol.step_size)
        like = Protocol(1, 1.0, self.protocol.start)  # others do not compile anew
        return _stage(like, *numbers, state, backbone, train, settings, course, key)


@over_devices
def _stage(
    protocol: Protocol,
    transitions: Array,
    step_size: Array,
    state: LearnerState,
    backbone: Backbone,
    train: Rows,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    _, frozen = freeze(state.tilt)
    half = state.particles.half

    def chains(tilt: Tilt, number: int, key: PRNGKeyArray) -> tuple[Array, Array]:
        """Where so many have ended: latent points, and their coordinates."""
        row_key, start_key, run_key = jr.split(key, 3)
        y = train.batch(row_key, number)[0]
        u = spread(protocol.starts(backbone, start_key, y))
        u = run(TiltedModel(backbone, tilt), u, transitions, step_size, run_key)
        return u, jax.vmap(backbone.coordinates)(u)

    even = jnp.full(half, 1 / half)

    def iteration(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
        parameters, average, adam, steps = carry
        data_key, dropout_key, chain_key = jr.split(key, 3)
        _, y_model = chains(eqx.combine(parameters, frozen), half, chain_key)
        y_data, _, labels = train.labelled_batch(data_key, settings.batch_data)
        slope = gradient(
            parameters, frozen, y_data, labels, y_model, even, settings.class_weight, dropout_key
        )
        rate = learning_rate(
            settings, eqx.tree_at(lambda s: s.steps, state, steps), course.rate_scale
        )
        parameters, adam = optimiser.update(parameters, slope, adam, rate, settings.decay)
        average = optimiser.moving_average(average, parameters, settings.memory)
        return (parameters, average, adam, steps + 1), None

    end_key, key = jr.split(key)
    start = (freeze(state.tilt)[0], freeze(state.average)[0], state.adam, state.steps)
    (parameters, average, adam, steps), _ = jax.lax.scan(
        iteration, start, jr.split(key, settings.iterations)
    )
    tilt: Tilt = eqx.combine(parameters, frozen)
    u, y = chains(tilt, 2 * half, end_key)
    f = jax.vmap(tilt)(y)
    info = StageInfo(
        share=jnp.ones(()),
        transitions=settings.iterations * transitions,
        acceptance=jnp.ones(()),
        agreement=agreement(f, half),
        lag=jnp.zeros(()),
        divergences=jnp.asarray(0),
        f_learners=jnp.mean(f[:half]) - jnp.mean(f[half:]),
    )
    state = eqx.tree_at(
        lambda s: (s.tilt, s.average, s.adam, s.steps, s.particles, s.gradients),
        state,
        (
            tilt,
            eqx.combine(average, frozen),
            adam,
            steps,
            Particles(u, y, f, state.particles.step_size),
            state.gradients + info.transitions,
        ),
    )
    return restart_gauge(state, f), info
