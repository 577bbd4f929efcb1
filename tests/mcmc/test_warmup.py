"""Pooled dual averaging: it finds the target, and nothing can break it."""

import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.mcmc import warmup


def acceptance_at(step_size):
    """A made-up law: falls from 1 to 0 around a step size of 0.3."""
    return 1 / (1 + (step_size / 0.3) ** 2)


@pytest.mark.parametrize("start", [1e-3, 0.15, 30.0])
def test_finds_the_step_size_of_the_target(start):
    state = warmup.init(start)
    for _ in range(300):
        state = warmup.update(state, acceptance_at(warmup.step_size(state)), 0.8)
    assert float(warmup.final(state)) == pytest.approx(0.15, rel=0.05)


@pytest.mark.parametrize("acceptance", [np.nan, np.inf, 0.0, 1.0])
def test_stays_finite_whatever_it_is_told(acceptance):
    state = warmup.init(0.1)
    for _ in range(500):
        state = warmup.update(state, jnp.asarray(acceptance), 0.8)
    for size in (warmup.step_size(state), warmup.final(state)):
        assert warmup.SMALLEST * 0.99 <= float(size) <= warmup.LARGEST * 1.01


def test_not_finite_counts_as_refused():
    one = warmup.update(warmup.init(0.1), jnp.asarray(jnp.nan), 0.8)
    other = warmup.update(warmup.init(0.1), jnp.asarray(0.0), 0.8)
    assert float(one.log_step) == float(other.log_step)
