"""Rows that carry a column are named, and those of ordinary columns are not."""

import numpy as np
import pytest

from tiltflow.data import limits
from tiltflow.data.far_rows import far_rows, of_far_rows
from tiltflow.data.inspect import inspect
from tiltflow.data.source_contents import Found


def normal(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 3))


def spike():
    """Three rows of 3,000 at a million, as a column of the bug reports has them."""
    x = normal(3_000)
    x[[10, 700, 2_000], 1] = 1e6
    return x


def test_a_row_that_carries_a_column_is_found(monkeypatch):
    x = spike()
    x[700, 1] = -3e6
    (far,) = far_rows(x)
    away = (x[:, 1] - x[:, 1].mean()) ** 2
    assert (far.column, far.row, far.value) == (1, 700, -3e6)
    assert far.share == pytest.approx(away[700] / away.sum(), rel=1e-9)
    monkeypatch.setattr(limits, "BLOCK", 100)  # values that are looked at together
    assert far_rows(x)[0] == pytest.approx(far)
    x[3, 0] = np.nan
    assert [one.column for one in far_rows(x)] == [1]


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int64", "bool", "float16", "longdouble", ">i2"]
)
def test_it_is_the_same_row_whatever_the_numbers_are_stored_as(dtype):
    x = np.zeros((300, 2), dtype)
    x[::2, 0], x[7, 1] = 1, 1
    (far,) = far_rows(x)
    assert (far.column, far.row, far.value, far.positive) == (1, 7, 1.0, False)
    told = inspect(Found("x", "x.npy", x))
    assert not told.refusal


@pytest.mark.parametrize("rows", [20, 100, 1_000, 20_000])
def test_normal_columns_have_none(rows):
    """At most one in a hundred sets of each size; the next test is the power twin."""
    found = [far_rows(normal(rows, seed)) for seed in range(200 if rows < 5_000 else 20)]
    assert sum(map(bool, found)) <= len(found) * 0.01


def test_tails_without_a_variance_have_some_and_those_with_one_have_not():
    rng = np.random.default_rng(0)
    cauchy = rng.standard_cauchy((5_000, 10))
    assert len(far_rows(cauchy)) >= 8
    assert len(far_rows(rng.standard_t(6, (5_000, 10)))) == 0


def test_the_sentence_names_column_row_value_and_share():
    words = of_far_rows(far_rows(spike()), ("a", "b", "c"))
    assert words.startswith("row 10 carries column 'b' (1e+06 is 33% of its variance): means")
    assert "\n" not in words
    assert of_far_rows([], None) == ""
    many = far_rows(np.where(np.arange(100)[:, None] == 7, 1e9, normal(100)[:, [0] * 6]))
    assert "row 7 carries column 2 (" in of_far_rows(many, None)
    assert "and 3 columns more" in of_far_rows(many, None)


def test_inspection_tells_it():
    told = inspect(Found("x", "x.csv", spike(), columns=("a", "b", "c")))
    assert told.facts["far_rows"][0]["row"] == 10
    assert any(words.startswith("Row 10 carries column 'b'") for words in told.advice)
    assert inspect(Found("x", "x.csv", normal(500))).facts["far_rows"] == []
