"""Accuracy, nats and calibration, of probabilities that are right and of such that are not."""

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.evaluation.classified import calibration_error, classified

ROWS, CLASSES = 20_000, 4


@pytest.fixture(scope="module")
def known():
    """log p(k given x) of many rows, and labels that are drawn from it."""
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=(ROWS, CLASSES))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    below = np.cumsum(np.exp(log_probs), axis=1)
    return log_probs, np.sum(below < rng.random((ROWS, 1)), axis=1)


def check_right(log_probs, labels, temperature=1.0):
    """What probabilities that are right say of themselves is what labels say of them."""
    found = classified(temperature * log_probs, labels)
    probs = np.exp(log_probs)
    accuracy, entropy = probs.max(axis=1), -np.sum(probs * log_probs, axis=1)
    assert abs(found.accuracy.mean - accuracy.mean()) < 4.5 * 0.5 / np.sqrt(ROWS)
    assert abs(found.nll.mean - entropy.mean()) < 4.5 * found.nll.se_test
    assert found.calibration_error < found.by_chance < 0.03


def test_probabilities_that_are_right_are_calibrated(known):
    check_right(*known)
    with pytest.raises(AssertionError):  # power: too sure of itself
        check_right(*known, temperature=1.5)
    sure = classified(1.5 * known[0], known[1])
    assert sure.accuracy.mean == classified(*known).accuracy.mean  # which accuracy does not see
    assert sure.calibration_error > 3 * sure.by_chance


def test_the_error_is_the_mean_distance_in_bins():
    confidence = np.array([0.95, 0.95, 0.51, 0.51])
    right = np.array([True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.45 + 2 * 0.49) / 4)


def test_labels_that_are_no_classes_are_refused(known):
    with pytest.raises(InputError, match="expected one of 0 to 3 a row"):
        classified(known[0], known[1] + 1)
