"""HMC against targets with known answers, and broken kernels that must not pass."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.mcmc import hmc
from tiltflow.mcmc.run import sample

sys.path.insert(0, str(Path(__file__).parent))
from targets import check_target, correlated, mixture, tilted, wave

TARGETS = {
    "correlated 2-d": (correlated(2, 0.95), 12),
    "correlated 20-d": (correlated(20, 0.9), 16),
    "mixture": (mixture(), 8),
    "tilted normal": (tilted(wave), 8),
}


def draw(target, *, leapfrogs, key=0, chains=64, draws=600, **settings):
    start = 2 * jr.normal(jr.key(99), (chains, target.dim))
    return sample(
        jr.key(key),
        target.log_density,
        start,
        num_draws=draws,
        num_warmup=200,
        num_leapfrogs=leapfrogs,
        **settings,
    )


@pytest.mark.parametrize("name", TARGETS)
def test_moments_and_quantiles(name):
    target, leapfrogs = TARGETS[name]
    draws = draw(target, leapfrogs=leapfrogs)
    check_target(target, draws.positions)
    assert draws.divergences == 0
    assert 0.7 < draws.acceptance < 0.9


def broken_draws(step, target, *, step_size, leapfrogs, draws=600, chains=64):
    """Draws of a kernel `step(key, position) -> position`."""

    @jax.jit
    def run(key, position):
        def one(position, key):
            position = step(key, position, step_size, leapfrogs)
            return position, position

        return jax.lax.scan(one, position, jr.split(key, draws + 100))[1]

    start = jr.normal(jr.key(5), (chains, target.dim))
    return np.asarray(run(jr.key(1), start))[100:].swapaxes(0, 1)


def value_and_grad(target, sign=1.0):
    def both(x):
        value, pullback = jax.vjp(target.log_density, x)
        return value, sign * pullback(jnp.ones_like(value))[0]

    return both


def sound(target):
    def step(key, position, step_size, leapfrogs):
        both = value_and_grad(target)
        state = hmc.init(position, both)
        return hmc.step(key, state, both, step_size, num_leapfrogs=leapfrogs)[0].position

    return step


def without_accept(target):
    """Every proposal is taken."""

    def step(key, position, step_size, leapfrogs):
        both = value_and_grad(target)
        momentum = jr.normal(key, position.shape)
        for _ in range(leapfrogs):
            momentum = momentum + 0.5 * step_size * both(position)[1]
            position = position + step_size * momentum
            momentum = momentum + 0.5 * step_size * both(position)[1]
        return position

    return step


def without_fresh_momentum_energy(target):
    """The kinetic energy is left out of the acceptance."""

    def step(key, position, step_size, leapfrogs):
        both = value_and_grad(target)
        first, second = jr.split(key)
        proposal = without_accept(target)(first, position, step_size, leapfrogs)
        error = both(proposal)[0] - both(position)[0]
        taken = jnp.log(jr.uniform(second, error.shape)) < error
        return jnp.where(taken[:, None], proposal, position)

    return step


def wrong_sign_of_gradient(target):
    """Leapfrogs go uphill in energy and are all taken, as an accept step on -f would."""

    def step(key, position, step_size, leapfrogs):
        flipped = value_and_grad(target, sign=-1.0)
        state = hmc.init(position, flipped)
        state, _ = hmc.step(key, state, flipped, step_size, num_leapfrogs=leapfrogs)
        return jnp.clip(state.position, -10, 10)

    return step


def test_the_check_passes_a_sound_kernel_written_the_same_way():
    target, _ = TARGETS["tilted normal"]
    check_target(target, broken_draws(sound(target), target, step_size=0.3, leapfrogs=6))


@pytest.mark.parametrize("broken", [without_accept, without_fresh_momentum_energy])
def test_the_check_has_power_against_a_broken_kernel(broken):
    target, _ = TARGETS["tilted normal"]
    draws = broken_draws(broken(target), target, step_size=0.45, leapfrogs=5)
    with pytest.raises(AssertionError, match="standard errors"):
        check_target(target, draws)


def test_a_wrong_sign_of_the_gradient_shows_in_the_acceptance():
    """It is still a valid kernel, reversible and corrected, but it refuses almost everything."""
    target, _ = TARGETS["correlated 20-d"]

    @jax.jit
    def acceptance(sign):
        both = value_and_grad(target, sign)
        state = hmc.init(jr.normal(jr.key(0), (64, 20)), both)
        _, info = hmc.step(jr.key(1), state, both, 0.3, num_leapfrogs=12)
        return info.acceptance_rate.mean()

    assert acceptance(1.0) > 0.5
    assert acceptance(-1.0) < 0.1


def test_a_log_determinant_left_in_the_target_fails():
    """The classic bug: log|det J| of the push added to the latent density."""

    def log_det(u):  # of g(u) = (u_1, u_2 exp(u_1 / 2))
        return 0.5 * u[..., 0]

    target, _ = TARGETS["tilted normal"]
    wrong = tilted(lambda u: wave(u) + log_det(u))
    draws = draw(wrong, leapfrogs=8)
    with pytest.raises(AssertionError, match="standard errors"):
        check_target(target, draws.positions)


def test_agrees_with_blackjax():
    """The same step size and length: the same acceptance, and the same answers."""
    import blackjax

    target, leapfrogs = TARGETS["mixture"]
    draws = draw(target, leapfrogs=leapfrogs, jitter=0.0)
    kernel = blackjax.hmc(
        lambda x: target.log_density(x[None])[0],
        step_size=draws.step_size,
        inverse_mass_matrix=jnp.ones(2),
        num_integration_steps=leapfrogs,
    )

    @jax.jit
    def run(key, states):
        def one(states, key):
            states, info = jax.vmap(kernel.step)(jr.split(key, 64), states)
            return states, (states.position, info.acceptance_rate)

        return jax.lax.scan(one, states, jr.split(key, 700))[1]

    positions, acceptance = run(jr.key(4), jax.vmap(kernel.init)(jr.normal(jr.key(3), (64, 2))))
    check_target(target, np.asarray(positions)[100:].swapaxes(0, 1))
    assert float(acceptance[100:].mean()) == pytest.approx(draws.acceptance, abs=0.01)
