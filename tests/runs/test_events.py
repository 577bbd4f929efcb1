"""Events are lines of JSON, on disk when `write` returns, readable after any crash."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.runs import EventLog, events, read_events


def test_every_event_is_a_line_at_once(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    clock = iter([10.0, 10.5, 12.34567])
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with EventLog(path) as log:
        log.write("backbone", "epoch", loss=np.float32(0.5), step=np.int64(3))
        assert json.loads(path.read_text()) == {
            "time": 0.5,
            "phase": "backbone",
            "event": "epoch",
            "loss": 0.5,
            "step": 3,
        }
        log.write("tilt", "stage", loss=float("nan"), share=[np.inf, 0.25])
    assert read_events(path)[1] == {
        "time": 2.346,
        "phase": "tilt",
        "event": "stage",
        "loss": None,
        "share": [None, 0.25],
    }


def test_the_key_order_is_time_phase_event(tmp_path):
    with EventLog(tmp_path / "x") as log:
        log.write("tilt", "stage", a=1)
    assert list(read_events(tmp_path / "x")[0]) == ["time", "phase", "event", "a"]


def test_a_torn_last_line_is_skipped_then_cut_off(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n": 3')
    assert read_events(path) == [{"n": 1}, {"n": 2}]
    with EventLog(path) as log:
        log.write("tilt", "resumed")
    assert [event.get("event") for event in read_events(path)] == [None, None, "resumed"]


def test_a_new_log_has_no_events(tmp_path):
    EventLog(tmp_path / "x").close()
    assert read_events(tmp_path / "x") == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"n": 1}\n{"n": \n{"n": 3}\n', "line 2 is not JSON"),
        (b"\xff\n", "line 1 is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1 is not JSON"),
        (b"[1]\n", "line 1 is not a JSON object"),
    ],
)
def test_a_corrupt_line_is_named(tmp_path, content, words):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_events(tmp_path / "x")


def test_a_missing_log_and_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "x")
    with pytest.raises(InputError, match="cannot be written"):
        EventLog(tmp_path / "folder" / "x")


def test_the_time_is_the_logs_own(tmp_path):
    with EventLog(tmp_path / "x") as log, pytest.raises(TypeError, match="time"):
        log.write("tilt", "stage", time=3)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk():
    log = EventLog.__new__(EventLog)
    log.path, log._opened = "/dev/full", 0.0
    with open("/dev/full", "wb", buffering=0) as log._stream, pytest.raises(InputError) as caught:
        log.write("tilt", "stage")
    assert "No space left" in str(caught.value)
