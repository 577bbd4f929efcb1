"""The bridge covers closed-form truths, with independent draws and with correlated chains."""

import numpy as np
import pytest
from closed_forms import Quadratic, calibrated, coverage, tilt

from tiltflow.errors import InputError
from tiltflow.normalizer import bridge, importance
from tiltflow.normalizer.mean_error import of_chains

SEEDS, N = 200, 1000
TILTS = {
    "1": tilt(1, 1.0, 1.0),
    "1 wide": Quadratic(np.array([1.0]), np.array([-0.3])),
    "2": tilt(2, 1.5, 3.0, 0.4),
    "8": tilt(8, 3.0, 2.0, 0.4),
    "64": tilt(64, 3.0, 0.5, 0.3),
}
CHAINS = {"few chains": (4, 500, 0.9), "many chains": (32, 50, 0.9), "one chain": (1, 2000, 0.9)}


def estimates(f_q, f_p):
    return [bridge(q, p) for q, p in zip(f_q, f_p, strict=True)]


def draws(problem, chains, length, rho=0.0, seeds=SEEDS):
    rng = np.random.default_rng(0)
    return problem.f_q(rng, seeds, N), problem.f_p(rng, seeds, chains, length, rho=rho)


def first(names, few):
    """All of `names`, of which the first tier has a few."""
    return [pytest.param(n, marks=() if n in few else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", first(TILTS, ("1 wide", "8", "64")))
def test_intervals_cover_the_truth_with_independent_draws(name):
    f_q, f_p = draws(TILTS[name], 4, 250)
    assert calibrated(estimates(f_q, f_p), TILTS[name].log_z)


@pytest.mark.parametrize("name", first(("1", "8"), ("8",)))
@pytest.mark.parametrize("shape", CHAINS)
def test_intervals_cover_the_truth_with_correlated_chains(name, shape):
    f_q, f_p = draws(TILTS[name], *CHAINS[shape])
    assert calibrated(estimates(f_q, f_p), TILTS[name].log_z)


@pytest.mark.parametrize("name", ["1", "8"])
def test_power_an_error_blind_to_correlation_does_not_cover(name):
    f_q, f_p = draws(TILTS[name], *CHAINS["few chains"])
    as_if_independent = f_p.reshape(SEEDS, -1, 1)
    inside, _ = coverage(estimates(f_q, as_if_independent), TILTS[name].log_z)
    assert inside < 0.8


@pytest.mark.parametrize("name", TILTS)
def test_power_a_sign_error_and_swapped_arguments_are_seen(name):
    f_q, f_p = draws(TILTS[name], 4, 250, seeds=20)
    wrong_sign = estimates(-f_q, -f_p)
    assert coverage(wrong_sign, TILTS[name].log_z)[0] <= 0.1
    # With as many draws each the root is symmetric in its arguments: only the checks can see it.
    swapped = estimates(f_p.reshape(20, N), f_q.reshape(20, 4, 250))
    for broken in (wrong_sign, swapped):
        assert not any(estimate.holds for estimate in broken)
        assert "swapped" in broken[0].words


def test_power_swapped_arguments_of_unequal_number_do_not_cover():
    f_q, f_p = draws(TILTS["8"], 4, 50, seeds=20)
    swapped = estimates(f_p.reshape(20, 200), f_q.reshape(20, 4, 250))
    assert coverage(swapped, TILTS["8"].log_z)[0] <= 0.1


@pytest.mark.parametrize("name", ["8", "64"])
@pytest.mark.parametrize("lag", [0.5, 0.7])
def test_chains_that_lag_behind_f_are_seen_by_the_slope(name, lag):
    ahead = TILTS[name]
    behind = Quadratic(lag * ahead.a, lag * ahead.b)
    rng = np.random.default_rng(0)
    u = rng.standard_normal((20, 4, 250, len(behind.a))) / (1 + behind.b) ** 0.5
    f_p = ahead.f(behind.a / (1 + behind.b) + u)
    found = estimates(ahead.f_q(rng, 20, N), f_p)
    assert coverage(found, ahead.log_z) == (0.0, 0.0)
    assert "slope" in found[0].words


def test_it_reaches_where_importance_sampling_breaks_down():
    f_q, f_p = draws(TILTS["64"], 4, 250, seeds=50)
    inside, held = coverage(estimates(f_q, f_p), TILTS["64"].log_z)
    assert inside >= 0.9
    assert held == 1.0
    weights = [importance(row) for row in f_q]
    assert not any(estimate.holds for estimate in weights)
    assert np.median([estimate.pareto_k for estimate in weights]) > 0.7


def test_without_overlap_it_does_not_hold():
    found = estimates(*draws(tilt(8, 8.0, 0.3, 0.2), 4, 250, seeds=10))
    assert not any(estimate.holds for estimate in found)
    assert "intermediate" in found[0].words


def test_a_tilt_that_is_not_gaussian():
    def f(u):
        return 2 * np.sin(2 * u[..., 0]) - 0.3 * (u[..., 1] - u[..., 0] ** 2) ** 2

    grid = np.linspace(-9, 9, 721)
    u = np.stack(np.meshgrid(grid, grid), axis=-1)
    density = np.exp(f(u) - (u**2).sum(axis=-1) / 2) / (2 * np.pi)
    truth = float(np.log(density.sum() * (grid[1] - grid[0]) ** 2))
    rng = np.random.default_rng(0)
    proposed = rng.standard_normal((1_200_000, 2))
    accepted = f(proposed)[rng.uniform(size=len(proposed)) < np.exp(f(proposed) - 2)]  # f <= 2
    f_p = accepted[: SEEDS * 500].reshape(SEEDS, 4, 125)
    f_q = f(rng.standard_normal((SEEDS, 500, 2)))
    assert calibrated(estimates(f_q, f_p), truth)
    assert not calibrated(estimates(-f_q[:20], -f_p[:20]), truth)


def test_the_overlap_is_its_integral():
    push = tilt(1, 2.0, 0.0)
    x = np.linspace(-12, 14, 5201)
    q, p = np.exp(-(x**2) / 2), np.exp(-((x - 2.0) ** 2) / 2)
    truth = np.sum(2 * p * q / (p + q)) * (x[1] - x[0]) / (2 * np.pi) ** 0.5
    found = estimates(*draws(push, 4, 250, seeds=20))
    assert np.mean([estimate.overlap for estimate in found]) == pytest.approx(truth, abs=0.01)


def test_no_tilt_is_certain():
    estimate = bridge(np.full(100, 3.5), np.full((4, 25), 3.5))
    assert (estimate.low, estimate.mean, estimate.high) == (3.5, 3.5, 3.5)
    assert estimate.overlap == 1.0
    assert estimate.holds


@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_the_level_of_f_only_shifts(level):
    (f_q,), (f_p,) = draws(TILTS["8"], 4, 250, seeds=1)
    plain, shifted = bridge(f_q, f_p), bridge(f_q + level, f_p + level)
    assert shifted.mean == pytest.approx(plain.mean + level, abs=1e-7)
    assert shifted.standard_error == pytest.approx(plain.standard_error, rel=1e-6)


@pytest.mark.parametrize("half_gap", [1e4, -1e4])
def test_a_huge_gap_does_not_overflow(half_gap):
    rng = np.random.default_rng(0)
    estimate = bridge(rng.normal(-half_gap, 30, 500), rng.normal(half_gap, 30, (4, 100)))
    assert np.isfinite([estimate.mean, estimate.standard_error]).all()
    assert not estimate.holds


def test_chains_that_disagree_count_as_few():
    stuck = np.random.default_rng(0).normal(np.array([[0.0], [0.0], [5.0], [5.0]]), 1, (4, 500))
    assert of_chains(stuck).size < 10
    assert of_chains(stuck - stuck.mean(axis=1, keepdims=True)).size > 1000


def test_shapes_and_values_are_checked():
    f_q = np.zeros(50)
    with pytest.raises(InputError, match=r"f_p has shape \(50,\), expected \[chains, draws\]"):
        bridge(f_q, f_q)
    f_p = np.zeros((4, 25))
    f_p[2, 3] = -np.inf
    with pytest.raises(InputError, match=r"1 of 100 .* -inf, at \[2, 3\]"):
        bridge(f_q, f_p)
    with pytest.raises(InputError, match="at least 4"):
        bridge(f_q, f_p[:1, :3])
