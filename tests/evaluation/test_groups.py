"""Errors of means over draws of chains: the truth is known, and without the chains it is missed."""

import numpy as np
import pytest
from correlated import CHAINS, DRAWS, autoregressive, standing, true_error, two_classes

from tiltflow.errors import InputError
from tiltflow.evaluation.quality.classes import class_shares
from tiltflow.evaluation.quality.groups import (
    mean_error,
    numbered,
    part,
    resampled,
)
from tiltflow.mcmc.draws import over_chains

REPEATS = 60


def check_variance(told, truth):
    """Errors, squared, are the true variance in the mean."""
    assert abs(standing(np.square(told) - truth**2)) < 4


def test_groups_are_numbered_as_they_come_up():
    np.testing.assert_array_equal(numbered([7, 3, 7, 9, -1, 3], 6), [0, 1, 0, 2, 3, 1])
    np.testing.assert_array_equal(numbered(None, 3), [0, 1, 2])


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([0, 1, 2, 3], r"shape \(4,\) for 5 rows"),
        ([0.0, 1, 2, 3, 4], "float64"),
        ([0, 1, 2, 0, 1], "3 groups of rows; expected at least 4"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, words):
    with pytest.raises(InputError, match=words):
        numbered(groups, 5)


@pytest.mark.parametrize(("rows", "of_each"), [(640, [10]), (65, [1, 2]), (10, [0, 1])])
def test_rows_come_from_all_chains_and_times(rows, of_each):
    """65 of 64 times 10: one in ten of all in one order would be of two chains."""
    positions = np.arange(64 * 10).reshape(64, 10)
    found, chain = over_chains(positions, rows)
    np.testing.assert_array_equal(chain, found // 10)
    assert set(np.bincount(chain, minlength=64)) == set(of_each)
    assert len(set(found)) == rows
    assert set(found % 10) == set(range(10))
    assert np.ptp(chain) > 50


def test_parts_and_resamples_are_of_whole_groups():
    of_rows = numbered(np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6]), 21)
    parts = [np.flatnonzero(part(of_rows, i, 4)) for i in range(4)]
    assert [sorted(set(of_rows[rows])) for rows in parts] == [[0, 4], [1, 5], [2], [3]]
    drawn = np.bincount(of_rows[resampled(of_rows, np.random.default_rng(0))], minlength=6)
    times, rest = np.divmod(drawn, [1, 2, 3, 4, 5, 6])
    assert not rest.any()
    assert times.sum() == 6


def test_rows_without_groups_have_the_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=(50, 3))
    expected = values.std(axis=0, ddof=1) / np.sqrt(50)
    np.testing.assert_allclose(mean_error(values, numbered(None, 50)), expected, rtol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_error_of_a_mean_over_chains(correlation):
    drawn = [autoregressive(i, correlation, dim=1) for i in range(REPEATS)]
    truth = true_error(1.0, correlation)
    check_variance([mean_error(x, numbered(chain, len(x))) for x, chain in drawn], truth)
    without = [mean_error(x, numbered(None, len(x))) for x, _ in drawn]
    if correlation:
        with pytest.raises(AssertionError):
            check_variance(without, truth)


def test_the_error_of_a_class_that_chains_stay_in():
    """A tenth of the draws, times of ten draws: without chains the error is a third of it."""
    share, correlation = 0.1, 9 / 11
    told, without = [], []
    for seed in range(REPEATS):
        classes, chain = two_classes(seed, share, correlation)
        for errors, groups in ((told, chain), (without, None)):
            found = class_shares(classes, classes, ("many", "few"), groups=groups)
            errors.append(found.standard_errors[1])
    truth = true_error(share * (1 - share), correlation)
    check_variance(told, truth)
    with pytest.raises(AssertionError):
        check_variance(without, truth)
    assert truth > 2.5 * np.mean(without)


def errors_of(classes, chain):
    """The errors of three classes, in the last of which no row is."""
    return class_shares(classes, classes, ("a", "b", "none"), groups=chain).standard_errors


def test_a_class_without_rows_has_the_error_of_half_an_independent_row():
    rng = np.random.default_rng(0)
    rows = CHAINS * DRAWS

    def half(of):
        return np.sqrt(0.5 / of * (1 - 0.5 / of) / of)

    independent = rng.integers(0, 2, rows)
    assert errors_of(independent, None)[2] == pytest.approx(half(rows))
    stuck, chain = np.repeat(rng.integers(0, 2, CHAINS), DRAWS), np.repeat(np.arange(CHAINS), DRAWS)
    assert errors_of(stuck, chain)[2] == pytest.approx(half(CHAINS), rel=0.05)
    between = errors_of(*two_classes(0, 0.5, 9 / 11))[2]
    assert 3 * half(rows) < between < 0.5 * half(CHAINS)
    assert errors_of(np.zeros(rows, int), chain)[2] == pytest.approx(half(CHAINS))  # all we know
