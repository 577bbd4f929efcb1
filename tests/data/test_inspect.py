"""`tiltflow data inspect`: what it sees, what it advises, and what is on the screen."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from tiltflow.cli.main import run
from tiltflow.cli.show_data import show_data
from tiltflow.data import limits
from tiltflow.data.inspect import inspect
from tiltflow.data.repeats import repeated_rows
from tiltflow.data.source_contents import Found

RNG = np.random.default_rng(0)
REALS = RNG.normal(size=(400, 3))


def seen(array, integers=None, **fields):
    return inspect(Found("x", "x.npy", np.asarray(array), **fields), integers=integers)


def advised(inspection, words):
    return any(words in advice for advice in inspection.advice)


def test_continuous_columns():
    told = seen(REALS, columns=("a", "b", "c"))
    assert told.advice == ()
    assert told.refusal == ""
    facts = told.facts
    assert (facts["values"], facts["rows"], facts["shape"]) == ("continuous", 400, [3])
    assert (facts["levels"], facts["constant_columns"]) == (None, 0)
    assert facts["repeated_rows"] == {"rows": 0, "most": 0}
    for entry, column, name in zip(facts["columns"], REALS.T, "abc", strict=True):
        assert entry["name"] == name
        assert entry["mean"] == pytest.approx(column.mean())
        assert entry["deviation"] == pytest.approx(column.std())
        assert entry["low"] == pytest.approx(column.min())
        assert entry["distinct"] == 400


def test_integers_images_labels_and_test_rows():
    images = RNG.integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)
    told = seen(images, labels=np.arange(300) % 3, test_rows=100)
    assert told.facts["values"] == "integers"
    assert told.facts["kind"] == "images with 3 channels"
    assert told.facts["levels"] == 256
    assert told.facts["labels"] == {"classes": 3, "smallest": 100, "largest": 100}
    assert advised(told, "dequantised")
    assert advised(told, "own 100 test rows")
    assert "columns" not in told.facts


def test_rows_are_counted_without_the_sets_own_test_rows():
    assert seen(REALS[:30], test_rows=10).refusal == ""
    assert seen(REALS[:30], test_rows=11).refusal.startswith("19 rows beside the set's own test")


def test_a_note_of_the_reader_is_the_first_advice():
    assert seen(REALS, note="decoded from JPEG, see there").advice[0] == (
        "Decoded from JPEG, see there."
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(REALS[:, 0] > 0, 0, REALS[:, 0]), "the same one"),
        (REALS[:, 1] + REALS[:, 2], "Column 2 is a linear function of column 0, column 1, 1 x0 -"),
        (2 * REALS[:, 1], "Column 1 is a linear function of column 0, 0.5 x0: there is no"),
    ],
)
def test_a_column_on_which_a_density_is_infinite(values, words):
    array = REALS.copy()
    array[:, 0] = values
    assert advised(seen(array), words)
    assert not advised(seen(REALS), words)


def test_values_on_a_grid_are_said_to_be_dequantised():
    one = REALS.copy()
    one[:, 1] = np.round(one[:, 1], 1)
    assert advised(seen(one), "A column is on a grid ('1' of 0.1): they are dequantised")
    assert [entry["step"] > 0 for entry in seen(one).facts["columns"]] == [False, True, False]
    assert not advised(seen(REALS), "grid")
    assert not advised(seen(one, integers=False), "dequantised")
    many = np.where(REALS > 1, 0.0, RNG.integers(0, 500, REALS.shape))
    assert seen(many).facts["on_grid"] == 3
    assert seen(many, integers=True).facts["values"] == "integers"
    assert seen(np.round(REALS), integers=False).facts["values"] == "continuous"
    assert "treat the data as continuous" in seen(REALS, integers=True).refusal


def test_what_fit_would_refuse_is_described_all_the_same():
    array = REALS.copy()
    array[[3, 9], 1] = np.nan, np.inf
    told = seen(array)
    assert told.facts["not_finite"] == {"rows": 2, "columns": 1, "first": "row 3, column 1"}
    assert "NaN or infinite" in told.refusal
    assert advised(told, "NaN or infinite values in 2 of 400")
    assert np.isfinite([entry["deviation"] for entry in told.facts["columns"]]).all()
    assert json.loads(json.dumps(told.to_dict()))["fit"]["accepts"] is False
    constant = seen(REALS * [1, 0, 1])
    assert constant.facts["constant_columns"] == 1
    assert "column 1 is constant" in constant.refusal
    assert "19 rows" in seen(REALS[:19]).refusal
    empty = seen(np.full((30, 2), np.nan))
    assert empty.facts["low"] is None


@pytest.mark.parametrize("shape", [(3,), (4, 4)])
def test_repeated_rows_are_counted(shape):
    rows = RNG.normal(size=(1000, *shape))
    assert repeated_rows(rows) == (0, 0)
    rows[500:520] = rows[:20]
    rows[700] = rows[3]
    assert repeated_rows(rows) == (41, 3)
    rows[800], rows[801] = 0.0, -0.0
    assert repeated_rows(rows) == (43, 3)
    swapped = rows.copy()
    swapped[500:520] = swapped[500:520, ::-1]
    assert repeated_rows(swapped).rows < 10


def test_a_mapped_file_is_looked_at_in_parts(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.tile(REALS, (2, 1)))
    monkeypatch.setattr(limits, "MAPPED", 1)
    monkeypatch.setattr(limits, "BLOCK", 64)
    monkeypatch.setattr("tiltflow.data.inspect.LOOKED_AT", 100)
    mapped = inspect(Found("x", "x", np.load(tmp_path / "x.npy", mmap_mode="r")))
    assert mapped.facts["repeated_rows"] == {"rows": 800, "most": 2}
    assert mapped.facts["looked_at"] == 100
    assert mapped.facts["columns"][0]["mean"] == pytest.approx(REALS[:, 0].mean())
    assert advised(mapped, "mapped")


# On the screen -----------------------------------------------------------------------------------


def told_by(capsys, *arguments):
    capsys.readouterr()
    assert run(["data", "inspect", *arguments]) == 0
    return capsys.readouterr().out


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", REALS)
    told = json.loads(told_by(capsys, "x.npy", "--json"))
    assert told["fit"] == {"accepts": True, "refusal": None, "units": "standardise"}
    np.save("x.npy", REALS + 5 * np.sign(REALS))
    assert json.loads(told_by(capsys, "x.npy", "--json"))["fit"]["units"] == "histogram"
    assert json.loads(told_by(capsys, "digits", "--json"))["fit"]["units"] == "gaussianise"
    np.save("x.npy", REALS[:5])
    told = json.loads(told_by(capsys, "x.npy", "--json"))
    assert (told["fit"]["accepts"], told["rows"]) == (False, 5)
    words = told_by(capsys, "x.npy")
    assert "would refuse this" in words
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("width", [80, 120])
def test_what_it_prints_fits_the_terminal(width):
    array = np.round(RNG.normal(size=(300, 6)) * 1e5, 1)
    array[4, 2] = np.nan
    columns = ("a", "b [red]", "a rather long name of a column that goes on", "d", "e", "f")
    inspection = seen(array, columns=columns, labels=np.arange(300) % 2)
    console = Console(file=io.StringIO(), width=width)
    show_data(inspection.to_dict(), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for words in ("b [red]", "Good to know", "would refuse this", "2 classes", "most common"):
        assert any(words in line for line in lines)


def test_no_rows_at_all():
    told = seen(np.empty((0, 2)))
    assert (told.facts["rows"], told.facts["low"], told.facts["looked_at"]) == (0, None, 0)
    assert "0 rows are too few" in told.refusal
