"""`tiltflow fit --resume`: killed, interrupted or out of time, the numbers are the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tiltflow.cli.main import run

SMALL = (
    "--backbone-steps", "500", "--tilt-steps", "100", "--particles", "128", "--chains", "4",
    "--draws", "20", "--checkpoint-every", "1steps", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three columns, one of them bent."""
    z = np.random.default_rng(0).normal(size=(400, 3))
    z[:, 2] += z[:, 0] ** 2
    path = tmp_path_factory.mktemp("data") / "bent.npy"
    np.save(path, z)
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The run that was never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert fit(data, out) in (0, 3)
    return out


def fit(data, out, *more):
    return run(["fit", str(data), "--out", str(out), *SMALL, *more])


def numbers(folder):
    """The metrics without times, and the events without theirs."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("seconds")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for event in events:
        for name in ("time", "seconds", "rate"):
            event.pop(name, None)
    return metrics, events


class HeardAt:
    """Stands for `Interrupts`: hears a signal when it is asked for the nth time."""

    def __init__(self, asked):
        self.left = asked

    def __call__(self, *, active):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def heard(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("asked", [0, 2, 4, 5])
def test_interrupted_anywhere_it_goes_on_to_the_same_numbers(
    asked, data, whole, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("tiltflow.mcmc.interrupts.Interrupts", HeardAt(asked))
        assert fit(data, out) == 130
    assert "go on with the same command and --resume" in capsys.readouterr().err
    assert (out / "UNFINISHED").exists()
    assert fit(data, out, "--resume") in (0, 3)
    assert numbers(out) == numbers(whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def test_the_end_of_the_time_limit_is_an_interruption(data, whole, tmp_path, capsys):
    out = tmp_path / "run"
    assert fit(data, out, "--time-limit", "0.01s") == 130
    assert "the time limit is reached" in capsys.readouterr().err
    assert "holds an unfinished run" in refusal(capsys, data, out)
    assert fit(data, out, "--resume") in (0, 3)
    assert numbers(out) == numbers(whole)


def refusal(capsys, data, out, *more):
    assert fit(data, out, *more) == 2
    return capsys.readouterr().err


def test_another_fit_is_not_gone_on_with(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert fit(data, out, "--time-limit", "0.01s") == 130
    capsys.readouterr()
    assert "seed is 1, but" in refusal(capsys, data, out, "--resume", "--seed", "1")
    other = tmp_path / "bent.npy"
    np.save(other, np.load(data) + 1)
    assert "data" in refusal(capsys, other, out, "--resume")
    moved = np.load(data) + 1
    kept = np.load(data)
    np.save(data, moved)
    try:
        assert "the data have changed" in refusal(capsys, data, out, "--resume")
    finally:
        np.save(data, kept)


@pytest.mark.parametrize("text", ["0steps", "xsteps", "-1s", "often"])
def test_a_strange_interval_is_refused(text, data, tmp_path, capsys):
    assert (
        run(["fit", str(data), "--out", str(tmp_path / "run"), f"--checkpoint-every={text}"]) == 2
    )
    assert f"--checkpoint-every is '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_in_the_same_numbers(kills, data, whole, tmp_path):
    """Signal 9, again and again; after each the folder opens and a whole state is gone on with."""
    out, chance = tmp_path / "run", random.Random(kills)
    command = [sys.executable, "-m", "tiltflow", "fit", str(data), "--out", str(out), *SMALL]
    command.append("--resume")
    done = 0
    while done < kills:
        before = newest(out)
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while worker.poll() is None and newest(out) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 2))
        worker.send_signal(signal.SIGKILL)
        _, words = worker.communicate()
        assert b"Traceback" not in words
        if worker.returncode != -signal.SIGKILL:  # it was finished before
            assert numbers(out) == numbers(whole)
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            out.rmdir()
        done += 1
    assert fit(data, out, "--resume") in (0, 3)
    assert numbers(out) == numbers(whole)


def newest(out):
    """When the newest checkpoint was written."""
    try:
        return max(entry.stat().st_mtime_ns for entry in os.scandir(out / "checkpoints"))
    except (OSError, ValueError):
        return 0
