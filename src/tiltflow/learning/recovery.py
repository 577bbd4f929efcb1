"""The recovery learner: each row has a noisy latent observation of its own, and one chain.

Manifold projection-diffusion recovery (Yoon et al. 2023, arXiv 2310.18677), in the latent space of
any backbone that knows the latent points of data. A row's point u0 is observed with noise,
z ~ N(u0, sigma^2), and what is learned is to recover it from there, by the likelihood of

    p(u | z) ∝ exp f(g(u)) N(u; 0, I) N(z; u, sigma^2),

whose gradient is eq. (3) of the design with p(u | z) in place of p (Gao et al. 2021,
arXiv 2012.08125, eq. 8). All but f is normal: u = z / (1 + sigma^2) + s v with
s^2 = sigma^2 / (1 + sigma^2) and v ~ N(0, I) exactly, where f = 0. So chains start there, move v,
and have next to nothing to travel, however many modes the model has. Where they are in
equilibrium, the f that is found is that of maximum likelihood, whatever sigma.

Chains never see the whole of the model; particles of a population, which follow f in turn, judge it
as they judge any learner.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.errors import InputError
from tiltflow.learning import optimiser, population
from tiltflow.learning.objective import gradient
from tiltflow.learning.particles import adapt, effective_share
from tiltflow.learning.rows import Rows
from tiltflow.learning.stages import Stage
from tiltflow.learning.state import Course, LearnerState, StageInfo, TiltSettings
from tiltflow.mcmc import hmc
from tiltflow.model.short_run import latent_of
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices, spread, together
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze

FIRST_STEP = 0.5  # of the chains' leapfrogs, in units of s
QUARTER = 1.5  # the longest trajectory: about a quarter turn, after which the start is forgotten


class Recovered(NamedTuple):
    """Where chains end that recover rows.

    Attributes:
        y: coordinates, `[rows, dim]`.
        acceptance: of the last transition.
        step_size: adapted.
    """

    y: Float[Array, "rows dim"]
    acceptance: Array
    step_size: Array


@dataclass(frozen=True)
class Recovery:
    """A learner for `tiltflow.fit(..., learner=Recovery())`, or for `fit_tilt`.

    Attributes:
        low, high: sigma of a row is uniform between them, drawn anew each time.
        transitions: of each chain, with `leapfrogs` leapfrogs.
        leapfrogs: of a transition.
        settings: `steps`, `iterations` of a stage, `batch_data`, `rate` and the like, and the
            particles' moves after each stage.
    """

    low: float = 0.05
    high: float = 1.0
    transitions: int = 3
    leapfrogs: int = 3
    settings: TiltSettings = field(default_factory=TiltSettings)

    def __post_init__(self) -> None:
        """Raises InputError for what cannot work."""
        if not 0 < self.low <= self.high < float("inf"):
            raise InputError(
                f"sigma is from {self.low} to {self.high}; expected positive numbers, the first "
                f"no larger"
            )
        if self.transitions < 0 or self.leapfrogs < 1:
            raise InputError(
                f"{self.transitions} transitions of {self.leapfrogs} leapfrogs; expected 0 or "
                f"more, of 1 or more"
            )

    @property
    def stage(self) -> Stage:
        """How it learns."""
        return self._stage

    @property
    def numbers(self) -> tuple[Array, Array, Array]:
        """Both ends of sigma, transitions and leapfrogs; other ones compile nothing anew."""
        both = jnp.asarray([self.low, self.high])
        return both, jnp.asarray(self.transitions), jnp.asarray(self.leapfrogs)

    def _stage(
        self,
        state: LearnerState,
        backbone: Backbone,
        train: Rows,
        settings: TiltSettings,
        course: Course,
        key: PRNGKeyArray,
    ) -> tuple[LearnerState, StageInfo]:
        """`iterations` gradient steps of recovery, then moves of the population."""
        return _stage(self.numbers, state, backbone, train, settings, course, key)


def recover(
    model: TiltedModel,
    u: Float[Array, "rows ..."],
    sigma: Float[Array, " rows"],
    key: PRNGKeyArray,
    *,
    transitions: int | Array,
    leapfrogs: int | Array,
    step_size: float | Array = FIRST_STEP,
) -> Recovered:
    """Observe latent points with noise, and draw what may have been observed: a chain each.

    Args:
        model: f and its backbone.
        u: latent points of rows.
        sigma: of the noise of each.
        key: random key.
        transitions, leapfrogs, step_size: of the chains, which adapt it.

    Raises:
        InputError: a backbone whose exact draws are not normal in its latent space.
    """
    if not model.backbone.is_normal:
        raise InputError(
            f"rows cannot be recovered under a {type(model.backbone).__name__}, whose draws are "
            f"not normal in its latent space; expected a flow or a generator"
        )
    noise_key, start_key, key = jr.split(key, 3)
    wide = sigma.reshape(-1, *[1] * (u.ndim - 1))
    observed = u + wide * jr.normal(noise_key, u.shape)
    centre, scale = observed / (1 + wide**2), wide / jnp.sqrt(1 + wide**2)

    def log_density(v: Array) -> Array:
        f = jax.vmap(lambda u: model.tilt(model.backbone.coordinates(u)))(centre + scale * v)
        return f - 0.5 * jnp.sum(v.reshape(len(v), -1) ** 2, axis=1)

    force = hmc.value_and_gradient(log_density)

    def transition(index: Array, carry: tuple) -> tuple:
        state, step_size, _ = carry
        state, info = hmc.step(
            jr.fold_in(key, index), state, force, step_size, num_leapfrogs=leapfrogs
        )
        acceptance = jnp.mean(together(info.acceptance_rate))
        step_size = jnp.minimum(adapt(step_size, acceptance, 0.8), longest)
        return spread(state), step_size, acceptance

    start = hmc.init(spread(jr.normal(start_key, u.shape)), force)
    longest = jnp.asarray(QUARTER / leapfrogs, u.dtype)
    first = jnp.minimum(jnp.asarray(step_size, u.dtype), longest)
    state, step_size, acceptance = jax.lax.fori_loop(
        0, transitions, transition, (start, first, jnp.ones((), u.dtype))
    )
    y = jax.vmap(model.backbone.coordinates)(centre + scale * state.position)
    return Recovered(y, acceptance, jnp.asarray(step_size))


def fit_recovery(
    backbone: Backbone, tilt: Tilt, train: Rows, recovery: Recovery, *, key: PRNGKeyArray
) -> Tilt:
    """Learn `tilt`, which need not be 0, by recovery alone: nothing judges it, or stops early.

    Args:
        backbone: flow, or generator with noise.
        tilt: f to begin with.
        train: rows.
        recovery: chains, and settings: `steps`, `iterations` of a program, and how steps are made.
        key: random key.

    Returns:
        The average of the weights.
    """
    settings = recovery.settings
    train, numbers = train.through(backbone), recovery.numbers
    carry = _begun(tilt, tilt, optimiser.ADAM.init(freeze(tilt)[0]), jnp.asarray(0))
    rate_scale = jnp.ones(())
    for one in jr.split(key, -(-settings.steps // settings.iterations)):
        carry = _learned(carry, tilt, backbone, train, settings.traced(), rate_scale, numbers, one)
    return eqx.combine(carry[1], freeze(tilt)[1])


def _begun(tilt: Tilt, average: Tilt, adam: Any, steps: Array) -> tuple:
    """What goes from step to step: parameters, their average, the optimiser, steps, step size."""
    return freeze(tilt)[0], freeze(average)[0], adam, steps, jnp.asarray(FIRST_STEP, float)


@over_devices
def _learned(
    carry: tuple,
    tilt: Tilt,
    backbone: Backbone,
    train: Rows,
    settings: TiltSettings,
    rate_scale: Array,
    numbers: tuple[Array, Array, Array],
    key: PRNGKeyArray,
) -> tuple:
    """`iterations` gradient steps of recovery."""
    _, frozen = freeze(tilt)
    rows, (sigmas, transitions, leapfrogs) = settings.batch_data, numbers

    even = jnp.full(rows, 1 / rows)

    def iteration(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
        parameters, average, adam, steps, step_size = carry
        data_key, sigma_key, chain_key, dropout_key = jr.split(key, 4)
        y_data, _, labels = train.labelled_batch(data_key, rows)
        sigma = jr.uniform(sigma_key, (rows,), minval=sigmas[0], maxval=sigmas[1])
        model = TiltedModel(backbone, eqx.combine(parameters, frozen))
        found = recover(
            model, latent_of(backbone, y_data), sigma, chain_key,
            transitions=transitions, leapfrogs=leapfrogs, step_size=step_size,
        )  # fmt: skip
        slope = gradient(
            parameters, frozen, y_data, labels, found.y, even, settings.class_weight, dropout_key
        )
        rate = optimiser.cosine(steps, settings.steps, settings.rate, settings.final_rate)
        parameters, adam = optimiser.update(
            parameters, slope, adam, rate * rate_scale, settings.decay
        )
        average = optimiser.moving_average(average, parameters, settings.memory)
        return (parameters, average, adam, steps + 1, found.step_size), None

    return jax.lax.scan(iteration, carry, jr.split(key, settings.iterations))[0]


@over_devices
def _stage(
    numbers: tuple[Array, Array, Array],
    state: LearnerState,
    backbone: Backbone,
    train: Rows,
    settings: TiltSettings,
    course: Course,
    key: PRNGKeyArray,
) -> tuple[LearnerState, StageInfo]:
    learn_key, follow_key = jr.split(key)
    carry = _begun(state.tilt, state.average, state.adam, state.steps)
    parameters, average, adam, steps, _ = _learned(
        carry, state.tilt, backbone, train, settings, course.rate_scale, numbers, learn_key
    )
    _, frozen = freeze(state.tilt)
    tilt: Tilt = eqx.combine(parameters, frozen)
    learned = eqx.tree_at(
        lambda s: (s.tilt, s.average, s.adam, s.steps),
        state,
        (tilt, eqx.combine(average, frozen), adam, steps),
    )
    seen = state.particles.witnesses
    share = effective_share(jax.vmap(tilt)(state.particles.y[seen]) - state.particles.f[seen])
    return population.follow(learned, state.tilt, share, backbone, settings, course, follow_key)
