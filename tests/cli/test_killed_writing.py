"""What `tiltflow fit` leaves on disk if it is killed between any two of its operations there.

Signal 9 keeps what has reached the kernel and loses the rest. So the folder as it is just before
each operation, copied, is what a kill at that moment would leave; every one of the copies is then
gone on with. Learning is replaced by a few additions that keep their state as learning does;
everything that writes is the command's own.
"""

import os
import shutil
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.cli.main import run
from tiltflow.runs import RunStore, atomic

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
STAGES, STEPS = ("backbone", "tilt"), 3
WORKED = []  # steps that were computed


class Witness:
    """Copies `watched` to `copies`/NUMBER before each operation that changes it."""

    def __init__(self):
        self.watched = self.copies = None
        self.number, self.busy, self.at = 0, False, []
        sys.addaudithook(self._hear)

    def watch(self, watched, copies):
        self.watched, self.copies, self.number, self.at = watched, copies, 0, []
        copies.mkdir()

    def rest(self):
        self.watched = None

    def copy(self, words):
        if self.watched is None or self.busy:
            return
        self.busy = True
        try:
            shutil.copytree(self.watched, self.copies / str(self.number))
            self.number += 1
            self.at.append(words)
        finally:
            self.busy = False

    def _hear(self, event, arguments):
        if self.watched is None or self.busy or event not in OPERATIONS:
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        relative = isinstance(path, str | os.PathLike) and not os.path.isabs(path)
        if relative or str(path).startswith(str(self.watched)):
            self.copy(f"{event} {os.path.basename(str(path))}")


WITNESS = Witness()  # an audit hook cannot be removed: there is one, and it rests


class Sum:
    """Stands for a fitted model."""

    def __init__(self, values):
        self.values = values

    def save(self, folder):
        folder.mkdir(exist_ok=True)
        atomic.write_bytes(folder / "weights.safetensors", np.asarray(self.values).tobytes())


def additions(data, settings, *, seed, listen, keeper):
    """Stands for the experiment: stages of steps that depend on each other, and chains."""
    total = jnp.asarray(np.float32([seed, 1]))
    for stage in STAGES:
        if found := keeper.finished(stage, total):
            total, _ = found
            continue
        state, done, weight = total, 0, 1.0
        if found := keeper.last(stage, total):
            state, plain = found
            done, weight = plain["step"], plain["weight"]
        for step in range(done + 1, STEPS + 1):
            WORKED.append(step)
            weight /= 3
            state = jnp.asarray(np.asarray(state) * np.float32(1.1) + np.float32(weight))
            listen(stage, "added", step=step, sum=float(state[0]))
            keeper.offer(stage, step, state, {"step": step, "weight": weight})
        total = state
        keeper.finish(stage, total, {"ended": keeper.clock()})
    listen("sampling", "done", sum=float(total[1]))
    return SimpleNamespace(
        model=Sum(total),
        metrics={"sum": np.asarray(total).tolist()},
        evidence={"x": np.asarray(total)},
        converged=True,
    )


def page(folder, *, name):
    """Stands for the report."""
    atomic.write_text(folder / "report.html", name)


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """The command without learning, figures and words on the screen."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(100, 2)))
    monkeypatch.setattr("tiltflow.fitting.experiment.fit", additions)
    monkeypatch.setattr("tiltflow.report.page.write_report", page)
    monkeypatch.setattr("tiltflow.cli.show.show_metrics", lambda *_, **__: None)
    fsync = os.fsync

    def witnessed(descriptor):
        WITNESS.copy("fsync")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", witnessed)

    def fit(out, *more):
        every = ("--checkpoint-every", "1steps", "--json")
        return run(["fit", str(tmp_path / "data.npy"), "--out", str(out), *every, *more])

    yield fit
    WITNESS.rest()


def numbers(path):
    """What must be the same: metrics, events without times, the model, and which files are there.

    The files are those of the whole place, so that nothing is left over beside the run.
    """
    store = RunStore.open(path)
    events = [{k: v for k, v in event.items() if k != "time"} for event in store.events()]
    files = sorted(str(entry.relative_to(path.parent)) for entry in path.parent.rglob("*"))
    model = (path / "model" / "weights.safetensors").read_bytes()
    return store.metrics(), store.arrays("evidence")["x"].tolist(), events, model, files


def gone_on_with(fit, left, *more):
    """The exit status and the number of steps of going on with what a kill has left."""
    WORKED.clear()
    done = RunStore.open(left, whole=False).finished if (left / "config.toml").exists() else False
    status = fit(left, "--resume", *more)
    if done and not more:
        assert status == 2  # it was killed when all was done
        status = 0
    return status, len(WORKED)


def test_a_kill_between_any_two_operations_costs_nothing(fit, tmp_path):
    place, copies = tmp_path / "place", tmp_path / "copies"
    place.mkdir()
    WITNESS.watch(place, copies)
    assert fit(place / "run") == 0
    WITNESS.rest()
    expected = numbers(place / "run")
    assert WITNESS.number > 4 * len(STAGES) * STEPS  # each checkpoint is several operations
    worked = []
    for number, words in enumerate(WITNESS.at):
        where = f"killed before operation {number}, {words}"
        left = copies / str(number) / "run"
        status, steps = gone_on_with(fit, left)
        assert status == 0, where
        assert numbers(left) == expected, where
        worked.append(steps)
    assert worked[0] == len(STAGES) * STEPS
    assert worked[-1] == 0
    assert worked == sorted(worked, reverse=True)  # the later it was killed, the less is left to do


def test_a_kill_while_a_run_is_replaced_keeps_one_of_the_two(fit, tmp_path):
    place, copies = tmp_path / "place", tmp_path / "copies"
    place.mkdir()
    assert fit(place / "run") == 0
    former = numbers(place / "run")[:4]
    WITNESS.watch(place, copies)
    assert fit(place / "run", "--seed", "2", "--overwrite") == 0
    WITNESS.rest()
    expected = numbers(place / "run")
    assert expected[0] != former[0]
    gone = 0
    for number, words in enumerate(WITNESS.at):
        where = f"killed before operation {number}, {words}"
        left = copies / str(number) / "run"
        if not left.exists():
            gone += 1
            previous = next(left.parent.glob(".run.previous-*"))
            shutil.copytree(previous, copies / "previous" / "run", dirs_exist_ok=True)
            assert numbers(copies / "previous" / "run")[:3] == former[:3], where
        elif RunStore.open(left, whole=False).finished:
            assert numbers(left)[:4] in (former, expected[:4]), where
        status, _ = gone_on_with(fit, left, "--seed", "2", "--overwrite")
        assert status == 0, where
        assert numbers(left) == expected, where
    assert gone == 1  # between two renames


def test_a_replacement_that_was_begun_needs_no_second_leave(fit, tmp_path):
    """What --overwrite has begun is finished by --resume alone."""
    place, copies = tmp_path / "place", tmp_path / "copies"
    place.mkdir()
    assert fit(place / "run") == 0
    WITNESS.watch(place, copies)
    assert fit(place / "run", "--seed", "2", "--overwrite") == 0
    WITNESS.rest()
    middle = next(n for n, words in enumerate(WITNESS.at) if "metrics.json" in words)
    left = copies / str(middle) / "run"
    assert gone_on_with(fit, left, "--seed", "2") == (0, 0)
    assert numbers(left) == numbers(place / "run")


def test_the_witness_sees_a_file_that_is_written_in_place(fit, tmp_path):
    """The power twin: a writer that is not atomic leaves half a file, and that is seen."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "numbers").write_text("old")
    WITNESS.watch(place, tmp_path / "copies")
    with open(place / "numbers", "w") as stream:
        stream.write("new")
        os.fsync(stream.fileno())
    WITNESS.rest()
    seen = {(tmp_path / "copies" / str(n) / "numbers").read_text() for n in range(WITNESS.number)}
    assert seen == {"old", ""}
