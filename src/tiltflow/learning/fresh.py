"""Chains started afresh while learning goes on: what they gain, and what the particles said.

Particles that were never out of equilibrium and chains that have just come from the backbone
tell the same mean of f and the same log Z. Where they do not, the particles lag behind f, or have
come down to few ancestors, and the gain that learning shows is not the model's.

These chains move as the particles do. Those of `renewal.py` have replicas, and answer to the same
names.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning import population
from tiltflow.learning.particles import Particles, adapt, f_of
from tiltflow.learning.state import LearnerState, TiltSettings, banked
from tiltflow.learning.witnesses import Judge
from tiltflow.mcmc import hmc
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices, spread, together
from tiltflow.tilts import Tilt

WITHIN = 4.0  # standard errors
LEAST = 0.5  # nats: a smaller difference is none that matters


@dataclass(frozen=True)
class FreshLook:
    """What chains started afresh have found.

    Attributes:
        particles: where they are; the halves are alike.
        gap: their mean f minus that of the witnesses, in nats.
        error: its standard error.
        rise: by how much their mean f still rose over the last quarter of the transitions.
        wider: the standard error between learners and witnesses over that of independent draws:
            they may be many draws of few chains.
    """

    particles: Particles
    gap: float
    error: float
    rise: float
    wider: float = 1.0

    @property
    def takes_over(self) -> bool:
        """Whether learning goes on from here even if nothing differs."""
        return False

    @property
    def differs(self) -> bool:
        """Whether the witnesses are somewhere else, and not merely ahead of the chains."""
        matters = max(LEAST, WITHIN * self.error)
        return self.gap > matters or (self.gap < -matters and self.rise < LEAST / 2)

    @property
    def why(self) -> str:
        """What differs."""
        return (
            f"chains started afresh have {self._apart}: what learning holds for the model is not it"
        )

    @property
    def _apart(self) -> str:
        return f"a mean f {self.gap:+.2f} nats from that of the witnesses"

    def anchored(self, judge: Judge, state: LearnerState) -> Judge:
        """The judge that these chains are judged by: the same."""
        return judge

    def against(self, excess: float) -> "FreshLook":
        """The look, told by how much the gain of learning exceeds that by these chains, in nats.

        Nothing is made of it here: their log Z is not known by itself.
        """
        return self

    def taken_up(
        self, state: LearnerState, backbone: Backbone, settings: TiltSettings, key: PRNGKeyArray
    ) -> LearnerState:
        """The state with its particles where the chains are, moved on for as long again.

        `settings` have rates and limits as arrays.
        """
        state = banked(state)
        state = eqx.tree_at(lambda s: s.particles, state, self.instead_of(state.particles))
        transitions = jnp.asarray(settings.fresh_transitions)
        return population.settle(state, backbone, settings, transitions, key)

    def instead_of(self, particles: Particles) -> Particles:
        """As many particles as there are, where these chains are: each several times over.

        Learners are from one half of the chains, witnesses from the other.
        """
        half = self.particles.half
        index = jnp.arange(particles.half) % half
        index = jnp.concatenate([index, half + index])
        u, y, f = (x[index] for x in (self.particles.u, self.particles.y, self.particles.f))
        return Particles(u, y, f, self.particles.step_size)


def look(
    key: PRNGKeyArray,
    backbone: Backbone,
    tilt: Tilt,
    witnesses: Particles,
    *,
    chains: int,
    transitions: int,
    leapfrogs: int,
) -> FreshLook:
    """Run `chains` from exact draws of the backbone, under a tilt that does not change meanwhile.

    Args:
        key: random key.
        backbone, tilt: the model, the tilt as it is now.
        witnesses: the learner's particles; their second half has values of f at hand.
        chains, transitions: how many, and how long.
        leapfrogs: in a transition.
    """
    start_key, key = jr.split(key)
    u = backbone.draws(start_key, chains)
    u, f, series, step_size = _run(
        TiltedModel(backbone, tilt),
        key,
        u,
        witnesses.step_size,
        transitions,
        jnp.asarray(leapfrogs),
    )
    y = _coordinates(backbone, u)
    last = np.asarray(series, np.float64)
    quarter = max(1, transitions // 4)
    late, before = last[-quarter:], last[-2 * quarter : -quarter]
    told = np.asarray(witnesses.f[witnesses.witnesses], np.float64)
    error = np.hypot(late.mean(0).std() / np.sqrt(chains), told.std() / np.sqrt(len(told)))
    return FreshLook(
        particles=Particles(u, y, f, step_size),
        gap=float(late.mean() - told.mean()),
        error=float(error),
        rise=float(late.mean() - before.mean()) if len(before) else float("nan"),
    )


@over_devices
def _coordinates(backbone: Backbone, u: Array) -> Array:
    return jax.vmap(backbone.coordinates)(spread(u))


@over_devices
def _run(
    model: TiltedModel,
    key: PRNGKeyArray,
    u: Float[Array, "chains ..."],
    step_size: Array,
    transitions: int,
    leapfrogs: Array,
) -> tuple[Array, Array, Float[Array, "transitions chains"], Array]:
    """Where the chains end, f there and all along, and the step size."""
    latent = hmc.value_and_gradient(model.latent_log_densities)

    def transition(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, Array]:
        state, step_size = carry
        state, info = hmc.step(key, state, latent, step_size, num_leapfrogs=leapfrogs, jitter=0.2)
        step_size = adapt(step_size, jnp.mean(together(info.acceptance_rate)), 0.8)
        return (spread(state), step_size), f_of(model, state)

    start = (hmc.init(spread(u), latent), step_size)
    (state, step_size), series = jax.lax.scan(transition, start, jr.split(key, transitions))
    return state.position, series[-1], series, step_size
