"""Columns that are linear functions of others: found, named, refused or left out."""

import json

import numpy as np
import pytest

from tiltflow.data import load, split, without_dependent
from tiltflow.data.dependent import Dropped, dependences, of_few_rows, refuse_dependent
from tiltflow.errors import InputError

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 300)) * [[1.0], [1e-5], [1e4]]


@pytest.mark.parametrize(
    ("last", "of", "slopes", "intercept"),
    [
        (2 * A - 3e4 * B + 7, (0, 1), (2.0, -3e4), 7.0),
        (1e-6 * C, (2,), (1e-6,), 0.0),
        (A + 1e4, (0,), (1.0,), 1e4),
        (A + 1e5 * B + 1e-4 * C - 1, (0, 1, 2), (1.0, 1e5, 1e-4), -1.0),
    ],
)
def test_a_function_of_others_is_found_with_its_terms(last, of, slopes, intercept):
    values = np.stack([A, B, C, last], axis=1).astype(np.float32)
    (found,) = dependences(values)
    assert (found.column, found.of) == (3, of)
    np.testing.assert_allclose(found.slopes, slopes, rtol=2e-3)
    assert found.intercept == pytest.approx(intercept, abs=2e-3 * abs(last).max())
    whole = Dropped(4, None, (found,)).whole(values[:, :3])
    np.testing.assert_allclose(whole, values, atol=1e-3 * last.std())
    values[7, 3] += 0.1 * last.std()  # power: one row off the plane
    assert dependences(values) == []


def test_what_is_nearly_a_function_is_none():
    for noise in (1e-3, 1e-4):
        last = A + B / B.std() + noise * RNG.normal(size=300)
        assert dependences(np.stack([A, B, C, last], axis=1).astype(np.float32)) == []
    assert dependences(np.stack([A, B, C], axis=1).astype(np.float32)) == []


def test_two_of_five_columns_are_functions():
    values = np.stack([A, 2 * A, B, A + 1e5 * B, C], axis=1).astype(np.float32)
    assert [(one.column, one.of) for one in dependences(values)] == [(1, (0,)), (3, (0, 2))]


def test_planes_of_cells_alone_are_left():
    counts = RNG.integers(0, 9, (300, 2)) / 4
    values = np.column_stack([counts, counts.sum(axis=1), A]).astype(np.float32)
    cells = np.array([True, True, True, False])
    assert dependences(values, cells) == []
    assert len(dependences(values)) == 1
    assert load(values).dropped is None
    assert without_dependent(load(values)).dropped is None


def test_few_rows_say_nothing_of_dependence_and_are_told():
    assert dependences(RNG.normal(size=(20, 20)).astype(np.float32)) == []
    assert of_few_rows(20, 19) == ""
    assert of_few_rows(20, 20).startswith("20 rows to learn from have 20 numbers each")


def test_a_data_set_knows_what_was_left_out(tmp_path):
    rows = np.stack([A, A + 1e5 * B, B], axis=1)
    text = "\n".join(["a,sum,b", *(",".join(map(str, row)) for row in rows.tolist())])
    (tmp_path / "x.csv").write_text(text + "\n")
    data = load(tmp_path / "x.csv")
    with pytest.raises(InputError) as caught:
        refuse_dependent(data, split(data).train)
    assert "x.csv: column 'b' is a linear function of column 'a', column 'sum'" in str(caught.value)
    assert "in all 210 rows that are learned from: there is no density" in str(caught.value)
    assert "--drop-dependent" in str(caught.value)
    less = without_dependent(data)
    assert (less.columns, less.shape) == (("a", "sum"), (2,))
    refuse_dependent(less, split(less).train)
    told = json.loads(json.dumps(less.dropped.to_dict()))
    again = Dropped.from_dict(told, 2)
    assert again == less.dropped
    np.testing.assert_allclose(again.whole(less.values), data.values, atol=1e-8, rtol=1e-3)
    for wrong in ({"width": 2}, {"columns": ["a"]}, {"dependences": [[2, [2], [1.0], 0.0]]}):
        with pytest.raises(ValueError, match="left out"):
            Dropped.from_dict(told | wrong, 2)
