"""Kernel distance: a closed form, and no bias however few the rows."""

import numpy as np
import pytest
from correlated import autoregressive, standing

from tiltflow.evaluation.quality.kernel import kernel_distance, squared_mmd

SHIFT = 0.5
TRUTH = (SHIFT**3 + 3 * SHIFT) ** 2 + 3 * SHIFT**4 + 3 * SHIFT**2
"""Of N(0, 1) and N(SHIFT, 1): their third, second and first moments differ by so much."""


def normal(seed, rows, shift=0.0, dim=1):
    return shift + np.random.default_rng(seed).normal(size=(rows, dim))


def with_the_diagonal(x, y):
    """Broken: the kernel's mean over all pairs, each row paired with itself too."""

    def mean(a, b):
        return np.mean((a @ b.T / a.shape[1] + 1) ** 3)

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def test_pairs_are_what_the_definition_says():
    x, y = normal(0, 5, dim=3), normal(1, 4, dim=3)

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    within_x = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    across = np.mean([k(a, b) for a in x for b in y])
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_equal_distributions_are_at_zero_and_counting_a_row_with_itself_is_not():
    pairs = [(normal(2 * i, 20, dim=4), normal(2 * i + 1, 20, dim=4)) for i in range(400)]

    def z(distance):
        values = [distance(x, y) for x, y in pairs]
        return np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values)))

    assert abs(z(squared_mmd)) < 4
    assert z(with_the_diagonal) > 8


def test_the_closed_form_is_inside_the_interval_and_another_is_not():
    found = kernel_distance(normal(0, 20_000, SHIFT), normal(1, 20_000), blocks=40)
    assert abs(found.value - TRUTH) < 4 * found.standard_error
    assert abs(found.value - 1.3 * TRUTH) > 4 * found.standard_error
    low, high = found.interval
    assert low < found.value < high
    assert found.to_dict()["blocks"] == 40


def test_blocks_tell_the_error():
    found = [kernel_distance(normal(2 * i, 200, SHIFT), normal(2 * i + 1, 200)) for i in range(100)]
    spread = np.std([f.value for f in found], ddof=1)
    told = np.sqrt(np.mean([f.standard_error**2 for f in found]))
    assert 0.7 < told / spread < 1.4


def of_chains(seed, *, with_groups):
    """Samples of chains against as many independent rows, no difference in truth."""
    x, chain = autoregressive(2 * seed, 0.9)
    y = normal(2 * seed + 1, len(x), dim=3)
    return kernel_distance(x, y, groups=chain if with_groups else None)


def test_draws_of_chains_like_the_data_are_at_zero_and_without_their_chains_they_are_not():
    found, without = ([of_chains(i, with_groups=g) for i in range(100)] for g in (True, False))
    assert abs(standing([f.value for f in found])) < 4
    assert standing([f.value for f in without]) > 8
    spread = np.std([f.value for f in found], ddof=1)
    told = np.sqrt(np.mean([f.standard_error**2 for f in found]))
    assert 0.7 < told / spread < 1.4
    assert np.sqrt(np.mean([f.standard_error**2 for f in without])) / spread < 0.7


def test_few_chains_make_few_blocks():
    x, chain = autoregressive(0, 0.0, chains=5)
    assert kernel_distance(x, normal(1, 100, dim=3), groups=chain).blocks == 2
