"""Kinks cost acceptance: at the same step, and the more the more dimensions there are."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


def test_exact_draws_are_those_of_the_density(recipe):
    x = np.asarray(recipe("s02").exact_draws(jnp.abs, (2_000, 4), jr.key(0))).ravel()
    grid = np.linspace(-6, 6, 4_001)
    density = np.exp(-2 * np.abs(grid) - grid**2 / 2)
    truth = np.sum(density * grid**2) / np.sum(density)
    error = np.std(x**2) / np.sqrt(len(x))
    assert abs(np.mean(x**2) - truth) < 4 * error
    wrong = np.exp(-np.abs(grid) - grid**2 / 2)  # the twin: half of the slope
    assert abs(np.mean(x**2) - np.sum(wrong * grid**2) / np.sum(wrong)) > 4 * error


def test_kinks_cost_acceptance_at_the_same_step(recipe):
    found = {
        name: recipe("s02").acceptances(phi, 16, [8], chains=256, seed=0)[0]
        for name, phi in recipe("s02").PRODUCTS.items()
    }
    kinked, smooth = found.values()
    assert smooth - kinked > 0.1


@pytest.mark.slow
def test_exponents_of_kinks_and_of_smooth_functions(recipe):
    kinked, smooth = (
        recipe("s02").scaling(phi, [16, 64, 256], chains=512, seed=1)
        for phi in recipe("s02").PRODUCTS.values()
    )
    assert abs(kinked[0] + 0.5) < 0.1
    assert abs(smooth[0] + 0.25) < 0.1
    assert not abs(kinked[0] + 0.25) < 0.1  # either would fail as the other
