"""`tiltflow sample`: files and folders, targets, choices, and going on after an interruption."""

import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pytest
import safetensors.numpy

from tiltflow.cli.main import run
from tiltflow.cli.options import seconds_of
from tiltflow.errors import InputError
from tiltflow.model.loading import load_model
from tiltflow.runs.draws import load_draws

FEW = ("--chains", "8", "--warmup", "20")
FIFTY = ("--draws", "50")


def contents(folder):
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def told_by(capsys, *arguments):
    """The JSON object that the command prints, and its status."""
    capsys.readouterr()
    status = run(["sample", *map(str, arguments), *FEW, "--json"])
    return json.loads(capsys.readouterr().out), status


def test_streamed_draws_are_those_of_the_file_in_data_units(small_run, tmp_path, capsys):
    folder, out = small_run[0], tmp_path / "draws"
    arguments = (folder, "--draws", 70, "--thin", 2)
    streamed, status = told_by(capsys, *arguments, "--out", out, "--stream")
    written, _ = told_by(capsys, *arguments, "--out", tmp_path / "draws.npz")
    assert streamed["verdict"] == written["verdict"]
    assert status == (3 if streamed["verdict"]["status"] == "failed" else 0)
    assert streamed["mixing"]["gradients"] == 140 * streamed["mixing"]["leapfrogs"]
    stored = load_draws(out)
    with np.load(tmp_path / "draws.npz") as arrays:
        np.testing.assert_array_equal(stored.arrays["x"], arrays["x"])
        np.testing.assert_array_equal(stored.positions, arrays["u"])
        np.testing.assert_array_equal(stored.arrays["f"], arrays["f"])
        assert arrays["thin"] == 2
    assert np.all(stored.arrays["x"] == np.floor(stored.arrays["x"]))


def test_resume_goes_on_and_refuses_what_is_another_run(small_run, tmp_path, capsys):
    folder, out = small_run[0], tmp_path / "draws"
    stream = (folder, "--out", out, "--stream")
    told_by(capsys, *stream, "--draws", 50)
    before = contents(out)
    for arguments, words in (
        ([*stream, "--draws", 50], "--resume"),
        ([*stream, "--draws", 90, "--resume", "--seed", 5], "another key"),
        ([*stream, "--draws", 90, "--resume", "--kernel", "hmc-4"], "another kernel"),
    ):
        assert run(["sample", *map(str, arguments), *FEW]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1
    assert contents(out) == before
    told_by(capsys, *stream, "--draws", 90, "--resume")
    told_by(capsys, folder, "--out", tmp_path / "whole", "--stream", "--draws", 90)
    for name in ("positions.raw", "x.raw"):
        assert contents(out)[name] == contents(tmp_path / "whole")[name]


def test_stops_at_targets(small_run, tmp_path, capsys):
    folder = small_run[0]
    told, _ = told_by(capsys, folder, "--out", tmp_path / "a.npz", "--until", "ess=60")
    assert told["stopped"] == "ess"
    assert told["mixing"]["ess_bulk_min"] >= 45  # all draws are judged, not the history's
    assert told["mixing"]["draws"] < 10_000
    arguments = ("--until", "ess=1e9", "--time-limit", "3s", "--draws", 10**6)
    told, status = told_by(capsys, folder, "--out", tmp_path / "b", "--stream", *arguments)
    assert told["stopped"] == "seconds"
    assert status in (0, 3)
    run(["sample", str(folder), "--out", str(tmp_path / "c.npz"), *FEW, *arguments[:2], *FIFTY])
    assert "Stopped by the number of draws, before ess=1e+09." in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_a_time_limit_that_is_over_before_the_first_draw_is_one_line(
    options, small_run, tmp_path, capsys
):
    out = tmp_path / ("draws" if options else "draws.npz")
    arguments = [*FEW, "--time-limit", "0.001s", "--out", str(out), *options]
    assert run(["sample", str(small_run[0]), *arguments]) == 3
    told = capsys.readouterr().err
    assert "the time was over after 0 draws" in told
    assert told.count("\n") == 1


def test_the_verdict_knows_the_kernel(small_run, tmp_path, capsys):
    """What has no acceptance to aim at is not judged by it, and a biased kernel is never ok."""
    names = {}
    for kernel in ("hmc", "mala", "independence", "langevin"):
        arguments = ("--out", tmp_path / f"{kernel}.npz", "--kernel", kernel, *FIFTY)
        told, _ = told_by(capsys, small_run[0], *arguments)
        names[kernel] = {check["name"]: check["ok"] for check in told["verdict"]["checks"]}
    assert [kernel for kernel in names if "acceptance" in names[kernel]] == ["hmc"]
    assert [k for k in names if names[k].get("bias of the kernel") is False] == ["langevin"]


def test_the_pilot_is_reported_and_remembered(small_run, tmp_path, capsys, monkeypatch):
    from tiltflow.mcmc import catalogue

    folder, out = small_run[0], tmp_path / "draws"
    kept = {name: catalogue.named(name, 8) for name in ("hmc-4", "hmc-8")}
    monkeypatch.setattr(catalogue, "candidates", lambda leapfrogs: kept)
    arguments = (folder, "--out", out, "--stream", "--kernel", "auto", "--draws")
    told, _ = told_by(capsys, *arguments, 50)
    assert [row["name"] for row in told["pilot"]] == [*kept]
    best = max(told["pilot"], key=lambda row: row["ess_per_second"])
    assert told["kernel"] == best["name"]
    assert f"hmc-{told['mixing']['leapfrogs']}" == told["kernel"]
    again, _ = told_by(capsys, *arguments, 60, "--resume")
    assert again["pilot"] == told["pilot"]  # not run again


def test_what_the_pilot_chose_is_not_known_of_draws_that_python_has_streamed(
    small_run, tmp_path, capsys
):
    fitted = load_model(small_run[0] / "model")
    fitted.sample(64, 50, warmup=200, seed=1, folder=tmp_path)
    words = [str(small_run[0]), "--out", str(tmp_path), "--stream", "--resume"]
    assert run(["sample", *words, "--kernel", "auto", "--draws", "60"]) == 2
    assert "expected the name of its kernel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--until", "ess"], "'' is no number"),
        (["--until", "ess=many"], "'many' is no number"),
        (["--until", "ess=-3"], "ess is -3.0"),
        (["--until", "rhat=1"], "rhat is 1.0"),
        (["--until", "seconds=3"], "expected ess=NUMBER"),
        (["--until", "ess=3", "--until", "ess=4"], "given twice"),
        (["--time-limit", "soon"], "--time-limit is 'soon'"),
        (["--time-limit", "0s"], "--time-limit is '0s'"),
        (["--kernel", "gibbs"], "expected one of auto, hmc"),
        (["--thin", "0"], "--thin is 0"),
        (["--draws", "3"], "--draws is 3"),
        (["--resume"], "pass --stream"),
        (["--stream", "--out", "draws.npz"], "ends in .npz"),
        (["--stream", "--overwrite"], "--overwrite does not go"),
        (["--out", "draws"], "--stream"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["sample", str(small_run[0]), *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []


def test_fewer_draws_than_asked_for_do_not_replace_others(small_run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "draws.npz"
    command = ["sample", str(small_run[0]), "--out", str(out), *FEW, "--draws"]
    assert run([*command, "60"]) in (0, 3)
    before = out.read_bytes()
    asked = count(1)
    heard = property(lambda self: next(asked) > 2, lambda self, value: None)
    monkeypatch.setattr("tiltflow.mcmc.interrupts.Interrupts.heard", heard, raising=False)
    assert run([*command, "200", "--overwrite"]) == 130
    assert out.read_bytes() == before
    with np.load(tmp_path / "draws-unfinished.npz") as arrays:
        number = arrays["x"].shape[1]
    assert 0 < number < 200
    assert f"draws-unfinished.npz holds the {number} draws" in capsys.readouterr().err


def test_a_model_that_is_not_sound_is_told_in_json(small_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    path = folder / "model" / "weights.safetensors"
    arrays = dict(safetensors.numpy.load_file(path))
    arrays["tilt.layers.1.weight"] *= np.nan
    safetensors.numpy.save_file(arrays, path)
    told, status = told_by(capsys, folder, "--out", tmp_path / "draws.npz")
    assert status == 3
    assert told["verdict"]["status"] == "failed"
    assert "not finite" in told["verdict"]["text"]


def test_durations():
    assert [seconds_of(words, "--budget") for words in ("90", "90s", "2m", "1.5h", ".5m")] == [
        90, 90, 120, 5400, 30,
    ]  # fmt: skip


@pytest.mark.parametrize("words", ["0", "-1s", "nan", "inf", "5d", "soon", ""])
def test_a_time_that_cannot_be_is_told_with_its_value(words):
    with pytest.raises(InputError, match=f"--budget is '{words}'; expected a time such as 60s"):
        seconds_of(words, "--budget")


def test_interrupted_it_keeps_the_draws_and_says_how_to_go_on(small_run, tmp_path):
    """The program itself, with the signal of a terminal."""
    out = tmp_path / "draws"
    command = ["sample", str(small_run[0]), "--out", str(out), "--stream", *FEW, "--draws"]
    program = subprocess.Popen(
        [sys.executable, "-c", "from tiltflow.cli.main import main; main()", *command, "100000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out.exists() and any(out.glob("*.json")) and load_draws(out).counts.draws):
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(signal.SIGINT)
    _, told = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "Traceback" not in told
    last = told.strip().splitlines()[-1]
    draws = load_draws(out).counts.draws
    assert last.startswith(f"tiltflow: interrupted after {draws} draws of each chain")
    assert last.endswith("--resume")
    assert run([*command, str(draws + 50), "--resume"]) in (0, 3)
    assert load_draws(out).counts.draws == draws + 50


def test_nobody_has_to_say_how_many_draws_are_enough(small_run, tmp_path, capsys):
    """Chains of small steps go on by themselves; a number that is given is kept to."""
    few = (small_run[0], "--kernel", "mala")
    told, _ = told_by(capsys, *few, "--out", tmp_path / "a.npz")
    assert 500 < told["mixing"]["draws"] <= 2_000
    assert told["stopped"] in ("ess and rhat", "draws")
    exactly, _ = told_by(capsys, *few, "--out", tmp_path / "b.npz", "--draws", 500)
    assert exactly["mixing"]["draws"] == 500
    assert exactly["mixing"]["ess_bulk_min"] < told["mixing"]["ess_bulk_min"]
    with np.load(tmp_path / "a.npz") as more, np.load(tmp_path / "b.npz") as fewer:
        np.testing.assert_array_equal(more["u"][:, :500], fewer["u"])
    well, _ = told_by(capsys, small_run[0], "--out", tmp_path / "c.npz")
    assert 500 <= well["mixing"]["draws"] < told["mixing"]["draws"]
    assert well["stopped"] == "ess and rhat"
