"""MBAR is Bennett's bridge for two densities, and better than neighbours alone for more."""

import numpy as np
from closed_forms import tilt
from scipy.optimize import brentq
from scipy.special import expit

from tiltflow.normalizer.mbar import mbar

TILT = tilt(4, 1.0, 0.6, 0.1)


def rung(rng, beta, groups, draws):
    """f at exact draws of exp(beta f) q."""
    a, b = beta * TILT.a, 1 + beta * TILT.b
    u = a / b + rng.standard_normal((groups, draws, len(a))) / b**0.5
    return TILT.f(u)


def test_two_rungs_are_bennetts_bridge():
    rng = np.random.default_rng(0)
    q, p = rung(rng, 0.0, 8, 100), rung(rng, 1.0, 8, 100)
    found = mbar(np.array([0.0, 1.0]), [q, p], np.zeros(2))
    root = brentq(lambda c: expit(q - c).sum() - expit(c - p).sum(), -20, 20, xtol=1e-12)
    assert found.converged
    assert abs(found.log_z[-1] - root) < 1e-6


def test_rungs_of_unequal_size_are_weighed_by_their_draws():
    """Bennett's equation with the logarithm of the ratio of draws in it; without, it is another."""
    rng = np.random.default_rng(1)
    q, p = rung(rng, 0.0, 8, 300), rung(rng, 1.0, 8, 50)
    found = mbar(np.array([0.0, 1.0]), [q, p], np.zeros(2)).log_z[-1]

    def root(ratio):
        def excess(c):
            return expit(q - c + np.log(ratio)).sum() - expit(c - p - np.log(ratio)).sum()

        return brentq(excess, -20, 20, xtol=1e-12)

    assert abs(found - root(p.size / q.size)) < 1e-6
    assert abs(found - root(1.0)) > 1e-3


def test_intervals_of_many_rungs_cover_and_a_far_start_is_no_matter():
    betas = np.linspace(0, 1, 6)
    errors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rungs = [rung(rng, beta, 16, 10) for beta in betas]
        found = mbar(betas, rungs, np.linspace(0, 30.0, 6))
        assert found.converged
        errors.append((found.log_z[-1] - TILT.log_z) / found.standard_error[-1])
    assert 0.9 <= np.mean(np.abs(errors) < 2.13) <= 0.99  # Student's t, 15 degrees of freedom
    assert abs(np.mean(errors)) < 0.25


def test_correlated_draws_within_a_group_do_not_shrink_the_error():
    rng = np.random.default_rng(0)
    betas = np.array([0.0, 1.0])
    rungs = [rung(rng, beta, 32, 5) for beta in betas]
    once = mbar(betas, rungs, np.zeros(2))
    repeated = mbar(betas, [np.repeat(values, 20, axis=1) for values in rungs], np.zeros(2))
    np.testing.assert_allclose(repeated.log_z, once.log_z, atol=1e-6)
    np.testing.assert_allclose(repeated.standard_error, once.standard_error, rtol=1e-6)


def test_power_draws_of_the_wrong_rung_do_not_cover():
    rng = np.random.default_rng(0)
    lagging = [rung(rng, beta, 16, 200) for beta in (0.0, 0.7)]
    found = mbar(np.array([0.0, 1.0]), lagging, np.zeros(2))
    assert abs(found.log_z[-1] - TILT.log_z) > 4 * found.standard_error[-1]
