"""Simple models beside a fit: their scores, and what is said where one of them is ahead."""

import numpy as np
import pytest
from scipy import stats

from tiltflow.evaluation.simple_models import ahead_of, block_of, not_behind, simple_models
from tiltflow.learning import Rows
from tiltflow.normalizer import Interval
from tiltflow.normalizer.gain import CERTAIN


def correlated(rows, seed):
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal([3.0, -1.0, 0.0], COVARIANCE, rows).astype(np.float32)


COVARIANCE = np.array([[4.0, 3.8, 0.0], [3.8, 4.0, 0.0], [0.0, 0.0, 0.25]])


def rows_of(make, integers=False):
    sizes = {"train": 1_000, "val": 300, "test": 500}
    return {n: Rows(make(k, i), integers=integers) for i, (n, k) in enumerate(sizes.items())}


@pytest.fixture(scope="module")
def rows():
    return rows_of(correlated)


@pytest.fixture(scope="module")
def simple(rows):
    return simple_models(rows, seed=0)


def truth(rows):
    return stats.multivariate_normal([3.0, -1.0, 0.0], COVARIANCE).logpdf(rows["test"].array())


def test_one_gaussian_is_the_truth_here_and_columns_alone_are_far_behind(rows, simple):
    scores = {model.name: model.log_prob.mean() for model in simple}
    assert list(scores) == ["gaussian", "mixture", "columns"]
    assert abs(scores["gaussian"] - truth(rows).mean()) < 0.03
    assert scores["mixture"] >= scores["gaussian"] - 0.05
    assert scores["columns"] < scores["gaussian"] - 1


def test_of_large_images_one_gaussian_stands_behind_the_histograms(monkeypatch):
    """Exactly, of normal columns that were bent; the twin, columns on their own, is far behind."""
    rows = rows_of(lambda k, i: np.exp(correlated(k, i) / 4))
    monkeypatch.setattr("tiltflow.evaluation.simple_models.LARGEST", 2)
    scores = {model.name: model.log_prob.mean() for model in simple_models(rows, seed=0)}
    assert list(scores) == ["copula", "columns"]
    x = rows["test"].array().astype(float)
    slope = np.log(4 / x).sum(axis=1)
    known = stats.multivariate_normal([3.0, -1.0, 0.0], COVARIANCE).logpdf(4 * np.log(x)) + slope
    assert abs(scores["copula"] - known.mean()) < 0.1
    assert scores["columns"] < scores["copula"] - 1


def test_the_part_that_costs_most_is_named(rows, simple):
    """Of half a nat behind the backbone has lost four fifths, or one."""

    def behind_by(nats):
        return ahead_of(truth(rows) - nats, CERTAIN, simple)

    for of_backbone, part in ((0.4, "backbone"), (0.1, "tilt"), (-0.2, "tilt")):
        check = not_behind(behind_by(0.5), is_bound=False, alone=behind_by(of_backbone))
        assert not check.ok
        assert check.part == part


def test_a_tilt_that_costs_for_certain_is_named_before_the_backbone_that_it_had_to_mend(
    rows, simple
):
    """Of half a nat behind, one tenth and two are the tilt's: for certain, or by chance."""

    def part(of_backbone, low, high):
        alone = ahead_of(truth(rows) - of_backbone, CERTAIN, simple)
        behind = ahead_of(truth(rows) - 0.5, CERTAIN, simple)
        gained = Interval(of_backbone - 0.5, low, high, 0.05, 0.0, 0.05)
        return not_behind(behind, is_bound=False, alone=alone, gained=gained).part

    assert part(0.4, -0.15, -0.05) == "tilt"
    assert part(0.4, -0.25, 0.05) == "backbone"
    assert part(0.49, -0.04, -0.025) == "backbone"  # its cost is next to nothing


def test_a_model_behind_one_gaussian_fails(rows, simple):
    """By 0.5 nats a row, give or take; the truth itself is not behind."""
    behind = ahead_of(truth(rows) - 0.5, CERTAIN, simple)
    check = not_behind(behind, is_bound=False)
    assert not check.ok
    assert check.severity == "failed"
    assert "is ahead of this model by 0." in check.means
    assert not_behind(behind, is_bound=True).severity == "caution"
    assert not_behind(ahead_of(truth(rows), CERTAIN, simple), is_bound=False).ok
    block = block_of(simple, behind)
    assert block["gaussian"]["nll_test"] == -simple[0].log_prob.mean()
    assert block["gaussian"]["ahead_low"] < block["gaussian"]["ahead"] < 0


def test_integers_are_scored_by_the_mass_of_their_bins():
    def dice(rows, seed):
        return np.random.default_rng(seed).integers(1, 7, size=(rows, 2))

    columns = simple_models(rows_of(dice, integers=True), seed=0)[-1]
    assert columns.log_prob.mean() == pytest.approx(-2 * np.log(6), abs=0.02)


def test_of_images_of_many_pixels_there_are_columns_alone():
    def images(rows, seed):
        return np.random.default_rng(seed).integers(0, 4, size=(rows // 10, 33, 33))

    assert [m.name for m in simple_models(rows_of(images, True), seed=0)] == ["columns"]
