"""The log-mean of weights covers the truth where k-hat says so, and says where it does not."""

import numpy as np
import pytest
from closed_forms import calibrated, coverage, tilt

from tiltflow.errors import InputError
from tiltflow.normalizer import importance
from tiltflow.normalizer.pareto import pareto_k

SEEDS, N = 200, 1000
LIGHT = {
    "1": tilt(1, 1.0, 1.0),
    "2": tilt(2, 0.8, 3.0, 0.1),
    "8": tilt(8, 1.2, 0.3, 0.1),
    "64": tilt(64, 0.8, 0.2, 0.05),
}


def estimates(f):
    return [importance(row) for row in f]


@pytest.mark.parametrize("dim", LIGHT)
def test_intervals_cover_the_truth(dim):
    f = LIGHT[dim].f_q(np.random.default_rng(0), SEEDS, N)
    assert calibrated(estimates(f), LIGHT[dim].log_z)
    assert not calibrated(estimates(-f), LIGHT[dim].log_z)  # power: the sign of f


def test_a_tilt_to_where_q_seldom_goes_does_not_hold():
    far = tilt(8, 4.0, 0.3, 0.2)
    found = estimates(far.f_q(np.random.default_rng(0), 50, N))
    inside, held = coverage(found, far.log_z)
    assert held == 0.0
    assert inside < 0.8
    assert "k-hat" in found[0].words


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_is_the_shape_of_the_tail(k):
    log_weights = k * np.random.default_rng(0).standard_exponential((50, 10_000))
    found = np.array([pareto_k(row) for row in log_weights])
    assert abs(found.mean() - k) < 0.05
    assert found.std() < 0.15


def test_the_effective_size_is_the_weights():
    estimate = importance(np.log([1.0, 1.0, 2.0]))
    assert estimate.ess_q == pytest.approx(16 / 6)
    assert estimate.mean == pytest.approx(np.log(4 / 3))
    assert not estimate.holds


def test_equal_weights_are_certain():
    estimate = importance(np.full(100, 3.5))
    assert (estimate.mean, estimate.low, estimate.high) == (3.5, 3.5, 3.5)
    assert estimate.holds


@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_the_level_of_f_only_shifts(level):
    f = tilt(2, 1.0, 1.0).f_q(np.random.default_rng(0), N)
    plain, shifted = importance(f), importance(f + level)
    assert shifted.mean == pytest.approx(plain.mean + level, abs=1e-8)
    assert shifted.standard_error == pytest.approx(plain.standard_error, rel=1e-6)
    assert shifted.pareto_k == pytest.approx(plain.pareto_k, abs=1e-6)


def test_a_huge_spread_does_not_overflow():
    estimate = importance(np.linspace(-1e4, 1e4, 500))
    assert np.isfinite(estimate.mean)
    assert not estimate.holds


def test_values_that_are_not_finite_are_named():
    f = np.zeros(100)
    f[[7, 20]] = np.nan, np.inf
    with pytest.raises(InputError, match=r"f_q has 2 of 100 .* nan, at \[7\]"):
        importance(f)


@pytest.mark.parametrize("f", [np.zeros((3, 4)), np.zeros(1), 0.0, ["a", "b"]])
def test_a_wrong_shape_is_refused(f):
    with pytest.raises(InputError, match="f_q"):
        importance(f)


def test_pareto_k_of_a_tail_of_one_value_is_a_number():
    """A hundred equal weights above all others: a point of the fit's grid is 0 by 0."""
    for above in range(95, 105):
        assert np.isfinite(pareto_k(np.repeat([0.0, 1.0], [1_111 - above, above])))
