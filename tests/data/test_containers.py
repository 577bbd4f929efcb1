"""Containers that mean more than their numbers: read with their meaning, or refused in a line."""

import numpy as np
import pytest

import tiltflow
from tiltflow.data.containers import places, plain
from tiltflow.errors import InputError

X = np.random.default_rng(0).normal(100.0, 15.0, size=(60, 3))


def masked(*places):
    x = np.ma.masked_array(X.copy(), mask=np.zeros(X.shape, bool))
    for place in places:
        x[place] = np.ma.masked
        x.data[place] = -9999.0  # what instruments write for "missing"
    return x


def test_what_a_mask_hides_is_no_data():
    with pytest.raises(InputError, match="in 2 of 60 rows, first at row 5, column 1; expected"):
        tiltflow.load_data(masked((7, 0), (5, 1)))
    np.testing.assert_allclose(tiltflow.load_data(masked()).values, X, rtol=1e-6)


def test_without_the_look_at_the_mask_fillers_would_be_learned():
    """Power: what `numpy.asarray` makes of it."""
    assert np.asarray(masked((5, 1))).min() == -9999.0


def test_images_name_the_entry():
    x = np.ma.masked_array(np.zeros((30, 4, 4)), mask=False)
    x[3, 1, 2] = np.ma.masked
    with pytest.raises(InputError, match=r"row 3, entry \(1, 2\)"):
        plain(x, "the array")


def frame(**columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": X[:, 0], "b": X[:, 1]} | columns)


def test_frames_of_numbers_of_any_kind_are_read_with_their_names():
    found = tiltflow.load_data(frame(whole=np.arange(60) % 7, yes=X[:, 2] > 100))
    assert found.columns == ("a", "b", "whole", "yes")
    np.testing.assert_allclose(found.values[:, 2], np.arange(60) % 7)
    nullable = frame().convert_dtypes()
    np.testing.assert_allclose(tiltflow.load_data(nullable).values, X[:, :2], rtol=1e-6)


def test_what_a_frame_lacks_is_refused_like_any_nan():
    x = frame().convert_dtypes()
    x.loc[4, "b"] = None
    with pytest.raises(InputError, match=r"row 4, column 'b'"):
        tiltflow.load_data(x)


def test_a_column_without_numbers_is_named():
    pandas = pytest.importorskip("pandas")
    other = pandas.date_range("2020-01-01", periods=60)
    with pytest.raises(InputError, match=r"column 'd' holds .*; expected numbers") as raised:
        tiltflow.load_data(frame(d=other))
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused():
    x = frame()
    x.columns = ["a", "a"]
    with pytest.raises(InputError, match="more than one column 'a'"):
        tiltflow.load_data(x)


def test_a_sparse_matrix_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(InputError, match=r"sparse.*\.toarray\(\)"):
        tiltflow.load_data(sparse.csr_matrix(X))


def test_columns_are_found_by_name():
    assert places(("c", "a", "b"), ("a", "b"), "x") == [1, 2]
    assert places(("", "", "c"), ("", "", "c"), "x") == [0, 1, 2]
    for names, known, words in (
        (("a", "c"), ("a", "b"), "x has no column 'b'"),
        (("", "c", ""), ("", "c"), "not the only one of its name"),
    ):
        with pytest.raises(InputError, match=words):
            places(names, known, "x")


def test_a_data_set_is_put_into_the_order_that_a_model_knows():
    rounded = np.stack([X[:, 0], X[:, 1].round(), X[:, 2]], axis=1)
    data = tiltflow.load_data(frame(c=X[:, 2]).assign(b=rounded[:, 1]), to_score=True)
    found = data.by_name(("b", "a"))
    assert found.columns == ("b", "a")
    np.testing.assert_array_equal(found.values, data.values[:, [1, 0]])
    assert found.grid.step.tolist() == data.grid.step[[1, 0]].tolist() == [1, 0]
