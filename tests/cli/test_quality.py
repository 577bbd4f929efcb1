"""`tiltflow quality`: the keys that are promised, the table, the picture, mistakes in one line."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from tiltflow.cli.main import run
from tiltflow.data import load
from tiltflow.evaluation.quality import of_model

QUICK = ("--chains", "32", "--warmup", "20", "--thin", "1", "--n", "120")
SETS = ("floor", "backbone", "tilted")


@pytest.fixture(scope="module")
def told(small_run, tmp_path_factory):
    """The exit status, the JSON and the picture of one call."""
    out, picture = io.StringIO(), tmp_path_factory.mktemp("gallery") / "gallery.png"
    with contextlib.redirect_stdout(out):
        arguments = ["quality", str(small_run[0]), "--json", "--picture", str(picture)]
        status = run([*arguments, *QUICK])
    return status, json.loads(out.getvalue()), picture


def test_one_json_object_with_floor_backbone_and_tilted(told):
    status, found, _ = told
    assert status == (3 if found["verdict"]["status"] == "failed" else 0)
    assert found["data"] == {"name": "digits", "reference": "test rows", "floor": "training rows"}
    assert (found["rows"], found["reference_rows"]) == (120, 120)
    assert found["features"] == "standardised value"
    for name in SETS:
        block = found[name]
        assert block["frechet"]["low"] < block["frechet"]["value"] < block["frechet"]["high"]
        assert set(block["neighbours"]) == {"precision", "recall", "density", "coverage", "k"}
        assert block["classes"] is None
    backbone, floor = found["backbone"]["frechet"], found["floor"]["frechet"]
    assert backbone["value"] > floor["value"] + 4 * floor["standard_error"]


def test_the_picture_is_a_png(told):
    assert told[2].read_bytes().startswith(b"\x89PNG")


def test_a_table_for_people_with_data_of_ones_own(small_run, tmp_path, capsys):
    path = tmp_path / "mine.npy"
    np.save(path, np.random.default_rng(0).integers(0, 17, (300, 8, 8)))
    status = run(["quality", str(small_run[0]), "--data", str(path), *QUICK])
    out = capsys.readouterr().out
    assert status in (0, 3)
    assert "120 samples against 120 rows of mine.npy" in out
    assert "training rows in the samples' place" in out
    for words in ("Frechet distance", "coverage", "infinite", *SETS):
        assert words in out


def test_without_the_runs_data_the_floor_is_every_second_row(small_run, tmp_path, capsys):
    folder, path = tmp_path / "run", tmp_path / "mine.npy"
    shutil.copytree(small_run[0], folder)
    config = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(config.replace('fingerprint = "', 'fingerprint = "0'))
    assert run(["quality", str(folder), *QUICK]) == 2
    assert "or pass rows with --data" in capsys.readouterr().err
    np.save(path, np.random.default_rng(0).integers(0, 17, (300, 8, 8)))
    run(["quality", str(folder), "--data", str(path), "--json", *QUICK])
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == {"name": "mine.npy", "reference": "even rows", "floor": "odd rows"}


def test_errors_of_the_tilted_samples_rest_on_its_chains(small_run, capsys):
    """8 chains make 4 blocks with two of them each; independent rows make 10."""
    run(["quality", str(small_run[0]), "--json", *QUICK[2:], "--chains", "8"])
    found = json.loads(capsys.readouterr().out)
    assert [found[name]["kernel"]["blocks"] for name in SETS] == [10, 10, 4]
    assert len({len(found[name]["frechet"]["by_size"]) for name in SETS}) == 1


def test_weights_that_are_not_numbers_exit_with_3(small_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    path = folder / "model" / "weights.safetensors"
    arrays = dict(safetensors.numpy.load_file(path))
    name = next(name for name in arrays if name.startswith("tilt."))
    arrays[name] = arrays[name] * np.float32(np.nan)
    safetensors.numpy.save_file(arrays, path)
    assert run(["quality", str(folder), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["verdict"]["status"] == "failed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--n", "10"), "10 rows; expected at least 80"),
        (("--chains", "2"), "2 chains; expected at least 8"),
        (("--features", "fashion-mnist"), "expect (28, 28)"),
        (("--features", "inception"), "inception"),
        (("--key", "x"), "without --data"),
        (("--data", "nowhere.npy"), "does not exist"),
        (("--picture", "gallery.jpg"), "ends in .png"),
        (("--seed", "-1"), "seed is -1"),
    ],
)
def test_mistakes_are_one_line(small_run, options, words, capsys):
    assert run(["quality", str(small_run[0]), *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_rows_in_the_order_of_their_classes_are_compared_all_over(
    small_run, tmp_path, capsys, monkeypatch
):
    """The first of them are all dark: compared with these, no model would look like the data."""
    digits = load("digits").values[:600]
    path = tmp_path / "sorted.npy"
    np.save(path, digits[np.argsort(digits.mean(axis=(1, 2)))])
    run(["quality", str(small_run[0]), "--data", str(path), "--json", *QUICK])
    sorted_ = json.loads(capsys.readouterr().out)["floor"]["frechet"]["value"]
    np.save(path, digits[np.random.default_rng(0).permutation(600)])
    run(["quality", str(small_run[0]), "--data", str(path), "--json", *QUICK])
    shuffled = json.loads(capsys.readouterr().out)["floor"]["frechet"]
    assert abs(sorted_ - shuffled["value"]) < 4 * shuffled["standard_error"]
    np.save(path, digits[np.argsort(digits.mean(axis=(1, 2)))])
    monkeypatch.setattr(of_model, "evenly", lambda some, of: np.arange(some))
    run(["quality", str(small_run[0]), "--data", str(path), "--json", *QUICK])
    first = json.loads(capsys.readouterr().out)["floor"]["frechet"]["value"]
    assert first > sorted_ + 4 * shuffled["standard_error"]  # power: the first rows are no sample
