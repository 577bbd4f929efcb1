"""The commands, whole, on little: what they write, and that they write the same again."""

import contextlib
import io
import json
import shutil
import tomllib

import numpy as np
import pytest
from small_run import QUICK

from tiltflow.cli.fit import _short
from tiltflow.cli.main import run

KEYS = {
    "data": {"train", "val", "test"},
    "backbone": {"nll_test"},
    "tilted": {"nll_test", "nll_low", "nll_high"},
    "gain_nats": {"mean", "low", "high"},
    "log_z": {"mean", "low", "high"},
    "mixing": {
        "rhat_max",
        "ess_bulk_min",
        "ess_tail_min",
        "acceptance",
        "divergences",
        "draws",
        "chains",
        "ess_per_1000_gradients_min",
    },
    "copies": {"training", "draws", "held_out", "nearer", "nearer_by_chance", "nearer_p", "twins"},
    "seconds": {"backbone", "tilt", "sampling", "total"},
    "verdict": {"status", "text", "checks"},
}


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def events_of(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """The run of a table, learned by persistent chains, and what was said on standard error."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    x = np.c_[np.cos(angle), np.sin(angle), rng.normal(size=400)] + 0.1 * rng.normal(size=(400, 3))
    source = tmp_path_factory.mktemp("ring") / "ring.csv"
    np.savetxt(source, x, delimiter=",", header="0,1,2", comments="")
    folder = source.parent / "ring"
    with contextlib.redirect_stderr(io.StringIO()) as told:
        run(["fit", str(source), "--out", str(folder), *QUICK, "--learner", "persistent"])
    return folder, told.getvalue()


def test_a_table_of_continuous_columns(ring):
    folder, told = ring
    metrics = metrics_of(folder)
    note = metrics["data"]["note"]
    assert note.startswith("the first line counts the columns")
    assert f"tiltflow: ring.csv: {note}\n" in told
    assert note in (folder / "report.html").read_text()
    assert metrics["data"]["shape"] == [3]
    assert not metrics["data"]["integers"]
    assert np.isfinite(metrics["tilted"]["nll_test"])
    assert "could not be drawn" not in (folder / "report.html").read_text()


def test_what_a_run_holds(small_run):
    folder, _ = small_run
    assert {entry.name for entry in folder.iterdir()} == {
        "config.toml",
        "model",
        "metrics.json",
        "events.jsonl",
        "evidence.npz",
        "figures",
        "report.html",
    }
    assert {entry.name for entry in (folder / "model").iterdir()} == {
        "config.json",
        "weights.safetensors",
    }
    assert len(list((folder / "figures").glob("*.png"))) > 8
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["seed"] == 0
    assert config["backbone"]["steps"] == 250
    assert config["tilt"]["particles"] == 256
    phases = [
        json.loads(line)["phase"] for line in (folder / "events.jsonl").read_text().splitlines()
    ]
    learned = ["backbone", "tilt", "sampling"]
    assert list(dict.fromkeys(phases)) == [*learned, "copies", "interpolation", "simple", "report"]


def test_metrics_have_their_keys_and_are_consistent(small_run):
    folder, status = small_run
    metrics = metrics_of(folder)
    for block, keys in KEYS.items():
        assert keys <= set(metrics[block])
    assert metrics["data"] | {"train": 1300, "val": 200, "test": 297} == metrics["data"]
    gain, tilted = metrics["gain_nats"], metrics["tilted"]
    assert gain["low"] < gain["mean"] < gain["high"]
    assert tilted["nll_low"] < tilted["nll_test"] < tilted["nll_high"]
    for nats, bits in (("nll_test", "bpd"), ("nll_low", "bpd_low"), ("nll_high", "bpd_high")):
        assert tilted[bits] == pytest.approx(tilted[nats] / (64 * np.log(2)))
    backbone = metrics["backbone"]
    assert backbone["bpd"] == pytest.approx(backbone["nll_test"] / (64 * np.log(2)))
    assert metrics["backbone"]["nll_test"] - tilted["nll_test"] == pytest.approx(
        gain["mean"], abs=1e-4
    )
    assert metrics["log_z"]["low"] < metrics["log_z"]["mean"] < metrics["log_z"]["high"]
    assert metrics["mixing"]["chains"] == 16
    assert metrics["copies"]["training"] == 1300
    assert status == (3 if metrics["verdict"]["status"] == "failed" else 0)


def test_too_few_draws_are_not_converged(small_run):
    """16 chains of 20 draws cannot pass: the run is written, and the status says so."""
    folder, status = small_run
    assert metrics_of(folder)["verdict"]["status"] == "failed"
    assert status == 3


def test_the_same_seed_gives_the_same_numbers_and_overwrite_leaves_nothing_else(
    small_run, tmp_path
):
    """What a second `make run` does."""
    copy = tmp_path / "digits"
    shutil.copytree(small_run[0], copy)
    (copy / "old").write_text("of the previous run")
    (copy / "metrics.json").write_text("{}")
    run(["fit", "digits", "--out", str(copy), *QUICK, "--overwrite"])
    assert not (copy / "old").exists()
    assert (copy / "report.html").exists()
    assert list(tmp_path.iterdir()) == [copy]
    first, second = metrics_of(small_run[0]), metrics_of(copy)
    for metrics in (first, second):
        del metrics["seconds"]
    assert first == second


def test_another_seed_gives_other_numbers_and_json_is_one_object(
    small_run, tmp_path, capsys, monkeypatch
):
    """The power twin of the test above; without figures, which are looked at there."""
    folder, _ = small_run
    capsys.readouterr()
    monkeypatch.setattr("tiltflow.report.page.write_report", lambda folder, *, name: folder)
    other = tmp_path / "other"
    run(["fit", "digits", "--out", str(other), *QUICK, "--seed", "1", "--json"])
    out = capsys.readouterr().out
    told = json.loads(out)
    assert told["tilted"] == metrics_of(other)["tilted"]
    assert told["tilted"] != metrics_of(folder)["tilted"]
    assert told["data"] == metrics_of(folder)["data"] | {"name": "digits"}


def test_persistent_chains_behind_the_same_interface(ring, small_run):
    for folder, learner in ((ring[0], "persistent"), (small_run[0], "population")):
        stages = [event for event in events_of(folder) if event["event"] == "stage"]
        assert {event["learner"] for event in stages} == {learner}


@pytest.mark.parametrize(
    ("name", "short"),
    [("x.csv.gz", "x"), ("a/b/digits", "digits"), (".x.csv", "x"), ("", "data"), (".", "data")],
)
def test_the_run_is_called_as_its_data_are(name, short):
    assert _short(name) == short


def test_overwrite_must_be_told(small_run, capsys):
    folder, _ = small_run
    before = {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")}
    assert run(["fit", "digits", "--out", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--overwrite" in told
    assert {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")} == before
    assert not [entry for entry in folder.parent.iterdir() if entry != folder]


def test_sample_writes_draws_in_data_units(small_run, tmp_path, capsys):
    folder, _ = small_run
    out = tmp_path / "draws.npz"
    arguments = ["sample", str(folder), "--out", str(out), "--chains", "8", "--draws", "30"]
    status = run([*arguments, "--warmup", "20", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert status == (3 if told["verdict"]["status"] == "failed" else 0)
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["x"].shape == (8, 30, 8, 8)
        assert arrays["u"].shape == (8, 30, 64)
        assert arrays["f"].shape == (8, 30)
        x = arrays["x"]
    assert x.min() >= 0
    assert x.max() <= 16
    assert np.all(x == np.floor(x))
    assert run(arguments) == 2  # it is there already
    assert "--overwrite" in capsys.readouterr().err


def test_report_and_info(small_run, tmp_path, capsys):
    folder = shutil.copytree(small_run[0], tmp_path / "digits")
    capsys.readouterr()
    (folder / "report.html").unlink()
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").exists()
    assert run(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["train"] == 1300
    assert run(["info", str(folder)]) == 0
    assert "tilted.nll_test" in capsys.readouterr().out
    assert run(["info", "--json"]) == 0
    assert "jax" in json.loads(capsys.readouterr().out)
