"""Every writer, with a disk that refuses at any moment: one line, and nothing that was is lost.

Each writer is first counted: how many calls does it make that a disk can refuse? Then it is made
to fail at each of them, and from there on, with a disk that is full, read-only or gone.
"""

import builtins
import errno
import functools
import io
import json
import os
import shutil

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import fit_units
from tiltflow.errors import InputError
from tiltflow.mcmc.sinks import Counts
from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.report import page
from tiltflow.report.comparison import compare
from tiltflow.report.comparison_page import write_comparison
from tiltflow.runs import EventLog, RunStore, atomic
from tiltflow.runs.checkpoint import Checkpoints
from tiltflow.runs.draws import DrawsFolder, load_draws
from tiltflow.runs.lock import Lock
from tiltflow.runs.tensorboard import TensorBoard

CODES = {"full": errno.ENOSPC, "read-only": errno.EROFS, "forbidden": errno.EACCES}
CALLS = ("fsync", "replace", "rename", "mkdir", "open", "truncate")
LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")


class Disk:
    """Refuses the calls that write from number `first` on; counts them."""

    def __init__(self, patch, code, first):
        self.calls = 0
        self._code, self._first = code, first
        for name in CALLS:
            patch.setattr(os, name, self._refusing(getattr(os, name), name == "open"))
        for module in (io, builtins):
            patch.setattr(module, "open", self._refusing_files(io.open))

    def _count(self):
        self.calls += 1
        if self.calls > self._first:
            raise OSError(self._code, os.strerror(self._code))

    def _refusing(self, call, opens):
        def refusing(*arguments, **settings):
            if not opens or arguments[1] & (os.O_WRONLY | os.O_RDWR):
                self._count()
            return call(*arguments, **settings)

        return refusing

    def _refusing_files(self, call):
        def refusing(file, mode="r", *arguments, **settings):
            if set(mode) & set("wax+"):
                self._count()
            return call(file, mode, *arguments, **settings)

        return refusing


def write_bytes(folder):
    atomic.write_bytes(folder / "a", b"new" * 5_000)


def write_arrays(folder):
    atomic.write_arrays(folder / "a", {"x": np.arange(3)})


def write_events(folder):
    with EventLog(folder / "a") as log:
        log.write("tilt", "stage", gain=0.5)


def draw(folder, done):
    """`done` draws and one more."""
    sink = DrawsFolder(folder / "draws", resume=True)
    try:
        sink.open({"key": "0"})
        rows = np.full((1, 4), done + 1.0)
        sink.write({"x": rows}, jnp.asarray(done + 1), Counts(done + 1, done + 1))
    finally:
        sink.close()


def save_checkpoint(folder, step=2):
    with EventLog(folder / "events.jsonl") as log:
        checkpoints = Checkpoints(folder / "checkpoints", log, every_steps=1)
        checkpoints.offer("tilt", step, {"x": jnp.asarray(step)}, {"step": step})


def newest_checkpoint(folder):
    with EventLog(folder / "events.jsonl") as log:
        found = Checkpoints(folder / "checkpoints", log).last("tilt", {"x": jnp.asarray(0)})
    assert found is not None
    return found[1]["step"]


@functools.cache
def fitted():
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    spec = specify(units, blocks=1, flow_width=4, tilt_width=4)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    return FittedModel(model, spec, LOG_Z, False, 0.5, 4)


def make_run(folder, seed):
    with RunStore.create(folder / "run", overwrite=True) as store:
        store.write_config({"seed": seed, "data": {"name": "x", "fingerprint": "a"}})
        store.log.write("tilt", "stage", step=1, gain_val=0.5)
        store.write_metrics({"seed": seed, "verdict": {"status": "ok"}})


def run_seed(folder):
    """Of the run that is there, or named as the one that was there before a move was refused."""
    if not (folder / "run").exists():
        (previous,) = folder.glob(".run.previous-*")
        with pytest.raises(InputError, match=previous.name):
            RunStore.open(folder / "run")
        return RunStore.open(previous).metrics()["seed"]
    return RunStore.open(folder / "run").metrics()["seed"]


def write_board(folder):
    with TensorBoard(folder / "board") as board:
        board.tell("tilt", "stage", step=1, gain_val=0.5)


def write_page(folder):
    page.write_report(folder / "run")


def compare_runs(folder):
    write_comparison(compare([folder / "run", folder / "other"]), folder / "a")


def two_runs(folder):
    make_run(folder, 1)
    shutil.copytree(folder / "run", folder / "other")
    (folder / "a").write_bytes(b"old")


def content(folder):
    return (folder / "a").read_bytes()


def old(folder):
    (folder / "a").write_bytes(b"old")


WRITERS = {
    "bytes": (old, write_bytes, content, {b"old", b"new" * 5_000}),
    "arrays": (old, write_arrays, lambda folder: content(folder)[:2], {b"ol", b"PK"}),
    "events": (write_events, write_events, lambda f: content(f).count(b'"gain": 0.5}\n'), {1, 2}),
    "draws": (
        lambda folder: draw(folder, 0),
        lambda folder: draw(folder, 1),
        lambda folder: load_draws(folder / "draws").arrays["x"][0].tolist(),
        {(1.0,), (1.0, 2.0)},
    ),
    "checkpoints": (lambda f: save_checkpoint(f, 1), save_checkpoint, newest_checkpoint, {1, 2}),
    "model": (
        lambda folder: None,
        lambda folder: fitted().save(folder / "model"),
        lambda folder: (
            (folder / "model" / "config.json").exists() and load_model(folder / "model").leapfrogs
        ),
        {False, 4},
    ),
    "run": (lambda f: make_run(f, 1), lambda f: make_run(f, 2), run_seed, {1, 2}),
    "tensorboard": (lambda folder: None, write_board, lambda folder: None, {None}),
    "report": (two_runs, write_page, run_seed, {1}),
    "comparison": (two_runs, compare_runs, lambda folder: content(folder)[:3], {b"old", b"<!d"}),
}


def hashable(value):
    return tuple(value) if isinstance(value, list) else value


def attempt(name, folder, code, first):
    """The writer's calls, and what it says, when the disk refuses after `first` of them."""
    prepare, write, _, _ = WRITERS[name]
    folder.mkdir()
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, code, first)
        try:
            write(folder)
        except InputError as error:
            return disk.calls, str(error)
    return disk.calls, None


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """No figure is drawn: it is not what is tested."""
    monkeypatch.setattr("tiltflow.report.figures.render", lambda picture: b"\x89PNG" + bytes(40))


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_refuses_at_any_moment_costs_nothing(name, tmp_path):
    if name == "tensorboard":
        pytest.importorskip("tensorboardX")
    _, _, state, allowed = WRITERS[name]
    attempt(
        name, tmp_path / "first", errno.ENOSPC, 10_000
    )  # JAX writes what it compiles on the way
    calls, words = attempt(name, tmp_path / "whole", errno.ENOSPC, 10_000)
    assert words is None
    assert calls >= 1
    assert hashable(state(tmp_path / "whole")) in allowed
    for kind, code in CODES.items():
        for first in range(calls):
            folder = tmp_path / f"{kind}-{first}"
            _, words = attempt(name, folder, code, first)
            assert words is not None, (kind, first)
            assert "\n" not in words
            assert f"cannot be written ({os.strerror(code)})" in words, (kind, first)
            assert hashable(state(folder)) in allowed, (kind, first)
            assert not list(folder.rglob("*.tmp"))
            assert not list(folder.rglob("*.lock"))


def test_a_writer_that_is_not_atomic_would_be_caught(tmp_path):
    """The power twin: written in place, a file that the disk refuses is lost."""

    def in_place(folder):
        with atomic.writing(folder), io.open(folder / "a", "wb") as stream:  # noqa: UP020
            os.fsync(stream.fileno())
            stream.write(b"new" * 5_000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WRITERS, "bytes", (old, in_place, content, WRITERS["bytes"][3]))
        _, words = attempt("bytes", tmp_path / "there", errno.ENOSPC, 1)
    assert words is not None
    assert content(tmp_path / "there") not in WRITERS["bytes"][3]


def test_a_run_whose_folder_is_deleted_under_way_says_so(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.write_config({"seed": 1})
    store.log.write("tilt", "stage", gain=0.5)
    shutil.rmtree(tmp_path / "run")
    for write in (
        lambda: store.log.write("tilt", "stage", gain=0.6),
        lambda: store.write_metrics({"seed": 1}),
        lambda: store.part("model"),
        store.finish,
    ):
        with pytest.raises(InputError, match=r"not any more|has been removed") as caught:
            write()
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="not any more"), store:
        store.log.write("tilt", "stage", gain=0.6)
    assert list(tmp_path.iterdir()) == []
    make_run(tmp_path, 2)  # and the lock is free
    assert run_seed(tmp_path) == 2


def test_a_folder_of_draws_that_is_deleted_under_way_says_so(tmp_path):
    for remove in (shutil.rmtree, lambda folder: (folder / "x.raw").unlink()):
        draw(tmp_path, 0)
        sink = DrawsFolder(tmp_path / "draws", resume=True)
        sink.open({"key": "0"})
        remove(tmp_path / "draws")
        with pytest.raises(InputError, match="cannot be written"):
            sink.write({"x": np.ones((1, 4))}, jnp.asarray(2), Counts(2, 2))
        sink.close()
        shutil.rmtree(tmp_path / "draws", ignore_errors=True)


def test_a_lock_on_a_disk_that_refuses(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, errno.EROFS, 0)
        with pytest.raises(InputError, match="Read-only file system"):
            Lock(tmp_path / ".lock", tmp_path, advice="wait")
    with Lock(tmp_path / ".lock", tmp_path, advice="wait"):
        assert json.loads((tmp_path / ".lock").read_text()) == os.getpid()
