"""Frames of each library: the same numbers and names, or a line that names the column."""

import datetime
import decimal
import importlib

import numpy as np
import pytest

import tiltflow
from tiltflow.data.containers import plain
from tiltflow.data.frames import of_frame
from tiltflow.errors import InputError
from tiltflow.evaluation.outliers import outlier_score
from tiltflow.learning import Rows

X = np.random.default_rng(0).normal(size=(60, 2))
WHOLE = np.arange(60) % 7
COLUMNS = {
    "a": X[:, 0].tolist(),
    "b": X[:, 1].astype(np.float32),
    "whole": WHOLE,
    "yes": X[:, 0] > 0,
}
LIBRARIES = ("pandas", "polars", "pyarrow")


def frame(library, **columns):
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


@pytest.mark.parametrize("library", LIBRARIES)
def test_numbers_and_names(library):
    found = tiltflow.load_data(frame(library, **COLUMNS))
    assert found.columns == tuple(COLUMNS)
    expected = np.stack([X[:, 0], X[:, 1], WHOLE, X[:, 0] > 0], axis=1)
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["floats", "integers", "booleans", "decimals"])
def test_what_is_missing_is_nan_and_the_rest_as_it_is(library, kind):
    values = {
        "floats": [0.5, None, 2.5],
        "integers": [1, None, 3],
        "booleans": [True, None, False],
        "decimals": [decimal.Decimal("0.5"), None, decimal.Decimal("2.5")],
    }[kind]
    made = frame(library, a=[1.0, 2.0, 3.0], b=values)
    if library == "pandas":
        arrow = importlib.import_module("pyarrow")
        made["b"] = made["b"].astype("object").convert_dtypes()
        if kind == "decimals":  # which pandas has by pyarrow alone
            pandas = importlib.import_module("pandas")
            made["b"] = made["b"].astype(pandas.ArrowDtype(arrow.decimal128(6, 2)))
    array, names = plain(made, "the array")
    assert names == ("a", "b")
    known = [float(value) if value is not None else np.nan for value in values]
    np.testing.assert_array_equal(array, np.stack([[1.0, 2.0, 3.0], known], axis=1))


ODD = {
    "dates": ([datetime.date(2020, 1, 1)] * 60, "such as seconds since"),
    "times": ([datetime.datetime(2020, 1, 1)] * 60, "such as seconds since"),
    "lists": ([[1.0, 2.0]] * 60, "expected numbers"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ODD)
def test_a_column_without_numbers_is_named_with_what_to_do(library, kind):
    values, words = ODD[kind]
    with pytest.raises(InputError, match=r"column 'd' holds .*; expected numbers") as raised:
        tiltflow.load_data(frame(library, a=X[:, 0], d=values))
    if not (library == "pandas" and kind in ("dates", "lists")):  # objects, to pandas
        assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def categories(library):
    words = ["u", "v", "v"] * 20
    if library == "pandas":
        return importlib.import_module("pandas").Categorical(words)
    if library == "polars":
        polars = importlib.import_module("polars")
        return polars.Series(words, dtype=polars.Categorical)
    return importlib.import_module("pyarrow").array(words).dictionary_encode()


@pytest.mark.parametrize("library", LIBRARIES)
def test_text_and_categories_are_labels(library):
    pytest.importorskip(library)
    for values in (["u", "v", "v"] * 20, categories(library)):
        data = tiltflow.load_data(made := frame(library, a=X[:, 0], d=values))
        assert data.kinds == ["continuous", "category of 2"]
        assert data.grid.levels[1].labels == ("v", "u")
        np.testing.assert_array_equal(data.values[:, 1], [1, 0, 0] * 20)
        with pytest.raises(InputError, match=r"column 'd' holds .*; expected numbers"):
            plain(made, "the array")


def test_objects_in_a_column_are_told_by_their_row():
    values = [1.5, 2.5, "three"]
    with pytest.raises(InputError, match=r"column 'd' holds .*in row 2 'three'; expected numbers"):
        plain(frame("pandas", a=[1.0, 2.0, 3.0], d=values).astype({"d": object}), "the array")
    numbers = frame("pandas", a=[1.0, 2.0], d=[1.5, 2]).astype({"d": object})
    with pytest.raises(InputError, match="column 'd' holds numbers as Python objects; expected a"):
        plain(numbers, "the array")


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_that_are_no_names(library):
    with pytest.raises(InputError, match="no columns"):
        of_frame(frame(library), "the array")
    if library == "pyarrow":
        arrow = importlib.import_module("pyarrow")
        twice = arrow.Table.from_arrays([arrow.array(X[:, 0])] * 2, names=["a", "a"])
        with pytest.raises(InputError, match="more than one column 'a'"):
            of_frame(twice, "the array")


def test_a_lazy_frame_is_computed():
    polars = pytest.importorskip("polars")
    lazy = polars.LazyFrame({"a": X[:, 0]}).with_columns(b=2 * polars.col("a"))
    array, names = plain(lazy, "the array")
    assert names == ("a", "b")
    np.testing.assert_array_equal(array[:, 1], 2 * X[:, 0])


def test_types_that_frames_seldom_have_are_numbers():
    pandas = pytest.importorskip("pandas")
    sparse = pandas.arrays.SparseArray([0.0, 1.5, 0.0])
    made = frame("pandas", a=np.array([1, 2, 3], np.float16), b=np.longdouble([1, 2, 3]), c=sparse)
    array, _ = plain(made, "the array")
    np.testing.assert_array_equal(array, [[1, 1, 0], [2, 2, 1.5], [3, 3, 0]])


def test_a_frame_that_no_library_knows_is_refused_by_its_type():
    class Odd:
        columns, dtypes = ("a",), ("float",)

    with pytest.raises(InputError, match="is a Odd, a frame that cannot be read"):
        plain(Odd(), "the array")


def test_views_of_pandas_with_an_index_of_their_own_keep_their_rows():
    made = frame("pandas", a=X[:, 0], b=X[:, 1]).sort_values("a", ascending=False).iloc[::2]
    array, _ = plain(made, "the array")
    np.testing.assert_array_equal(array, X[np.argsort(-X[:, 0])][::2])


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_to_learn_from_and_to_score_may_be_frames(library):
    rows = frame(library, a=X[:, 0], b=X[:, 1])
    score = outlier_score(rows)
    np.testing.assert_array_equal(score.score(rows), score.score(X))
    np.testing.assert_array_equal(Rows(rows).array(), X.astype(np.float32))
    hidden = np.ma.masked_array(X, mask=np.arange(120).reshape(60, 2) == 7)
    for takes in (outlier_score, Rows):
        with pytest.raises(InputError, match="masked values in 1 of 60 rows, first at row 3"):
            takes(hidden)
