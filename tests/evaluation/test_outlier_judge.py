"""AUROC, average precision and FPR95 by brute force; intervals that cover; pairs that help."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tiltflow.errors import InputError
from tiltflow.evaluation.outliers import judge
from tiltflow.evaluation.outliers.judge import judged, measures


def cases():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        for _ in range(20):
            labels = rng.random(60) < 0.3
            score = rng.normal(size=60) + labels
            yield (score.round(0) if ties else score), labels


def test_measures_are_those_of_their_definitions():
    """Against scikit-learn's, with ties and without; FPR95 along its curve."""
    for score, labels in cases():
        found = measures(score, labels)
        false, true, _ = roc_curve(labels, score, drop_intermediate=False)
        assert found["auroc"] == pytest.approx(roc_auc_score(labels, score))
        assert found["average_precision"] == pytest.approx(average_precision_score(labels, score))
        assert found["fpr95"] == pytest.approx(false[np.argmax(true >= 0.95)])


def test_a_score_and_its_opposite():
    labels = np.arange(40) >= 30
    best, worst = measures(np.arange(40.0), labels), measures(-np.arange(40.0), labels)
    assert best == {"auroc": 1.0, "average_precision": 1.0, "fpr95": 0.0}
    assert (worst["auroc"], worst["fpr95"]) == (0.0, 1.0)
    constant = measures(np.zeros(40), labels)
    assert constant == {"auroc": 0.5, "average_precision": 0.25, "fpr95": 1.0}


def drawn(seed, shift=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(200) < 40
    return rng.normal(size=200) + shift * labels, labels


def covered(draw, seeds=40):
    """In how many of so many sets the interval of the AUROC has the truth in it."""
    truth = norm.cdf(1 / np.sqrt(2))
    return sum(
        (one := judged({"s": score}, labels, draws=60, seed=seed)["s"].auroc).low
        <= truth
        <= one.high
        for seed in range(seeds)
        for score, labels in [draw(seed)]
    )


def test_intervals_cover_the_truth(monkeypatch):
    """38 of 40, give or take 4 errors of 1.4; the twin has intervals of no width."""
    assert covered(drawn) >= 38 - 6
    monkeypatch.setattr(judge, "INSIDE", (50.0, 50.0))
    assert covered(drawn) < 32


def test_differences_are_paired():
    """Nearly equal scores differ by less than either is known; unpaired the interval is as wide."""
    score, labels = drawn(0)
    noise = 0.05 * np.random.default_rng(1).normal(size=200)
    found = judged({"first": score, "second": score + noise}, labels)
    alone = found["second"].auroc
    behind = found["second"].behind["auroc"]
    assert found["first"].behind is None
    assert behind.high - behind.low < 0.2 * (alone.high - alone.low)
    assert behind.value == pytest.approx(found["first"].auroc.value - alone.value)
    other, _ = drawn(2)
    apart = judged({"first": score, "second": other}, labels)["second"].behind["auroc"]
    assert apart.high - apart.low > alone.high - alone.low


def test_a_better_score_is_ahead_in_every_measure():
    score, labels = drawn(3, shift=3.0)
    worse, _ = drawn(4, shift=0.5)
    behind = judged({"good": score, "bad": worse}, labels)["bad"].behind
    assert all(one.low > 0 for one in behind.values())


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (np.zeros(3), [0, 0, 0], "0 of 3 rows are labelled"),
        (np.zeros(3), [1, 1, 1], "3 of 3 rows are labelled"),
        (np.zeros(3), [0, 1, 2], "expected one number a row"),
        (np.zeros(2), [0, 1, 1], "shape"),
        (np.array([0, np.nan, 1]), [0, 1, 1], "not finite"),
    ],
)
def test_mistakes_are_told(scores, labels, words):
    with pytest.raises(InputError, match=words):
        judged({"s": scores}, labels)
