"""Splits are disjoint, complete, repeatable, and the published one for the digits."""

import numpy as np
import pytest

from tiltflow.data import Dataset, split
from tiltflow.errors import InputError


def rows(number, name="x.npy", test_rows=0):
    return Dataset(name, np.zeros((number, 1), np.float32), integers=True, test_rows=test_rows)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_digits_have_the_published_split_whatever_the_seed(seed):
    order = np.random.default_rng(0).permutation(1797)
    splits = split(rows(1797, "digits"), seed=seed)
    assert np.array_equal(splits.train, order[:1300])
    assert np.array_equal(splits.val, order[1300:1500])
    assert np.array_equal(splits.test, order[1500:])


@pytest.mark.parametrize(
    ("number", "sizes"), [(20, (10, 5, 5)), (50, (35, 5, 10)), (1000, (700, 100, 200))]
)
def test_sizes(number, sizes):
    splits = split(rows(number))
    assert (len(splits.train), len(splits.val), len(splits.test)) == sizes


@pytest.mark.parametrize("name", ["digits", "x.csv"])
def test_every_row_is_in_one_part(name):
    splits = split(rows(1797, name), seed=3)
    together = np.concatenate([splits.train, splits.val, splits.test])
    assert np.array_equal(np.sort(together), np.arange(1797))


def test_the_seed_decides():
    first, again, other = (split(rows(100), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)


@pytest.mark.parametrize(("number", "seed", "words"), [(19, 0, "19 rows"), (20, -1, "seed is -1")])
def test_what_cannot_be_split(number, seed, words):
    with pytest.raises(InputError, match=words):
        split(rows(number), seed=seed)


def test_a_set_keeps_its_own_test_rows():
    splits = split(rows(1000, test_rows=300), seed=1)
    assert np.array_equal(np.sort(splits.test), np.arange(700, 1000))
    assert np.mean(splits.test[:100] < 800) == pytest.approx(1 / 3, abs=0.2)  # not in their order
    assert (len(splits.train), len(splits.val)) == (630, 70)
    assert np.array_equal(np.sort(np.concatenate([splits.train, splits.val])), np.arange(700))
    with pytest.raises(InputError, match="19 rows"):
        split(rows(50, test_rows=31))


def test_rows_that_are_taken_have_no_test_rows_of_their_own():
    part = rows(100, test_rows=50).take(np.arange(60))
    assert part.test_rows == 0
    assert len(split(part).test) == 12
