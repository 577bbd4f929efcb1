"""Precision, recall, density, coverage on sets whose answers are known."""

import numpy as np
import pytest
from correlated import autoregressive
from sklearn.neighbors import NearestNeighbors

from tiltflow.errors import InputError
from tiltflow.evaluation.quality import neighbours as module
from tiltflow.evaluation.quality.neighbours import neighbours, radii, squared_distances

NAMES = ("precision", "recall", "density", "coverage")


def cloud(seed, rows, centre=0.0, dim=4):
    return centre + np.random.default_rng(seed).normal(size=(rows, dim))


def four(samples, reference, k=5):
    found = neighbours(samples, reference, k)
    return {name: getattr(found, name).value for name in NAMES}


def test_balls_reach_to_the_kth_neighbour():
    x = cloud(0, 50)
    reached, _ = NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)
    np.testing.assert_allclose(radii(x, 5), reached[:, 5] ** 2, rtol=1e-9)
    np.testing.assert_allclose(
        squared_distances(x, x[:7]), ((x[:, None] - x[:7]) ** 2).sum(-1), atol=1e-12
    )


def test_numbers_by_hand_on_a_line():
    """Balls with k = 1: data [-1, 1], [0, 2], [10 - 1, 11], [10, 12]; two samples of four in."""
    data = np.array([[0.0], [1.0], [10.0], [11.0]])
    samples = np.array([[0.5], [9.5], [20.0], [30.0]])
    found = four(samples, data, k=1)
    assert found["precision"] == 0.5
    assert found["density"] == (2 + 1) / 4
    assert found["coverage"] == 0.75  # 0.5 is in the first two balls, 9.5 in that of 10
    assert found["recall"] == 1.0  # the balls of the samples are wide


def test_a_mode_that_is_missing_costs_recall_and_coverage_alone():
    data = np.concatenate([cloud(0, 200), cloud(1, 200, centre=50)])
    found = four(cloud(2, 400), data)
    assert found["precision"] > 0.85
    assert found["density"] > 0.85
    assert 0.4 < found["recall"] <= 0.5
    assert 0.4 < found["coverage"] <= 0.5
    both = np.concatenate([cloud(3, 200), cloud(4, 200, centre=50)])
    assert min(four(both, data).values()) > 0.8


def test_samples_far_from_the_data_have_nothing():
    assert max(four(cloud(0, 100, centre=100), cloud(1, 100)).values()) == 0.0


def test_one_outlier_among_the_samples_blows_up_recall_but_not_coverage():
    """Samples miss the data on one side, the outlier on the other: its ball holds all data."""
    samples = np.concatenate([cloud(1, 300, centre=20), np.full((1, 4), -20.0)])
    found = four(samples, cloud(0, 300))
    assert found == {"precision": 0.0, "recall": 1.0, "density": 0.0, "coverage": 0.0}
    assert four(samples[:-1], cloud(0, 300))["recall"] == 0.0


def test_equal_distributions_reach_what_k_allows_and_others_do_not():
    k = 3
    found = neighbours(cloud(0, 4_000), cloud(1, 4_000), k).coverage
    assert abs(found.value - (1 - 2**-k)) < 4 * found.standard_error
    narrow = neighbours(0.8 * cloud(0, 4_000), cloud(1, 4_000), k).coverage
    assert abs(narrow.value - (1 - 2**-k)) > 4 * narrow.standard_error


def test_parts_change_nothing(monkeypatch):
    samples, data = cloud(0, 30), cloud(1, 25)
    whole = four(samples, data)
    monkeypatch.setattr(module, "PART", 7)
    assert four(samples, data) == whole


@pytest.mark.parametrize("k", [0, 20])
def test_a_neighbour_that_is_not_there_is_refused(k):
    with pytest.raises(InputError, match="expected 1 to 19"):
        neighbours(cloud(0, 20), cloud(1, 30), k)


def of_chains(seed, data, *, with_groups):
    """Samples of 25 chains, a little wider than the data."""
    x, chain = autoregressive(seed, 0.9, chains=25, dim=4)
    return neighbours(1.5 * x, data, groups=chain if with_groups else None)


def test_chains_tell_the_error_of_what_is_counted_over_samples():
    data = cloud(1, 500)
    found = [of_chains(i, data, with_groups=True) for i in range(40)]
    without = [of_chains(i, data, with_groups=False) for i in range(10)]
    for name in ("precision", "density"):
        spread = np.std([getattr(f, name).value for f in found], ddof=1)
        told, too_small = (
            np.mean([getattr(f, name).standard_error for f in each]) for each in (found, without)
        )
        assert 0.7 < told / spread < 1.4
        assert too_small / spread < 0.7  # the power twin


def test_nothing_and_everything_have_an_error_too():
    found = neighbours(cloud(0, 100, centre=100), cloud(1, 100))
    assert found.precision.standard_error == pytest.approx(0.5 * 2**0.5 / 100, rel=0.01)
    assert found.recall.value == 0.0
    assert found.recall.standard_error > 0
