"""Means in standard errors: correlated chains are not taken for independent draws."""

import numpy as np
import pytest
from scipy.stats import norm

from tiltflow.diagnostics.convergence import autocorrelation_time
from tiltflow.diagnostics.coverage import compare, of_chains, of_rows

RHO = 0.9


def ar1(seed, quantities=20, chains=8, draws=2_000):
    rng = np.random.default_rng(seed)
    x = np.zeros((chains, draws, quantities))
    x[:, 0] = rng.normal(size=(chains, quantities))
    for t in range(1, draws):
        noise = np.sqrt(1 - RHO**2) * rng.normal(size=(chains, quantities))
        x[:, t] = RHO * x[:, t - 1] + noise
    return x


@pytest.fixture(scope="module")
def draws():
    return ar1(0), ar1(1)


def test_agreement_is_found_and_a_shift_is_not_missed(draws):
    first, second = draws
    found = compare(of_chains(first), of_chains(second))
    assert found.compared == 1.0
    assert found.largest_z <= found.limit
    assert np.all(found.certain == 0)
    # 20 standard normal z: their mean square is 1 within 4 of its standard errors.
    assert abs(np.mean(found.z**2) - 1) < 4 * np.sqrt(2 / 20)
    shifted = second.copy()
    shifted[..., 7] += 0.5
    found = compare(of_chains(first), of_chains(shifted))
    assert found.worst == 7
    assert found.largest_z > found.limit
    assert 0 < found.certain[7] < 0.5 < np.abs(found.gap[7]) + 0.15


def test_correlated_draws_taken_for_independent_ones_would_fail(draws):
    """The power twin: its z are far too large."""
    rows = [of_rows(x.reshape(-1, x.shape[2])) for x in draws]
    z = compare(*rows).z
    assert np.mean(z**2) - 1 > 4 * np.sqrt(2 / 20)


def test_the_limit_grows_with_the_number_of_quantities(draws):
    first, second = (of_chains(x[..., :1]) for x in draws)
    assert compare(first, second).limit == pytest.approx(-norm.ppf(0.5e-3))
    assert compare(*(of_chains(x) for x in draws)).limit > 4


def test_what_has_not_converged_is_not_compared(draws):
    first, second = draws
    stuck = second.copy()
    stuck[..., 3] += 3 * np.arange(len(stuck))[:, None]
    found = compare(of_chains(first), of_chains(stuck, rhat_max=1.05, ess_min=50))
    assert found.compared == pytest.approx(19 / 20)
    assert np.isnan(found.z[3])
    constant = of_rows(np.ones((30, 20)))
    found = compare(of_chains(first), constant)
    assert found.compared == 0.0
    assert np.isnan(found.largest_z)


def test_autocorrelation_time_of_an_ar1(draws):
    times = autocorrelation_time(draws[0])
    np.testing.assert_allclose(times.mean(), (1 + RHO) / (1 - RHO), rtol=0.1)
    levels = np.arange(4.0)[:, None] + np.zeros((4, 30))
    assert np.isinf(autocorrelation_time(levels))
