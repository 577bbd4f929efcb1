"""Damaged files: some hundreds in the suite, ten thousand in `pytest -m slow`."""

import json
import subprocess
import sys
from pathlib import Path

import mutations
import pytest
from mutations import READERS, attempt

from tiltflow.errors import InputError

pytest.importorskip("pyarrow")
pytest.importorskip("PIL.Image")

FEW, MANY = 36, 720


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_loads_or_is_refused(reader, tmp_path):
    loaded, slowest = attempt(reader, FEW, 1, tmp_path)
    assert loaded < FEW  # the damage is real
    assert slowest < mutations.SECONDS


def test_another_error_is_found(tmp_path, monkeypatch):
    """The power twin: a reader that lets an error through, and one that does not end."""

    def lets_through(path):
        content = (path / "x.npy").read_bytes()
        if content != whole:
            raise KeyError("descr")

    def hangs(path):
        damaged = (path / "x.npy").read_bytes() != whole
        while damaged:
            pass

    whole = READERS["npy"][1]()
    monkeypatch.setattr(mutations, "SECONDS", 0.2)
    for read in (lets_through, hangs):
        monkeypatch.setitem(READERS, "npy", ("x.npy", lambda: whole, read))
        with pytest.raises(AssertionError, match="npy, seed 1, file 0"):
            attempt("npy", 5, 1, tmp_path / read.__name__)


def test_a_refusal_is_no_failure(tmp_path, monkeypatch):
    def refuses(path):
        if (path / "x.npy").read_bytes() != whole:
            raise InputError("no")

    whole = READERS["npy"][1]()
    monkeypatch.setitem(READERS, "npy", ("x.npy", lambda: whole, refuses))
    assert attempt("npy", 5, 1, tmp_path)[0] < 5


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_many_damaged_files_within_bounded_memory(reader):
    done = subprocess.run(
        [sys.executable, Path(mutations.__file__), reader, str(MANY), "7"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    print(reader, told)
    assert told["loaded"] < MANY
    assert told["grown_mib"] < mutations.MEMORY / 2**20
