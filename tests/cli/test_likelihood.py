"""`tiltflow likelihood`: numbers, refusals, and mistakes in one line."""

import json
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy

from tiltflow.cli.main import run
from tiltflow.cli.run_data import run_data
from tiltflow.data import load
from tiltflow.runs import RunStore

KEYS = {
    "log_z": {"mean", "low", "high", "standard_error"},
    "backbone": {"nll", "low", "high"},
    "tilted": {"nll", "low", "high"},
    "gain_nats": {"mean", "low", "high"},
}


@pytest.fixture(scope="module")
def told(small_run, tmp_path_factory):
    """The exit status and the JSON of one call."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run(
            ["likelihood", str(small_run[0]), "--json", "--draws", "200", "--budget", "1m"]
        )
    return status, json.loads(out.getvalue())


def test_one_json_object_with_the_keys_that_are_promised(told):
    status, found = told
    for block, keys in KEYS.items():
        assert keys <= set(found[block])
    assert found["seconds"] > 0
    assert status == (3 if found["verdict"]["status"] == "failed" else 0)
    assert found["data"]["rows"] == 297


def test_numbers_are_those_of_the_run(small_run, told):
    metrics = json.loads((small_run[0] / "metrics.json").read_text())
    backbone = told[1]["backbone"]
    assert backbone["low"] < metrics["backbone"]["nll_test"] < backbone["high"]


def broken(small_run, tmp_path, name, change):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    path = folder / "model" / "weights.safetensors"
    arrays = dict(safetensors.numpy.load_file(path))
    arrays[name] = np.asarray(change(arrays[name]), np.float32)
    safetensors.numpy.save_file(arrays, path)
    return folder


def test_weights_that_are_not_numbers_exit_with_3(small_run, tmp_path, capsys):
    folder = broken(small_run, tmp_path, "tilt.layers.1.weight", lambda w: w * np.nan)
    assert run(["likelihood", str(folder), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["status"] == "failed"
    assert "not finite" in found["verdict"]["text"]
    assert "tilted" not in found
    assert run(["likelihood", str(folder)]) == 3
    assert "not finite" in " ".join(capsys.readouterr().out.split())


def test_other_data_than_the_run_was_fitted_to_are_refused(small_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    config = (folder / "config.toml").read_text()
    assert 'fingerprint = "' in config
    (folder / "config.toml").write_text(config.replace('fingerprint = "', 'fingerprint = "0'))
    assert run(["likelihood", str(folder)]) == 2
    assert "is not what" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--budget", "soon"], "--budget is 'soon'; expected a time such as 60s"),
        (["--budget=-5s"], "expected a time such as 60s"),
        (["--key", "x"], "--key x without --data"),
        (["--data", "none.npy"], "none.npy does not exist"),
        (["--dequantisations", "0"], "dequantisations is 0"),
        (["--draws", "2"], "2 draws"),
        (["--bound", "exact"], "bound"),
    ],
)
def test_mistakes_are_one_line(small_run, capsys, arguments, expected):
    assert run(["likelihood", str(small_run[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_rows_of_another_shape_are_refused(small_run, tmp_path, capsys):
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(30, 3)))
    assert run(["likelihood", str(small_run[0]), "--data", str(path)]) == 2
    assert "rows of shape (3,); expected (8, 8)" in capsys.readouterr().err


def test_data_are_found_from_the_folders_above_the_run(small_run, tmp_path, monkeypatch):
    values = load("digits").values[:100]
    np.save(tmp_path / "x.npy", values)
    folder = tmp_path / "runs" / "digits"
    shutil.copytree(small_run[0], folder)
    config = (folder / "config.toml").read_text()
    fingerprint = f'fingerprint = "{load(tmp_path / "x.npy").fingerprint}"'
    config = re.sub('fingerprint = "[^"]*"', fingerprint, config)
    (folder / "config.toml").write_text(config.replace('source = "digits"', 'source = "x.npy"'))
    for here in (tmp_path, folder):
        monkeypatch.chdir(here)
        assert run_data(RunStore.open(folder)).rows == 100


def test_a_bound_is_called_one(told):
    assert told[1]["bound"] == "variational"


def test_a_few_rows_are_scored(small_run, tmp_path, capsys):
    """What is asked of rows to learn from is not asked of rows to score."""
    path = tmp_path / "rows.npy"
    np.save(path, load("digits").values[:6])
    few = ["--draws", "8", "--budget", "10s", "--json"]
    assert run(["likelihood", str(small_run[0]), "--data", str(path), *few]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["data"]["rows"] == 6
    np.save(path, load("digits").values[:1])
    assert run(["likelihood", str(small_run[0]), "--data", str(path)]) == 2
    assert "has 1 rows; expected at least 2" in capsys.readouterr().err
