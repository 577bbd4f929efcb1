"""At a run's path there is always a whole run or nothing, and never is a run lost."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.runs import RunStore


def make_run(path, seed=1, *, overwrite=False):
    with RunStore.create(path, overwrite=overwrite) as store:
        store.write_config({"seed": seed, "fit": {"rate": 1e-3}})
        store.log.write("tilt", "stage", gain=0.5)
        store.write_metrics({"gain": float("nan")})
        store.write_arrays("samples", {"x": np.arange(3)})
        (store.folder / "model").mkdir()
    return store


def fail(store, error):
    """A run that gets as far as its configuration."""
    with store:
        store.write_config({"seed": 2})
        raise error


def interrupt(store, seed):
    """A run that is interrupted after its first event."""
    store.write_config({"seed": seed})
    store.log.write("tilt", "stage", gain=0.5)
    store.abandon()


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path under `folder`, with content if it is a file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(action, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        action(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "no parents"])
def test_a_finished_run_reads_back(tmp_path, before):
    path = tmp_path / "a" / "b" / "run" if before == "no parents" else tmp_path / "run"
    if before == "an empty folder":
        path.mkdir()
    store = make_run(path)
    assert store.folder == store.path == path
    assert os.listdir(path.parent) == ["run"]
    run = RunStore.open(str(path))
    assert run.config() == {"seed": 1, "fit": {"rate": 1e-3}}
    assert run.metrics() == {"gain": None}
    assert [event["gain"] for event in run.events()] == [0.5]
    assert np.array_equal(run.arrays("samples")["x"], np.arange(3))
    assert (path / "model").is_dir()


def test_a_run_in_the_making_can_be_read(tmp_path):
    with RunStore.create(tmp_path / "run") as store:
        store.write_config({"seed": 1})
        store.log.write("tilt", "stage")
        assert store.folder == tmp_path / "run"
        assert "run is unfinished: go on with" in refusal(RunStore.open, store.folder)
        assert len(RunStore.open(store.folder, whole=False).events()) == 1
    assert len(RunStore.open(tmp_path / "run").events()) == 1


def test_an_unfinished_run_is_gone_on_with(tmp_path):
    interrupt(RunStore.create(tmp_path / "run"), seed=1)
    assert "holds an unfinished run" in refusal(RunStore.create, tmp_path / "run")
    with RunStore.create(tmp_path / "run", resume=True) as store:
        assert store.resumed
        assert not store.finished
        store.log.write("tilt", "stage", gain=0.6)
    assert [event["gain"] for event in RunStore.open(tmp_path / "run").events()] == [0.5, 0.6]
    assert os.listdir(tmp_path) == ["run"]
    assert "is finished: there is nothing to go on with" in refusal(
        RunStore.create, tmp_path / "run", resume=True
    )


def test_a_run_that_replaces_another_is_gone_on_with(tmp_path):
    make_run(tmp_path / "run", seed=1)
    interrupt(RunStore.create(tmp_path / "run", overwrite=True), seed=2)
    assert RunStore.open(tmp_path / "run").config()["seed"] == 1
    with RunStore.create(tmp_path / "run", overwrite=True, resume=True) as store:
        assert store.resumed
    assert RunStore.open(tmp_path / "run").config() == {"seed": 2}
    assert os.listdir(tmp_path) == ["run"]


def test_of_two_unfinished_runs_the_newer_is_gone_on_with(tmp_path):
    interrupt(RunStore.create(tmp_path / "run"), seed=1)
    interrupt(RunStore.create(tmp_path / "run", overwrite=True), seed=2)
    with RunStore.create(tmp_path / "run", overwrite=True, resume=True) as store:
        assert store.config() == {"seed": 2}
    assert RunStore.open(tmp_path / "run").config() == {"seed": 2}
    assert os.listdir(tmp_path) == ["run"]


def test_a_replacement_that_lost_its_run_is_kept_and_not_taken_for_another(tmp_path):
    make_run(tmp_path / "run", seed=1)
    interrupt(RunStore.create(tmp_path / "run", overwrite=True), seed=2)
    shutil.rmtree(tmp_path / "run")
    interrupt(RunStore.create(tmp_path / "run"), seed=3)
    with RunStore.create(tmp_path / "run", resume=True) as store:
        assert store.config() == {"seed": 3}
        (former,) = tmp_path.glob(".run.previous-*")
        assert RunStore.open(former, whole=False).config() == {"seed": 2}
    assert os.listdir(tmp_path) == ["run"]


def test_with_nothing_to_go_on_with_a_run_is_begun(tmp_path):
    with RunStore.create(tmp_path / "run", resume=True) as store:
        assert not store.resumed
        store.write_config({"seed": 1})
    assert RunStore.open(tmp_path / "run").config() == {"seed": 1}


def test_finishing_twice_and_finishing_what_was_opened_do_nothing(tmp_path):
    make_run(tmp_path / "run").finish()
    before = snapshot(tmp_path)
    RunStore.open(tmp_path / "run").finish()
    RunStore.open(tmp_path / "run").abandon()
    assert snapshot(tmp_path) == before


def test_a_run_without_a_configuration_is_not_finished(tmp_path):
    store = RunStore.create(tmp_path / "run")
    with pytest.raises(RuntimeError, match="write_config"):
        store.finish()
    store.abandon()
    assert os.listdir(tmp_path) == []


# The previous run --------------------------------------------------------------------------------


def test_overwriting_replaces_the_previous_run_at_the_end(tmp_path):
    make_run(tmp_path / "run", seed=1)
    with RunStore.create(tmp_path / "run", overwrite=True) as store:
        store.write_config({"seed": 2})
        assert RunStore.open(tmp_path / "run").config()["seed"] == 1
    assert RunStore.open(tmp_path / "run").config() == {"seed": 2}
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_leaves_the_previous_one(tmp_path, error):
    make_run(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(error):
        fail(RunStore.create(tmp_path / "run", overwrite=True), error())
    assert snapshot(tmp_path) == before


def test_a_failed_run_stays_readable_if_anything_happened(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.log.write("tilt", "stage")
    with pytest.raises(KeyboardInterrupt):
        fail(store, KeyboardInterrupt())
    events = RunStore.open(store.folder, whole=False).events()
    assert [event["event"] for event in events] == ["stage", "stopped"]
    assert events[1]["why"] == "KeyboardInterrupt"


def test_what_was_to_replace_a_run_that_is_gone_is_named(tmp_path):
    make_run(tmp_path / "run")
    store = RunStore.create(tmp_path / "run", overwrite=True)
    store.log.write("tilt", "stage")
    with pytest.raises(KeyboardInterrupt):
        fail(store, KeyboardInterrupt())
    shutil.rmtree(tmp_path / "run")
    assert "beside it are .run.partial" in refusal(RunStore.open, tmp_path / "run")


def test_a_failed_first_run_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail(RunStore.create(tmp_path / "run"), KeyboardInterrupt())
    assert os.listdir(tmp_path) == []


def failing_rename(failing_call: int, error: BaseException):
    """`os.rename`, of which one call fails."""
    calls = iter(range(1, 10))

    def rename(source, target):
        if next(calls) == failing_call:
            raise error
        os.replace(source, target)

    return rename


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_disk_that_refuses_the_move_loses_neither_run(tmp_path, monkeypatch, failing_call):
    make_run(tmp_path / "run", seed=1)
    store = RunStore.create(tmp_path / "run", overwrite=True)
    store.write_config({"seed": 2})
    error = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(os, "rename", failing_rename(failing_call, error))
    assert "run cannot be written (Input/output error)" in refusal(store.finish)
    assert RunStore.open(tmp_path / "run").config()["seed"] == 1
    assert RunStore.open(store.folder, whole=False).config()["seed"] == 2


def test_a_machine_that_stops_between_the_moves_loses_neither_run(tmp_path, monkeypatch):
    make_run(tmp_path / "run", seed=1)
    store = RunStore.create(tmp_path / "run", overwrite=True)
    store.write_config({"seed": 2})
    monkeypatch.setattr(os, "rename", failing_rename(2, SystemExit()))
    with pytest.raises(SystemExit):
        store.finish()
    (lock,) = tmp_path.glob("*.lock")
    lock.unlink()
    partial, previous = sorted(os.listdir(tmp_path))
    assert RunStore.open(tmp_path / partial, whole=False).config()["seed"] == 2
    assert RunStore.open(tmp_path / previous).config()["seed"] == 1
    assert f"{partial}, {previous}" in refusal(RunStore.open, tmp_path / "run")


def test_of_two_runs_for_one_path_the_first_to_begin_has_it(tmp_path):
    first = RunStore.create(tmp_path / "run")
    first.write_config({"seed": 2})
    for overwrite in (False, True):
        words = refusal(RunStore.create, tmp_path / "run", overwrite=overwrite)
        assert f"run is being written by process {os.getpid()}" in words
    first.finish()
    assert RunStore.open(tmp_path / "run").config()["seed"] == 2


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "overwrite", "words"),
    [
        ("run", False, "run is not empty: choose another folder, or pass --overwrite"),
        ("home", False, "home is not empty"),
        ("home", True, "home is not a run"),
        ("file", True, "file is a file; expected a new folder"),
        ("file/run", False, "file is a file; expected a folder for run"),
        ("file/a/run", False, "file is a file"),
        (".", True, "holds the current folder"),
        ("/", True, "mount point"),
        ("x" * 300, False, "cannot be written (File name too long)"),
    ],
)
def test_bad_targets_change_nothing(tmp_path, monkeypatch, path, overwrite, words):
    make_run(tmp_path / "run")
    (tmp_path / "file").write_text("file")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    assert words in refusal(RunStore.create, path, overwrite=overwrite)
    assert snapshot(tmp_path) == before


def test_a_parent_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} is not writable" in refusal(RunStore.create, tmp_path / "a" / "run")
    assert os.listdir(tmp_path) == []


def test_a_link_to_a_run_is_followed(tmp_path):
    make_run(tmp_path / "disk" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    make_run(tmp_path / "link", seed=2, overwrite=True)
    assert RunStore.open(tmp_path / "disk" / "run").config()["seed"] == 2
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("path", ["missing", "file", "folder", "missing/run"])
def test_what_is_not_a_run_is_not_opened(tmp_path, path):
    (tmp_path / "file").write_text("file")
    (tmp_path / "folder").mkdir()
    assert "expected a folder made by `tiltflow fit`" in refusal(RunStore.open, tmp_path / path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.toml", b"seed = ", "config.toml is not TOML"),
        ("config.toml", b"\xff", "config.toml is not TOML"),
        ("metrics.json", b'{"gain": ', "metrics.json is not JSON"),
        ("metrics.json", b"[" * 100_000, "metrics.json is not JSON"),
        ("metrics.json", b"3", "metrics.json is not a JSON object"),
        ("metrics.json", None, "metrics.json cannot be read"),
        ("events.jsonl", b"x\n", "events.jsonl, line 1 is not JSON"),
        ("samples.npz", b"PK", "samples.npz is not a whole .npz file"),
        ("samples.npz", None, "samples.npz cannot be read"),
    ],
)
def test_corrupt_files_are_named(tmp_path, name, content, words):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink() if content is None else path.write_bytes(content)
    run = RunStore.open(tmp_path / "run")
    readers = {
        "config": run.config,
        "metrics": run.metrics,
        "events": run.events,
        "samples": lambda: run.arrays("samples"),
    }
    assert words in refusal(readers[path.stem])
