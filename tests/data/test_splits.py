"""Splits are disjoint, complete, repeatable, and the published one for the digits."""

import numpy as np
import pytest

from tiltflow.data import split
from tiltflow.errors import InputError


@pytest.mark.parametrize("seed", [0, 7])
def test_the_digits_have_the_published_split_whatever_the_seed(seed):
    order = np.random.default_rng(0).permutation(1797)
    splits = split(1797, name="digits", seed=seed)
    assert np.array_equal(splits.train, order[:1300])
    assert np.array_equal(splits.val, order[1300:1500])
    assert np.array_equal(splits.test, order[1500:])


@pytest.mark.parametrize(
    ("rows", "sizes"), [(20, (10, 5, 5)), (50, (35, 5, 10)), (1000, (700, 100, 200))]
)
def test_sizes(rows, sizes):
    splits = split(rows, name="x.npy")
    assert (len(splits.train), len(splits.val), len(splits.test)) == sizes


@pytest.mark.parametrize("name", ["digits", "x.csv"])
def test_every_row_is_in_one_part(name):
    splits = split(1797, name=name, seed=3)
    together = np.concatenate([splits.train, splits.val, splits.test])
    assert np.array_equal(np.sort(together), np.arange(1797))


def test_the_seed_decides():
    first, again, other = (split(100, name="x.csv", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)


@pytest.mark.parametrize(("rows", "seed", "words"), [(19, 0, "19 rows"), (20, -1, "seed is -1")])
def test_what_cannot_be_split(rows, seed, words):
    with pytest.raises(InputError, match=words):
        split(rows, name="x.csv", seed=seed)
