"""Labels of draws held against the data's: a classifier's own bias must not move either."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.data import Dataset
from tiltflow.errors import InputError
from tiltflow.evaluation import labels
from tiltflow.evaluation.labels import by_data
from tiltflow.evaluation.travelling import travelling

CLASSES, ROWS = 5, 2_000
DRAWN = (8, 250, 2)


def unrelated(seed, rows=ROWS):
    """Labels that values say nothing about: of three that differ the first in order is told."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 2)).astype(np.float32)
    return Dataset("unrelated", values, False, labels=rng.integers(0, CLASSES, rows))


@pytest.fixture(scope="module")
def real():
    """Real rows in the draws' place."""
    x = np.random.default_rng(2).normal(size=DRAWN)
    return by_data(x, unrelated(0), unrelated(1, 500))


def check_shares(labelled, in_data, rows=ROWS):
    """Draws are classes as often as the data are."""
    share = np.bincount(labelled.labels.ravel(), minlength=CLASSES) / labelled.labels.size
    error = np.sqrt(share * (1 - share) * (1 / labelled.labels.size + 1 / rows))
    assert np.all(np.abs(share - in_data) < 4 * error)


def test_a_biased_classifier_is_held_against_itself(real):
    check_shares(real, real.in_data)
    of_labels = np.bincount(unrelated(0).labels, minlength=CLASSES) / ROWS
    with pytest.raises(AssertionError):  # power: the labels as they are
        check_shares(real, of_labels)
    assert real.accuracy == pytest.approx(1 / CLASSES, abs=4 * 0.4 / np.sqrt(500))


def test_held_out_rows_tell_where_there_are_enough(real, monkeypatch):
    monkeypatch.setattr(labels, "ENOUGH", 500)
    x = np.random.default_rng(2).normal(size=DRAWN)
    found = by_data(x, unrelated(0), unrelated(1, 500))
    assert not np.array_equal(found.in_data, real.in_data)
    check_shares(found, found.in_data, rows=500)
    with pytest.raises(AssertionError):  # power: the labels as they are
        check_shares(found, np.bincount(unrelated(1, 500).labels, minlength=CLASSES) / 500, 500)


def test_real_rows_pass_and_draws_without_a_class_do_not(real):
    block, checks = travelling(real, 1)
    assert checks[-1].name == "mode shares against the data"
    assert checks[-1].ok
    assert block["from_data"] < 0.05
    missing = replace(real, labels=np.maximum(real.labels, 1))
    assert not travelling(missing, 1)[1][-1].ok
    of_labels = np.full(CLASSES, 1 / CLASSES)  # as it was: a bias of the classifier is a caution
    assert not travelling(replace(real, in_data=of_labels), 1)[1][-1].ok


def test_data_without_labels_are_refused():
    bare = replace(unrelated(0), labels=None)
    with pytest.raises(InputError, match="no labels"):
        by_data(np.zeros((4, 4, 2)), bare, bare)
