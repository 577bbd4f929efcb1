"""One writer at a time: the second is told whose the folder is, and a dead one locks nothing."""

import os
import signal
import subprocess
import sys

import pytest

from tiltflow.errors import InputError
from tiltflow.runs.lock import Lock

pytest.importorskip("fcntl")

LOCK = ".lock"
OWNER = """
import sys
from pathlib import Path
from tiltflow.runs.lock import Lock
folder = Path(sys.argv[1])
with Lock(folder / ".lock", folder, advice="wait"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def lock(folder):
    return Lock(folder / LOCK, folder, advice="wait for it")


@pytest.fixture
def owner(tmp_path):
    """Another process that has the lock on `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_the_first_is_named(tmp_path, owner):
    with pytest.raises(InputError) as caught:
        lock(tmp_path)
    assert str(caught.value) == f"{tmp_path} is being written by process {owner.pid}: wait for it"
    assert os.listdir(tmp_path) == [LOCK]
    owner.communicate("")  # it ends as it should
    lock(tmp_path).release()
    assert os.listdir(tmp_path) == []


def test_a_killed_owner_locks_nothing(tmp_path, owner):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert os.listdir(tmp_path) == [LOCK]
    with lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
        with pytest.raises(InputError, match=f"by process {os.getpid()}"):
            lock(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_lock_that_was_released_under_way_is_taken_anew(tmp_path, monkeypatch):
    """Its last owner removes the file between our opening and our locking it."""
    first, opened = lock(tmp_path), os.open
    calls = []

    def open_then_lose(path, *arguments):
        descriptor = opened(path, *arguments)
        calls.append(path)
        if len(calls) == 1:
            first.release()
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with lock(tmp_path):
        assert len(calls) == 2
        with pytest.raises(InputError):
            lock(tmp_path)


def test_a_folder_that_is_gone_can_be_released(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    held = lock(folder)
    (folder / LOCK).unlink()
    folder.rmdir()
    held.release()
    held.release()
    with pytest.raises(InputError, match="cannot be written"):
        lock(folder)
