"""A column that is a function of others is not learned: rows in and out are whole all the same."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from table_run import X, made

from tiltflow.cli.main import run
from tiltflow.data.dependent import Dependence, Dropped
from tiltflow.errors import InputError
from tiltflow.model.loading import load_model

WHOLE = np.column_stack([X[:, 0], X @ [1.0, 2.0] + 3.0, X[:, 1]])  # a, sum, b
NAMES = ("a", "sum", "b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose model has columns a and b alone, by place and not by name."""
    found = made(tmp_path_factory.mktemp("dropped") / "run")
    one = Dependence(1, (0, 2), (1.0, 2.0), 3.0)
    model = replace(load_model(found), columns=None, dropped=Dropped(3, NAMES, (one,)))
    model.save(found / "model")
    return found


def test_whole_rows_are_scored_as_the_kept_columns(folder, tmp_path, monkeypatch):
    model = load_model(folder)
    assert model.dropped.columns == NAMES
    np.testing.assert_array_equal(model.log_prob(WHOLE[:5]), model.log_prob(X[:5]))
    with pytest.raises(InputError, match="rows of shape"):
        model.log_prob(np.c_[WHOLE, WHOLE][:5])
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", WHOLE[:5], delimiter=",")
    assert run(["score", str(folder), "x.csv", "--out", "s.csv", "--no-tail"]) == 0
    with open("s.csv", newline="") as stream:
        found = [float(row["log_p"]) for row in csv.DictReader(stream)]
    np.testing.assert_allclose(found, model.log_prob(X[:5]), atol=1e-4)


def test_draws_have_the_column_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = ["--chains", "4", "--draws", "8", "--warmup", "20"]
    assert run(["sample", str(folder), "--out", "draws.csv", *how]) in (0, 3)
    with open("draws.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(NAMES)
    a, total, b = (np.array([float(row[name]) for row in rows]) for name in NAMES)
    assert np.ptp(a) > 0
    np.testing.assert_allclose(total, a + 2 * b + 3, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"width": 2}, {"dependences": [[1, [0, 1], [1.0, 2.0], 3.0]]}])
def test_a_damaged_folder_is_refused(folder, tmp_path, wrong):
    model = load_model(folder)
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["dropped"] |= wrong
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="is damaged"):
        load_model(tmp_path / "model")
