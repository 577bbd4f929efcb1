"""A transition of HMC: its cost, its reversibility, what it does with what is not finite."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.mcmc import hmc

# Compiled once for each density and shape: operation by operation they take seconds.
init = jax.jit(hmc.init, static_argnums=1)
step = jax.jit(hmc.step, static_argnums=2)


def normal(x):
    return -0.5 * jnp.sum(x**2, axis=-1), -x


def half_plane(x):
    """A standard normal that is NaN, value and gradient, where the first coordinate exceeds 1."""
    outside = x[:, :1] > 1
    value, gradient = normal(x)
    return jnp.where(outside[:, 0], jnp.nan, value), jnp.where(outside, jnp.nan, gradient)


def test_one_gradient_for_each_leapfrog():
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return normal(x)

    state = init(jnp.zeros((4, 3)), counted)
    jax.effects_barrier()
    calls.clear()
    state, _ = step(jr.key(0), state, counted, 0.1, num_leapfrogs=7)
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert len(calls) == 7


def test_value_and_gradient_are_those_at_the_position():
    state = init(jr.normal(jr.key(0), (50, 3)), normal)
    state, info = step(jr.key(1), state, normal, 1.2, num_leapfrogs=4)
    assert 0 < int(info.is_accepted.sum()) < 50  # both branches are looked at
    value, gradient = normal(state.position)
    np.testing.assert_allclose(state.log_density, value, rtol=1e-5)
    np.testing.assert_allclose(state.gradient, gradient, rtol=1e-5)


def test_small_steps_are_accepted_and_large_ones_refused():
    state = init(jr.normal(jr.key(0), (200, 10)), normal)
    _, small = step(jr.key(1), state, normal, 0.01, num_leapfrogs=3)
    _, large = step(jr.key(1), state, normal, 3.0, num_leapfrogs=10)
    assert float(small.acceptance_rate.min()) > 0.99
    assert float(large.acceptance_rate.mean()) < 0.01


def test_leapfrog_error_is_of_third_order_a_step():
    """Halving the step size quarters the energy error of a trajectory of fixed length."""
    state = init(jr.normal(jr.key(0), (500, 5)), normal)

    def error(step_size, num_leapfrogs):
        _, info = step(jr.key(1), state, normal, step_size, num_leapfrogs=num_leapfrogs, jitter=0.0)
        return float(jnp.mean(1 - info.acceptance_rate))

    assert error(0.4, 4) / error(0.2, 8) == pytest.approx(4.0, rel=0.15)


def test_not_finite_is_divergent_and_stays_out():
    start = jnp.clip(jr.normal(jr.key(0), (300, 2)), -3, 0.9)
    state = init(start, half_plane)
    new, info = step(jr.key(1), state, half_plane, 0.5, num_leapfrogs=5)
    assert 10 < int(info.is_divergent.sum()) < 290
    assert bool(jnp.all(info.acceptance_rate[info.is_divergent] == 0))
    assert not bool(jnp.any(info.is_accepted & info.is_divergent))
    for part in new:
        assert bool(jnp.all(jnp.isfinite(part)))
    kept = info.is_divergent
    np.testing.assert_array_equal(new.position[kept], start[kept])


def test_a_trajectory_that_was_not_finite_on_its_way_is_refused():
    """Finite at the end, NaN in between: it must not be taken."""

    def hole(x):
        value, gradient = normal(x)
        return jnp.where((x[:, 0] > 0.4) & (x[:, 0] < 0.6), jnp.nan, value), 0 * gradient

    state = init(jnp.zeros((400, 1)), hole)
    new, info = step(jr.key(0), state, hole, 0.05, num_leapfrogs=40)
    passed = info.is_accepted & (new.position[:, 0] > 0.6)
    # Free flight at 0.05 a leapfrog or less: whoever got beyond the hole has been in it, unless
    # its momentum carried it over in one leapfrog (above 0.2 / 0.04).
    assert not bool(jnp.any(passed))
    assert int(info.is_divergent.sum()) > 50


def test_events_of_any_shape():
    def both(x):
        value, pullback = jax.vjp(lambda x: -0.5 * jnp.sum(x**2, axis=(1, 2)), x)
        return value, pullback(jnp.ones_like(value))[0]

    state = init(jnp.ones((6, 2, 3)), both)
    state, info = step(jr.key(0), state, both, 0.3, num_leapfrogs=3)
    assert state.position.shape == state.gradient.shape == (6, 2, 3)
    assert info.energy.shape == (6,)


def test_gradients_in_parts_are_the_same_in_less_memory():
    """Parts of 32 rows; 300 are no multiple of them."""
    weights = jr.normal(jr.key(0), (20, 2_000)) / 10

    def log_density(u):
        return -jnp.sum(jnp.log(jnp.cosh(u @ weights))) - 0.5 * jnp.sum(u**2)

    u = jr.normal(jr.key(1), (300, 20))
    whole = jax.jit(hmc.value_and_gradient(jax.vmap(log_density))).lower(u).compile()
    parts = jax.jit(hmc.value_and_gradient_in_parts(log_density, 32)).lower(u).compile()
    for a, b in zip(whole(u), parts(u), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    memory = [x.memory_analysis().temp_size_in_bytes for x in (whole, parts)]
    assert memory[1] < memory[0] / 3
