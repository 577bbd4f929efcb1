"""`tiltflow complete`: tables and arrays with gaps, filled and judged; mistakes in one line."""

import csv
import json

import jax.random as jr
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from table_run import LOG_Z, X, made, text

from tiltflow.backbones import fit_units
from tiltflow.cli.main import run
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("complete") / "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


GAPS = "b,more,a\n0.1,1,\nNA,2,0.123456789\n1,3,2\n?,4,null\n"


def told_by(capsys, *arguments):
    capsys.readouterr()
    status = run(["complete", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_table_with_gaps_is_filled_as_often_as_asked_for(table_run, here, capsys):
    (here / "x.csv").write_text(GAPS)
    status, told = told_by(capsys, table_run, "x.csv", "--out", "y.csv", "--draws", 3)
    assert (status, told["rows"], told["rows_with_gaps"], told["missing"]) == (0, 4, 3, 4)
    assert (told["verdict"]["status"], told["doubtful"]) == ("ok", [])
    assert told["left_out"] == ["more"]
    with open("y.csv", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == ["row", "draw", "a", "b"]
    assert [(one["row"], one["draw"]) for one in found[:4]] == [
        ("0", "0"), ("0", "1"), ("0", "2"), ("1", "0"),
    ]  # fmt: skip
    assert {one["b"] for one in found[:3]} == {"0.1"}
    assert {one["a"] for one in found[3:6]} == {"0.123456789"}
    assert [(float(one["a"]), float(one["b"])) for one in found[6:9]] == [(2, 1)] * 3
    drawn = [one["a"] for one in found[:3]] + [one["b"] for one in found[3:6]]
    drawn += [one["a"] for one in found[9:]]
    assert len(set(drawn)) == 9
    assert all(np.isfinite(float(cell)) and len(cell.lstrip("-")) < 13 for cell in drawn)


def test_once_filled_it_is_a_table_as_it_was(table_run, here, capsys):
    columns = {"b": pyarrow.array([0.1, None, 1.0, None]), "a": pyarrow.array([None, 2, 3, None])}
    parquet.write_table(pyarrow.table(columns), "x.parquet")
    assert run(["complete", str(table_run), "x.parquet", "--out", "y.parquet", "--draws", "1"]) == 0
    assert "4 values in 3 of 4 rows of x.parquet" in capsys.readouterr().out
    found = parquet.read_table("y.parquet")
    assert (found.column_names, found.num_rows) == (["a", "b"], 4)
    assert found["b"].to_pylist()[::2] == [0.1, 1.0]
    assert np.isfinite(np.column_stack([found["a"], found["b"]])).all()


def test_images_come_and_go_as_arrays(here, capsys):
    images = np.random.default_rng(4).integers(0, 5, (60, 1, 2)).astype(np.float32)
    folder = made(here / "images" / "run")
    units = fit_units("auto", images, integers=True)
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    FittedModel(model, spec, LOG_Z, True, 0.5, 4).save(folder / "model")
    x = images[:2].astype(float)
    x[0, 0, 1] = np.nan
    np.save("x.npy", x)
    status, told = told_by(capsys, folder, "x.npy", "--out", "y.npz", "--draws", 20)
    assert (status, told["missing"], told["rows_with_gaps"]) == (0, 1, 1)
    found = np.load("y.npz")
    assert found["x"].shape == (2, 20, 1, 2)
    np.testing.assert_array_equal(found["x"][1], np.stack([x[1]] * 20))
    assert np.all(found["x"][0, :, 0, 0] == x[0, 0, 0])
    assert set(found["x"][0, :, 0, 1]) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert len(set(found["x"][0, :, 0, 1])) > 2
    np.testing.assert_array_equal(found["missing"], np.isnan(x))
    assert run(["complete", str(folder), "x.npy", "--out", "y.csv"]) == 2
    assert "no rows of a table; expected a name that ends in .npz" in capsys.readouterr().err


def test_a_failed_run_is_told(here, capsys):
    (here / "x.csv").write_text(GAPS)
    folder = made(here / "failed" / "run", status="failed")
    status, told = told_by(capsys, folder, "x.csv", "--out", "y.csv", "--draws", 3)
    assert (status, told["run_failed"], told["verdict"]["status"]) == (3, True, "ok")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.csv", "--out", "y.txt"], "expected a name that ends in .csv, .parquet or .npz"),
        (["x.csv", "--out", "x.csv"], "x.csv exists: choose another --out, or pass --overwrite"),
        (["x.csv", "--out", "y.csv", "--draws", "0"], "draws is 0"),
        (["whole.csv", "--out", "y.csv"], "whole.csv has no gap in any of 5 rows; expected some"),
        (["whole.csv", "--out", "y.npz"], "whole.csv has no gap in any of 5 rows"),
        (["head.csv", "--out", "y.csv"], "head.csv has no rows"),
        (["red.csv", "--out", "y.csv"], "'red'"),
        (["other.csv", "--out", "y.csv"], "no column 'b', that the model knows"),
        (["first.csv", "--out", "y.csv"], "the first line is a row with a gap"),
        (["inf.csv", "--out", "y.csv"], "row 1, column 'b': inf; expected a finite number"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, words, table_run, here, capsys):
    (here / "x.csv").write_text(GAPS)
    (here / "whole.csv").write_text(text(X[:5]))
    (here / "head.csv").write_text("a,b\n")
    (here / "red.csv").write_text("a,b\n1,\n1,red\n")
    (here / "other.csv").write_text("a,c\n1,\n")
    (here / "first.csv").write_text("1,\n1,2\n")
    (here / "inf.csv").write_text("a,b\n1,\n1,inf\n")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    capsys.readouterr()
    assert run(["complete", str(table_run), *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before
