"""Kernels that look right and are not: each must fail the suite that the sound ones pass.

Where a flag says what is broken, it is traced, and the sound setting must pass: so the twin fails
for the reason given and for no other.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from tiltflow.mcmc import hmc
from tiltflow.mcmc.batch import choose, per_chain, sum_event
from tiltflow.mcmc.gaussian_hmc import GaussianHMC, rotate
from tiltflow.mcmc.independence import Independence
from tiltflow.mcmc.kernel import Info, Kernel
from tiltflow.mcmc.mala import MALA
from tiltflow.mcmc.metropolis import decide
from tiltflow.mcmc.point import Point
from tiltflow.mcmc.tempering import ReplicaExchange
from tiltflow.mcmc.trajectory import follow


def told(decision, state, gradients=1):
    return Info(*decision, energy=-state.log_density, gradients=jnp.asarray(gradients))


class WithoutAccept(Kernel):
    """HMC that takes every proposal."""

    target: float | None = 0.8

    def init(self, log_density, position):
        return hmc.init(position, hmc.value_and_gradient(log_density))

    def step(self, key, log_density, state, tuning):
        momentum = jr.normal(key, state.position.shape)
        sizes = jnp.broadcast_to(tuning.step_size, (len(momentum), 1))
        end = follow(state, momentum, hmc.value_and_gradient(log_density), sizes, 4).end
        yes = jnp.ones_like(end.log_density)
        return end, told((yes, yes > 0, yes < 0), end, 4)


class Persistent(NamedTuple):
    position: jax.Array
    log_density: jax.Array
    gradient: jax.Array
    momentum: jax.Array


class PersistentMomentum(Kernel):
    """Horowitz' HMC: momenta are kept in part, and must be negated where a proposal is refused."""

    negates: jax.Array
    target: float | None = 0.8

    def init(self, log_density, position):
        state = hmc.init(position, hmc.value_and_gradient(log_density))
        return Persistent(*state, jr.normal(jr.key(17), position.shape))

    def step(self, key, log_density, state, tuning):
        fresh_key, accept_key = jr.split(key)
        fresh = jr.normal(fresh_key, state.position.shape)
        momentum = 0.9 * state.momentum + jnp.sqrt(1 - 0.9**2) * fresh
        start = hmc.HMCState(*state[:3])
        sizes = jnp.broadcast_to(tuning.step_size, (len(momentum), 1))
        end, last, is_finite = follow(
            start, momentum, hmc.value_and_gradient(log_density), sizes, 2
        )
        ratio = end.log_density - start.log_density
        ratio += 0.5 * sum_event(momentum**2) - 0.5 * sum_event(last**2)
        decision = decide(jr.uniform(accept_key, ratio.shape), ratio, is_finite)
        refused = jnp.where(self.negates, -momentum, momentum)
        kept = choose(decision.is_accepted, end, start)
        return Persistent(
            *kept, jnp.where(per_chain(decision.is_accepted, last), last, refused)
        ), told(decision, kept, 2)


class Scaled(NamedTuple):
    position: jax.Array
    log_density: jax.Array
    log_scale: jax.Array


class AdaptsWhileSampling(Kernel):
    """Random walk whose chains each go on adapting their step size at the given rate."""

    rate: jax.Array
    target: float | None = 0.5

    def init(self, log_density, position):
        return Scaled(position, log_density(position), jnp.zeros(len(position)))

    def step(self, key, log_density, state, tuning):
        draw_key, accept_key = jr.split(key)
        size = tuning.step_size * jnp.exp(state.log_scale)
        noise = per_chain(size, state.position) * jr.normal(draw_key, state.position.shape)
        new = Scaled(state.position + noise, log_density(state.position + noise), state.log_scale)
        ratio = new.log_density - state.log_density
        decision = decide(jr.uniform(accept_key, ratio.shape), ratio, jnp.isfinite(new.log_density))
        kept = choose(decision.is_accepted, new, state)
        scale = state.log_scale + self.rate * (decision.acceptance_rate - 0.5)
        return kept._replace(log_scale=scale), told(decision, kept)


class Drifting(GaussianHMC):
    """Gaussian-exact HMC whose drift keeps this share of the volume; 1 is the sound one."""

    kept: jax.Array = 1.0

    @property
    def splitting(self):
        def drift(position, momentum, angle):
            position, momentum = rotate(position, momentum, angle)
            return self.kept * position, momentum

        return super().splitting._replace(drift=drift)


class ChoosesByPosition(Kernel):
    """A mixture whose choice depends on where the chain is."""

    target: float | None = None

    def init(self, log_density, position):
        return MALA().init(log_density, position)

    def step(self, key, log_density, state, tuning):
        first, second = jr.split(key)
        local, info = MALA().step(first, log_density, state, tuning)
        jump, _ = Independence().step(second, log_density, Point(*state[:2]), tuning)
        both = hmc.value_and_gradient(log_density)
        kept = choose(state.position[:, 0] > 0, hmc.init(jump.position, both), local)
        return kept, Info(*(getattr(info, name) for name in Info._fields))


class Exchanging(ReplicaExchange):
    """Replica exchange that tests its exchanges if `tests` is 1, and takes all if it is 0."""

    tests: jax.Array

    def __init__(self, betas, tests, **settings):
        super().__init__(betas, **settings)
        self.tests = tests

    def _exchange(self, key, replicas, turn):
        tested = eqx.tree_at(lambda kernel: kernel.betas, self, self.tests * self.betas)
        return ReplicaExchange._exchange(tested, key, replicas, turn)
