"""ChEES: its gradient against closed forms, its ascent, and what is not finite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.mcmc import GaussianHMC, Tuning, chees


def rotated(key, time, chains=200_000):
    """Exact trajectories of N(0, 1), one dimension: starts, ends, last momenta."""
    first, second = jr.split(key)
    u, p = jr.normal(first, (chains, 1)), jr.normal(second, (chains, 1))
    cos, sin = jnp.cos(time), jnp.sin(time)
    return u, cos * u + sin * p, cos * p - sin * u


def check_gradient(sign):
    """The criterion of N(0, 1) is sin(t)^2, up to a factor: its derivative is t sin(2 t)."""
    for time in (0.5, 1.0, 2.0):
        u, end, momentum = rotated(jr.key(0), time)
        found = chees.log_length_gradient(
            u, end, sign * momentum, jnp.ones(len(u)), jnp.asarray(time)
        )
        assert float(found) == pytest.approx(time * np.sin(2 * time), rel=0.05)


def test_the_gradient_is_the_criterions():
    check_gradient(1.0)
    with pytest.raises(AssertionError):
        check_gradient(-1.0)  # a momentum negated for reversibility


def test_what_is_not_finite_does_not_count():
    u, end, momentum = rotated(jr.key(0), 1.0, chains=50)
    rate, time = jnp.ones(50).at[:2].set(0.0), jnp.asarray(1.0)
    expected = chees.update(chees.init(1.0), u[2:], end[2:], momentum[2:], rate[2:], time)
    bad = end.at[0].set(jnp.nan), momentum.at[1].set(jnp.inf)
    found = chees.update(chees.init(1.0), u, *bad, rate, time)
    for new, old in zip(found, expected, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)
    none = chees.update(chees.init(1.0), u, end * jnp.nan, momentum, 0 * rate, time)
    assert float(chees.length(none)) == pytest.approx(1.0)


def test_length_does_not_exceed_the_longest():
    state = chees.init(1.0)
    u, end, momentum = rotated(jr.key(0), 0.5, chains=500)
    for _ in range(5):
        state = chees.update(state, u, end, momentum, jnp.ones(500), jnp.asarray(0.5), longest=1.02)
    assert float(chees.length(state)) == pytest.approx(1.02)


@pytest.mark.parametrize("start", [0.1, 3.0])
def test_warm_up_finds_a_quarter_turn(start):
    """For N(0, I) with h uniform on [0, 1] the mean of h sin(2 h T) vanishes near T = 2.25."""
    kernel, rule = GaussianHMC(), chees.ChEESLength()

    def log_density(u):
        return -0.5 * jnp.sum(u**2, axis=-1)

    @eqx.filter_jit
    def run(length):
        def transition(index, carry):
            state, memory = carry
            settings = Tuning(jnp.asarray(0.2), rule.length(memory))
            new, info = kernel.step(jr.key(index), log_density, state, settings)
            return new, rule.update(memory, state.position, info)

        start = kernel.init(log_density, jr.normal(jr.key(9), (256, 3)))
        return jax.lax.fori_loop(0, 600, transition, (start, rule.init(length)))[1]

    assert 1.6 < float(rule.final(run(jnp.asarray(start)))) < 3.0
