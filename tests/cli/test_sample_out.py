"""Files that `tiltflow sample --out` leaves beside .npz: tables in the data's columns, pictures."""

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet
from table_run import X, made

from tiltflow.cli.main import run
from tiltflow.data import load

FEW = ("--chains", "8", "--warmup", "20", "--draws", "20", "--json")
ROUNDED = np.stack([0.1 * np.rint(10 * X[:, 0]), X[:, 1]], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of a column on a grid beside a continuous one, and of integers."""
    folder = tmp_path_factory.mktemp("out")
    counts = np.rint(3 * X).astype(np.float32)
    return {
        "grid": made(folder / "grid" / "run", rows=ROUNDED),
        "integers": made(folder / "integers" / "run", rows=counts, integers=True),
    }


def drawn(folder, out):
    assert run(["sample", str(folder), "--out", str(out), *FEW]) in (0, 3)
    return out


def test_a_table_has_the_datas_own_columns(runs, tmp_path, capsys):
    """Those of the arrays, chain after chain, on the grid, and as short as they can be."""
    with np.load(drawn(runs["grid"], tmp_path / "x.npz")) as arrays:
        x = arrays["x"].reshape(-1, 2)
        assert arrays["columns"].tolist() == ["a", "b"]
    with open(drawn(runs["grid"], tmp_path / "x.csv"), newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["a", "b"]
    np.testing.assert_allclose(np.array(rows, float), x, rtol=1e-6, atol=1e-6)
    assert all(len(cell.lstrip("-")) <= 4 for cell, _ in rows)
    table = parquet.read_table(drawn(runs["grid"], tmp_path / "x.parquet"))
    assert table.column_names == ["a", "b"]
    np.testing.assert_array_equal(table["b"].to_numpy(), x[:, 1])
    again = load(tmp_path / "x.csv")
    assert again.columns == ("a", "b")
    assert again.grid.step == pytest.approx([0.1, 0], rel=1e-4)
    capsys.readouterr()
    assert run(["score", str(runs["grid"]), str(tmp_path / "x.csv"), "--out",
                str(tmp_path / "s.csv"), "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["outliers"]["rows"] == 0


def test_integers_are_written_as_such(runs, tmp_path):
    with open(drawn(runs["integers"], tmp_path / "x.csv"), newline="") as stream:
        _, *rows = csv.reader(stream)
    assert len(rows) == 160
    assert all(cell == str(int(cell)) for row in rows for cell in row)


def test_images_become_a_picture(small_run, tmp_path, capsys):
    picture = drawn(small_run[0], tmp_path / "x.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    capsys.readouterr()
    assert run(["sample", str(small_run[0]), "--out", str(tmp_path / "x.csv"), *FEW]) == 2
    assert "arrays of shape (8, 8)" in capsys.readouterr().err


def test_a_table_is_no_picture(runs, tmp_path, capsys):
    for name, words in (("x.png", "rows of a table and no images"), ("x.jpg", "ends in .csv, .p")):
        assert run(["sample", str(runs["grid"]), "--out", str(tmp_path / name), *FEW]) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
