"""`tiltflow fit --resume`: killed, interrupted or out of time, the numbers are the same."""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tiltflow.cli.main import run

SMALL = ("--config", str(Path(__file__).parent / "learns.toml"))
SMALL += ("--backbone", "coupling", "--checkpoint-every", "1steps", "--json")


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    """Figures say nothing of what is tested here, and take seconds; other processes draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiltflow.report.page.write_report", lambda folder, *, name: folder)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A ring, where a tilt learns something in a few stages."""
    chance = np.random.default_rng(0)
    angle = chance.uniform(0, 2 * np.pi, 1500)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    path = tmp_path_factory.mktemp("data") / "ring.npy"
    np.save(path, ring + 0.1 * chance.normal(size=ring.shape))
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The run that was never interrupted, and in which there is something to lose."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert fit(data, out) in (0, 3)
    metrics, events = numbers(out)
    kept = [event for event in events if event["event"] == "kept"]
    assert [event["phase"] for event in kept] == ["backbone", "tilt"]
    assert kept[0]["step"] == 500
    assert kept[1]["stage"] >= 4
    assert metrics["gain_nats"]["mean"] > 0
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


def test_the_same_data_may_lie_elsewhere(data, tmp_path):
    out = tmp_path / "run"
    assert fit(data, out, "--time-limit", "0.01s") == 130
    elsewhere = shutil.copy(data, tmp_path / "elsewhere.npy")
    assert fit(elsewhere, out, "--resume", "--time-limit", "0.01s") == 130
    assert f'source = "{elsewhere}"' in (out / "config.toml").read_text()


def refusal(capsys, data, out, *more):
    assert fit(data, out, *more) == 2
    return capsys.readouterr().err


def test_another_fit_is_not_gone_on_with(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert fit(data, out, "--time-limit", "0.01s") == 130
    capsys.readouterr()
    log = (out / "events.jsonl").read_bytes()
    assert "seed is 1, but" in refusal(capsys, data, out, "--resume", "--seed", "1")
    assert (out / "events.jsonl").read_bytes() == log  # the run says nothing of a refusal
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


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(0, id="in the backbone"),
        pytest.param(3, id="after a stage of the tilt"),
        pytest.param(5, id="after three stages", marks=pytest.mark.slow),
        pytest.param(8, id="in the chains"),
    ],
)
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


@pytest.mark.parametrize("text", ["0steps", "xsteps", "-1s", "often"])
def test_a_strange_interval_is_refused(text, data, tmp_path, capsys):
    assert (
        run(["fit", str(data), "--out", str(tmp_path / "run"), f"--checkpoint-every={text}"]) == 2
    )
    assert f"--checkpoint-every is '{text}'" in capsys.readouterr().err


@pytest.fixture
def own_programs(tmp_path, monkeypatch):
    """A process that is killed may leave half a program: what it writes is not for other tests."""
    compiled = tmp_path / "compiled"
    shutil.copytree(os.environ["JAX_COMPILATION_CACHE_DIR"], compiled)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))


@pytest.mark.parametrize(
    ("number", "ends", "stage"),
    [
        # Interrupted there in this process above, and between any two parts in test_kept_chains.py.
        pytest.param(signal.SIGKILL, -signal.SIGKILL, "chains", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, "backbone", marks=pytest.mark.slow),
        # Heard in this process above, and as a signal by `sample`.
        pytest.param(signal.SIGTERM, 130, "backbone", marks=pytest.mark.slow),
    ],
)
def test_struck_once_there_is_a_checkpoint_it_ends_in_the_same_numbers(
    number, ends, stage, data, whole, tmp_path, own_programs
):
    out = tmp_path / "run"
    worker = resumed(data, out)
    while worker.poll() is None and not list(out.glob(f"checkpoints/{stage}-*.safetensors")):
        time.sleep(0.02)
    worker.send_signal(number)
    _, words = worker.communicate()
    assert worker.returncode == ends
    assert ("go on with the same command and --resume" in words) == (ends == 130)
    assert (out / "UNFINISHED").exists()
    assert fit(data, out, "--resume") in (0, 3)
    assert numbers(out) == numbers(whole)


@pytest.mark.slow
def test_struck_at_random_moments_it_ends_in_the_same_numbers(data, whole, tmp_path, own_programs):
    """30 signals, one after the other; after each the folder opens and is gone on with."""
    signals = (signal.SIGTERM, *(signal.SIGKILL,) * 29)
    out, chance, struck = tmp_path / "run", random.Random(len(signals)), collections.Counter()
    longest = last_event(whole)["time"]
    while struck.total() < len(signals):
        number = signals[struck.total()]
        status, words = fit_struck(number, chance.uniform(0, longest), data, out)
        if status == -signal.SIGKILL or (number == signal.SIGTERM and status == 130):
            struck[last_event(out)["phase"]] += 1
            print(f"struck {struck.total()} times: {dict(struck)}", flush=True)
        else:
            assert status in (0, 3), words
            longest = max(1.0, 0.9 * longest)  # what is compiled already is faster
        assert status != 130 or "go on with the same command and --resume" in words
        assert "Traceback" not in words
        if (out / "metrics.json").exists() and not (out / "UNFINISHED").exists():
            assert numbers(out) == numbers(whole)
            shutil.rmtree(out)
    assert fit(data, out, "--resume") in (0, 3)
    assert numbers(out) == numbers(whole)


def resumed(data, out):
    """A process that begins the run, or goes on with it."""
    command = [sys.executable, "-m", "tiltflow", "fit", str(data), "--out", str(out), *SMALL]
    return subprocess.Popen(
        [*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def fit_struck(number, after, data, out):
    """The exit status and the words of a process that a signal meets `after` it has begun."""
    worker = resumed(data, out)
    while worker.poll() is None and not is_writing(worker.pid, out):
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(after)
    worker.send_signal(number)
    _, words = worker.communicate()
    return worker.returncode, words


def is_writing(process, out):
    """Whether the process has begun, or goes on with, the run."""
    with contextlib.suppress(OSError):
        return (out.parent / f".{out.name}.lock").read_text() == f"{process}\n"
    return False


def last_event(out):
    """Of a run, finished or not; before there is any, it is in the phase "start"."""
    lines = []
    with contextlib.suppress(OSError):
        lines = (out / "events.jsonl").read_text().split("\n")[:-1]
    return json.loads(lines[-1]) if lines else {"phase": "start", "time": 0.0}
