"""Histograms of single columns: the smooth one, its atoms, and which of the kinds is taken."""

import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones.units import smooth
from tiltflow.backbones.units.columns import bins_of
from tiltflow.backbones.units.histogram import best_bins, log_density
from tiltflow.backbones.units.smooth import normal_bins, smooth_bins

NEW = 20_000  # rows that judge
TRUTHS = {
    "normal": stats.norm(3, 2),
    "lognormal": stats.lognorm(1.5),
    "student": stats.t(3),
    "gamma": stats.gamma(2),
}


def behind(truth, bins, seed=1):
    """Nats by which a histogram is behind the truth, and the standard error."""
    new = truth.rvs(NEW, random_state=seed)
    short = truth.logpdf(new) - log_density(new, *bins)
    return np.mean(short), np.std(short) / np.sqrt(NEW)


@pytest.mark.parametrize("name", TRUTHS)
def test_a_smooth_histogram_is_near_the_truth(name):
    """With its power: blocks of the same thousand rows are much further away."""
    truth = TRUTHS[name]
    column = truth.rvs(1_000, random_state=0)
    short, error = behind(truth, smooth_bins(column, column, 0.0))
    assert short - 2 * error < 0.06
    blocks, error = behind(truth, best_bins(column))
    assert blocks - 2 * error > 1.5 * short


def test_tails_need_the_scale_that_follows_them(monkeypatch):
    truth = TRUTHS["lognormal"]
    column = truth.rvs(1_000, random_state=0)
    monkeypatch.setattr(smooth.np, "arcsinh", lambda x: x)
    monkeypatch.setattr(smooth.np, "sinh", lambda x: x)
    assert behind(truth, smooth_bins(column, column, 0.0))[0] > 0.08


def test_a_normal_column_stays_as_good_as_linear():
    column = np.random.default_rng(0).normal(3, 2, size=1_000)
    edges, shares = normal_bins(column)
    assert np.allclose(shares.sum(), 1)
    x = np.linspace(-3, 9, 50)
    expected = stats.norm.logpdf(x, column.mean(), column.std())
    assert np.max(np.abs(log_density(x, edges, shares) - expected)) < 0.2
    short, error = behind(stats.norm(column.mean(), column.std()), (edges, shares))
    assert short + 3 * error < 0.002


def zeros(rows, seed):
    """Hundredths, of which 3 in 10 are 0, and one each somewhere in its cell."""
    chance = np.random.default_rng(seed)
    exact = np.round(chance.gamma(2.0, 2.0, size=rows), 2) * (chance.random(rows) > 0.3)
    return exact, exact + 0.01 * chance.random(rows)


def test_values_that_many_rows_have_are_cells_of_their_own():
    """Their mass is their share; a histogram of the same rows without them knows less."""
    exact, spread = zeros(2_000, 0)
    new, new_spread = zeros(NEW, 1)
    found = smooth_bins(exact, spread, 0.01)
    told = log_density(new_spread, *found)
    assert np.mean(np.exp(told[new == 0])) * 0.01 == pytest.approx(0.3, abs=0.03)
    without = log_density(new_spread, *smooth_bins(spread, spread, 0.0))
    gain = told - without
    assert np.mean(gain) > 0.2 + 3 * np.std(gain) / np.sqrt(NEW)


def test_each_column_gets_the_kind_that_suits_it():
    chance = np.random.default_rng(0)
    jumps = np.where(chance.random(4_000) < 0.5, chance.random(4_000), 5 + chance.random(4_000) / 9)
    rows = np.stack([jumps, chance.normal(size=4_000), chance.lognormal(size=4_000)], axis=1)
    few = chance.integers(0, 5, size=4_000) * 0.5
    exact = np.column_stack([rows, few])
    noisy = np.column_stack([rows, few + 0.5 * chance.random(4_000)])
    found = bins_of(exact, noisy, np.array([0.0, 0.0, 0.0, 0.5]))
    expected = best_bins(jumps), normal_bins(rows[:, 1]), smooth_bins(rows[:, 2], rows[:, 2], 0.0)
    for (edges, shares, _), (edges_of_it, shares_of_it) in zip(found, expected, strict=False):
        assert np.array_equal(edges, edges_of_it)
        assert np.array_equal(shares, shares_of_it)
    assert len(found[3].shares) == 5
    assert [one.tails[0] is not None for one in found] == [True, False, False, True]


@pytest.mark.parametrize("rows", [1, 15, 60])
def test_few_rows_and_few_values_have_a_histogram(rows):
    for column in (np.zeros(rows), np.arange(rows) % 2, np.arange(rows) * 1e-4 + 1e3):
        (found,) = bins_of(column[:, None], column[:, None], np.zeros(1))
        edges, shares, _ = found
        assert np.all(np.diff(edges.astype(np.float32)) > 0)
        assert np.all(shares > 0)
        assert np.isfinite(found.log_density(column)).all()


def test_a_row_a_little_beyond_blocks_can_be():
    """The straight lines of the twin cost a thousand nats at half a range."""
    column = np.random.default_rng(0).uniform(size=200)
    (found,) = bins_of(column[:, None], column[:, None], np.zeros(1))
    beyond = np.array([-0.6, 1.6])
    assert np.all(found.log_density(beyond) > -15)
    assert np.all(found._replace(tails=(None, None)).log_density(beyond) < -500)
    inside = np.linspace(0.02, 0.98, 50)
    assert np.allclose(found.log_density(inside), log_density(inside, *found[:2]), atol=0.01)


def test_a_fine_grid_of_a_smooth_column_has_no_atoms():
    """Each value of the twin has a bin of its own, and its chance with it."""
    truth = stats.norm(0, 10)
    exact = np.floor(truth.rvs(5_000, random_state=0) / 0.4) * 0.4
    noisy = exact + 0.4 * np.random.default_rng(1).random(5_000)
    (found,) = bins_of(exact[:, None], noisy[:, None], np.array([0.4]))
    new = truth.rvs(NEW, random_state=2)
    gain = found.log_density(new) - log_density(new, *smooth_bins(exact, noisy, 0.4))
    assert np.mean(gain) > 3 * np.std(gain) / np.sqrt(NEW)
