"""Several processes of `tiltflow fit`: one folder and one voice; one is lost, or they differ."""

import json
import signal
import time

import numpy as np
import pytest
from children import ended, free_port, started

from tiltflow.cli.fit import _undivided
from tiltflow.cli.main import run
from tiltflow.fitting.settings import Settings
from tiltflow.parallel import watchdog

MANY = ("--backbone-steps", "100000", "--checkpoint-every", "1steps", "--json")
LITTLE = """
[model]
units = "standardise"
blocks = 1
flow_width = 8
[backbone]
batch = 64
patience = 1000
"""
CHUNKS = 4  # of the backbone's steps, that are compared


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "points.npy"
    (path.parent / "little.toml").write_text(LITTLE)
    np.save(path, np.random.default_rng(0).normal(size=(600, 2)))
    return path


def fit(data, out):
    """The words of a fit that has a small backbone and would go on for long."""
    return [
        "fit",
        str(data),
        "--out",
        str(out),
        *MANY,
        "--config",
        str(data.parent / "little.toml"),
    ]


def pair(data, out, *settings):
    """Two processes of a fit; each has the settings of its own."""
    port = free_port()
    return [
        started(
            "-m", "tiltflow", *fit(data, out), "--coordinator", f"127.0.0.1:{port}",
            "--processes", 2, "--process-id", number, *own,
        )
        for number, own in enumerate(settings or ((), ()))
    ]  # fmt: skip


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


def alone(data, out, asked, monkeypatch, *more):
    """One process, this one, that is interrupted when it is asked once more; its validation."""
    with monkeypatch.context() as patch:
        patch.setattr("tiltflow.mcmc.interrupts.Interrupts", HeardAt(asked))
        assert run([*fit(data, out), *more]) == 130
    return validation(out)


def validation(out):
    """The backbone's score after each chunk."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return {e["step"]: e["nll_val"] for e in events if e["event"] == "progress"}


@pytest.fixture
def learning(data, tmp_path):
    """Two processes of a fit of which there is a checkpoint, and where it is."""
    out = tmp_path / "run"
    children = pair(data, out)
    try:
        while not list(out.glob("checkpoints/*250.safetensors")):
            assert all(child.poll() is None for child in children)
            time.sleep(0.05)
        yield children, out
    finally:
        for child in children:
            child.kill()


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_one_is_killed_and_one_alone_goes_on(lost, data, learning, tmp_path, monkeypatch, capsys):
    """The other ends at once with a line, and what is there goes on to the same numbers."""
    children, out = learning
    children[lost].send_signal(signal.SIGKILL)
    status, words, told = ended(children[1 - lost], seconds=60)
    ended(children[lost])
    assert status not in (0, None)
    assert words == ""
    assert told.splitlines() == [
        f"tiltflow: process {lost} has ended before its time, and no other can go on without it; "
        f"the last checkpoint is whole: start all again with --resume"
    ]
    if lost == 0:
        return
    done = len(list(validation(out)))
    assert done >= 1
    resumed = alone(data, out, CHUNKS, monkeypatch, "--resume")
    whole = alone(data, tmp_path / "whole", len(resumed) - 1, monkeypatch)
    assert len(resumed) > done
    assert list(resumed) == list(whole)
    assert np.allclose(list(resumed.values()), list(whole.values()), rtol=1e-4)


def test_processes_that_differ_all_say_so(data, tmp_path):
    children = pair(data, tmp_path / "run", ("--seed", "1"), ("--seed", "2"))
    (first, _, no_words), (second, _, words) = map(ended, children)
    assert first == second == 2
    assert "another process has other data or settings" in no_words
    assert "seed is 2, but 1 in process 0" in words
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--processes", "2"), "no --coordinator"),
        (("--coordinator", "here", "--processes", "2", "--process-id", "0"), "HOST:PORT"),
        (("--coordinator", "a:1", "--processes", "2"), "--process-id None"),
        (("--coordinator", "a:1", "--processes", "2", "--process-id", "2"), "--process-id 2"),
        (("--coordinator", "a:1", "--distributed"), "expected one of them"),
    ],
)
def test_a_mistake_is_told_before_anybody_is_waited_for(words, expected, data, tmp_path, capsys):
    assert run(["fit", str(data), "--out", str(tmp_path / "run"), *words]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1


def test_what_cannot_be_divided_is_said():
    words = _undivided(Settings(), 3)
    assert words.startswith("3 devices do not divide 2,048 particles")
    assert _undivided(Settings(), 2) == _undivided(Settings(), 1) == ""


ABORTED = [
    "E1123 22:38:29 26718 coordination_service.cc:1549] Use error polling: the following tasks are "
    "unhealthy (stopped sending heartbeats):\n",
    "3\n",
    "The tasks have crashed. Check the task logs for an earlier error.\n",
    f"F1123 22:38:29 26728 client.h:80] Terminating process because the {watchdog.LOST}.\n",
    "    @     0x7f8090e40634  absl::LogMessage::SendToLog()\n",
]


def test_the_herald_makes_a_line_of_a_page():
    told = list(watchdog.told(["a warning\n", *ABORTED], me=0, processes=8))
    assert told[0] == "a warning\n"
    assert [line.split(" has ended")[0] for line in told[1:]] == ["tiltflow: process 3"]


def test_the_herald_keeps_nothing_back_for_good():
    lines = ["a warning\n", ABORTED[0], ABORTED[2], "the last words\n"]
    assert list(watchdog.told(lines, me=0, processes=8)) == lines
