"""A file is written whole or not at all, whatever fails in between."""

import errno
import json
import os
import tomllib

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.runs import atomic, reading

WRITERS = {
    "bytes": (atomic.write_bytes, b"new"),
    "text": (atomic.write_text, "neu: Größe\n"),
    "json": (atomic.write_json, {"new": 1}),
    "toml": (atomic.write_toml, {"new": 1}),
    "arrays": (atomic.write_arrays, {"new": np.arange(3)}),
}


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def disk_full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_new_content_replaces_old(tmp_path, writer):
    write, value = writer
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write(path, value)
    assert b"old" not in path.read_bytes()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_content_alone(tmp_path, monkeypatch, writer, call):
    write, value = writer
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, disk_full)
    with pytest.raises(InputError, match=r"file cannot be written \(No space left on device\)"):
        write(path, value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_named(tmp_path, writer):
    write, value = writer
    with pytest.raises(InputError, match=r"there/file cannot be written"):
        write(tmp_path / "there" / "file", value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("write", "value", "error"),
    [
        (atomic.write_json, {"a": {1, 2}}, TypeError),
        (atomic.write_json, 1j, TypeError),
        (atomic.write_toml, {"a": [None]}, TypeError),
        (atomic.write_arrays, {"a": np.arange(3), "b": np.array([{}])}, ValueError),
    ],
)
def test_what_cannot_be_said_leaves_no_file(tmp_path, write, value, error):
    with pytest.raises(error):
        write(tmp_path / "file", value)
    assert os.listdir(tmp_path) == []


def test_permissions_are_the_users(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic.write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_keeps_order_and_says_null_for_what_is_not_finite(tmp_path):
    value = {
        "z": np.float32(0.5),
        "a": [float("nan"), np.float64("inf"), -np.inf],
        "array": np.array([[1.0, np.nan]]),
        "flag": np.bool_(True),
        "path": tmp_path,
        3: (None, np.int64(4), "Größe"),
    }
    atomic.write_json(tmp_path / "file", value)
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert text.startswith('{\n  "z": 0.5,\n')
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "z": 0.5,
        "a": [None, None, None],
        "array": [[1.0, None]],
        "flag": True,
        "path": str(tmp_path),
        "3": [None, 4, "Größe"],
    }


def test_toml_leaves_none_out_and_keeps_infinity(tmp_path):
    table = {"seed": np.int64(1), "key": None, "fit": {"limit": float("inf"), "width": None}}
    atomic.write_toml(tmp_path / "file", table)
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {"seed": 1, "fit": {"limit": float("inf")}}


def test_arrays_come_back(tmp_path):
    arrays = {"file": np.eye(3, dtype=np.float32), "a/b": np.array(2), "none": np.zeros((0, 4))}
    atomic.write_arrays(tmp_path / "x.npz", arrays)
    for back in (reading.read_arrays(tmp_path / "x.npz"), np.load(tmp_path / "x.npz")):
        assert list(back) == list(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            assert np.array_equal(back[name], array)
