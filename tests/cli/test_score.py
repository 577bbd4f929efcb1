"""`tiltflow score`: a table of every row, what it says beside it, and mistakes in one line."""

import csv
import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from table_run import X, made, text

from tiltflow.cli.main import run
from tiltflow.data import load, split
from tiltflow.evaluation.row_scores import RowScorer
from tiltflow.evaluation.scored_table import held_out_scores, tail_of
from tiltflow.model.loading import load_model
from tiltflow.normalizer import LogZ


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("score") / "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told_by(capsys, *arguments):
    capsys.readouterr()
    status = run(["score", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_table_with_names_of_rows_in_their_order(table_run, here, capsys):
    rows = X[:50].astype(float)
    rows[7, 1] = np.nan
    ids = [f"k {i}" for i in range(50)]
    (here / "x.csv").write_text(text(rows[:, ::-1], "b,a", ids))
    status, told = told_by(capsys, table_run, "x.csv", "--id", "id", "--out", "s.csv")
    assert (status, told["rows"], told["outliers"]["rows"]) == (0, 50, 1)
    assert told["outliers"]["first"] == {"NaN or infinite": "row 7, column 'b': nan"}
    assert (told["held_out"], told["log_p"]["of"]) == (40, "density, in the units of the data")
    with open("s.csv", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == ["id", "log_p", "log_q", "f", "tail", "outlier"]
    assert [one["id"] for one in found] == ids
    assert found[7] | {"tail": ""} == {
        "id": "k 7", "log_p": "-inf", "log_q": "-inf", "f": "", "tail": "", "outlier": "1",
    }  # fmt: skip
    scorer = RowScorer(load_model(table_run / "model"))
    log_p = scorer(X[:50]).log_p
    data = load(table_run.parent / "train.csv")
    held_out = held_out_scores(scorer, data.take(split(data).test).values)
    for row in (0, 6, 49):
        assert float(found[row]["log_p"]) == pytest.approx(log_p[row] - 0.25, abs=1e-5)
        tail = tail_of(log_p[row : row + 1], held_out)[0]
        assert float(found[row]["tail"]) == pytest.approx(tail, abs=1e-6)


def test_parquet_in_and_out(table_run, here, capsys):
    columns = {"b": X[:9, 1], "when": np.arange(9).astype("M8[D]"), "a": X[:9, 0], "more": X[:9, 0]}
    parquet.write_table(pyarrow.table(columns), "x.parquet")
    _, told = told_by(capsys, table_run, "x.parquet", "--id", "when", "--out", "s.parquet")
    assert told["left_out"] == ["more"]
    found = parquet.read_table("s.parquet")
    assert found.schema.metadata[b"tiltflow.log_p"] == b"log density, in the units of the data"
    assert found["when"].to_pylist() == pyarrow.array(columns["when"]).to_pylist()
    expected = RowScorer(load_model(table_run / "model"))(X[:9]).log_p - 0.25
    np.testing.assert_allclose(found["log_p"].to_numpy(), expected, atol=1e-5)
    assert run(["score", str(table_run), "x.parquet", "--out", "t.csv", "--no-tail"]) == 0
    out = capsys.readouterr().out
    assert "the model does not know are left out: when, more" in out
    assert "no outliers" in out
    tails = [line.split(",")[4] for line in (here / "t.csv").read_text().splitlines()]
    assert tails == ["tail", *[""] * 9]


def test_a_failed_run_has_no_log_p(here, capsys):
    (here / "x.csv").write_text(text(X[:5]))
    for name, how in (
        ("failed", {"status": "failed"}),
        ("unknown", {"log_z": LogZ(0.25, 9.0, 0, 0, "bridge", 1.0, 1.0, holds=False, words="No.")}),
    ):
        folder = made(here / name / "run", **how)
        status, told = told_by(capsys, folder, "x.csv", "--out", f"{name}.csv")
        assert status == 3
        assert told["log_p"]["withheld"]
        assert told["log_p"]["mean"] is None
        rows = (here / f"{name}.csv").read_text().splitlines()[1:]
        assert all(row.split(",")[1] == "" and row.split(",")[4] for row in rows)


def test_images_are_scored_from_arrays(small_run, here, capsys):
    np.save("x.npy", load("digits").values[:5])
    status, told = told_by(capsys, small_run[0], "x.npy", "--out", "s.csv")
    assert (status, told["rows"]) == (3 if told["log_p"]["withheld"] else 0, 5)
    assert told["log_p"]["of"] == "mass of its integers, a bound from below"
    np.save("x.npy", X)
    assert run(["score", str(small_run[0]), "x.npy", "--out", "t.csv"]) == 2
    assert "rows of shape (2,); expected (8, 8)" in capsys.readouterr().err
    assert not (here / "t.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.csv", "--out", "s.txt"], "--out s.txt: expected a name that ends in .csv or .parquet"),
        (["x.csv", "--out", "x.csv"], "x.csv exists: choose another --out, or pass --overwrite"),
        (["x.csv", "--out", "no/s.csv"], "no is not a folder that can be written"),
        (["x.csv", "--out", "s.csv", "--id", "f"], "--id f: a column of the scores is called so"),
        (["x.csv", "--out", "s.csv", "--id", "k"], "no column 'k', that --id names"),
        (["bad.csv", "--out", "s.csv"], "column 'b', row 2 (line 4) holds 'red'"),
        (["other.csv", "--out", "s.csv"], "no column 'b', that the model knows"),
        (["head.csv", "--out", "s.csv"], "head.csv has no rows"),
        (["no.csv", "--out", "s.csv"], "no.csv does not exist"),
        (["x.csv", "--out", "s.csv", "--dequantisations", "0"], "--dequantisations is 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, words, table_run, here, capsys):
    (here / "x.csv").write_text(text(X[:5]))
    (here / "bad.csv").write_text(text(X[:2]) + "1,red\n")
    (here / "other.csv").write_text(text(X[:5], "a,c"))
    (here / "head.csv").write_text("a,b\n")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    capsys.readouterr()
    assert run(["score", str(table_run), *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before
