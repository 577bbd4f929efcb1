"""Shares that swing are told; shares that scatter are not."""

import json

import numpy as np

from tiltflow.learning.class_swings import Swings


def labels(shares, seed, number=512):
    return np.random.default_rng(seed).choice(len(shares), number, p=shares)


def test_chance_is_no_swing():
    watch = Swings(10)
    told = [watch.look(labels(np.full(10, 0.1), seed), float(seed)) for seed in range(50)]
    assert not any(told)


def test_a_swing_while_the_gain_rises_is_told():
    even, heavy = np.full(4, 0.25), np.array([0.6, 0.2, 0.1, 0.1])
    watch = Swings(4)
    assert watch.look(labels(even, 0), 1.0) is None
    told = watch.look(labels(heavy, 1), 2.0)
    assert told is not None
    assert "class 0 went from" in told
    assert watch.look(labels(even, 2), 1.5) is None  # the gain fell: that is another matter


def test_what_was_seen_is_kept_as_plain_values():
    """Gone on with, the next look tells what it would have told; a new one does not."""
    even, heavy = np.full(4, 0.25), np.array([0.6, 0.2, 0.1, 0.1])
    watch = Swings(4)
    watch.look(labels(even, 0), 1.0)
    again = Swings(4, **json.loads(json.dumps(watch.to_dict())))
    assert again.look(labels(heavy, 1), 2.0) == watch.look(labels(heavy, 1), 2.0) is not None
    assert Swings(4).look(labels(heavy, 1), 2.0) is None
