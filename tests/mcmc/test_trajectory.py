"""The random numbers of a transition: each of its own distribution, none twice."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from tiltflow.mcmc import trajectory

CHAINS = 20_000
WITHIN = 4.0  # standard errors


def numbers(make):
    """`[chains, 5]`: momenta of a 3-vector, jitter, and what the test compares with."""
    momentum, factor, uniform = make(jr.key(3), jnp.zeros((CHAINS, 3)))
    return np.column_stack([momentum, factor, uniform])


def check_noise(make):
    found = numbers(make)
    for column, law in zip(
        found.T, [stats.norm] * 3 + [stats.uniform(-1, 2), stats.uniform], strict=True
    ):
        assert stats.kstest(column, law.cdf).pvalue > 1e-4
    assert found[:, 4].min() > 0
    for values in (found, found**2):
        correlation = np.corrcoef(values, rowvar=False)[np.triu_indices(5, 1)]
        assert np.abs(correlation).max() < WITHIN / np.sqrt(CHAINS)


def jitter_twice(key, position):
    momentum, factor, _ = trajectory._noise(key, position)
    return momentum, factor, 0.5 * (factor + 1)


def jitter_of_the_momentum(key, position):
    momentum, _, uniform = trajectory._noise(key, position)
    return momentum, 2 * jax.scipy.stats.norm.cdf(momentum[:, 0]) - 1, uniform


def uniform_left_wide(key, position):
    momentum, factor, uniform = trajectory._noise(key, position)
    return momentum, factor, 2 * uniform - 1


def normal_not_scaled(key, position):
    momentum, factor, uniform = trajectory._noise(key, position)
    return momentum / np.sqrt(2), factor, uniform


def test_noise_is_what_a_transition_takes_it_for():
    check_noise(trajectory._noise)


@pytest.mark.parametrize(
    "broken", [jitter_twice, jitter_of_the_momentum, uniform_left_wide, normal_not_scaled]
)
def test_the_check_of_noise_has_power(broken):
    with pytest.raises(AssertionError):
        check_noise(broken)


def test_noise_has_the_shape_and_the_type_of_the_position():
    momentum, factor, uniform = trajectory._noise(jr.key(0), jnp.zeros((4, 2, 3)))
    assert momentum.shape == (4, 2, 3)
    assert factor.shape == uniform.shape == (4,)
    assert momentum.dtype == jnp.float32
