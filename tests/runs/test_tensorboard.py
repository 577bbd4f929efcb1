"""What TensorBoard would read: the numbers of the events, by step, and the figures."""

import os
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path

import pytest

from tiltflow.errors import InputError
from tiltflow.runs import tensorboard
from tiltflow.runs.tensorboard import TensorBoard, check_installed

pytest.importorskip("tensorboardX")

EVENTS = [
    {"time": 1.0, "phase": "backbone", "event": "progress", "step": 250, "nll_val": 93.5},
    {"time": 2.0, "phase": "backbone", "event": "kept", "step": 250, "nll_val": 93.5},
    {"time": 9.5, "phase": "tilt", "event": "stage", "step": 60, "stage": 3, "gain_val": 0.5,
     "learner": "population", "holds": True, "log_z": None, "share": float("nan")},
    {"time": 9.7, "phase": "tilt", "event": "looking", "step": 60, "done": 5, "total": 25},
    {"time": 9.9, "phase": "tilt", "event": "health", "why": "lag", "action": "rate halved"},
]  # fmt: skip


def records(folder):
    """The events in the folder's one file; TensorFlow's record format, lengths and checksums."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
    assert at == len(data)


def scalars(folder):
    return {
        (value.tag, event.step): value.simple_value
        for event in records(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def png(path):
    """A PNG of 3 by 2 black pixels."""

    def part(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0\0\0\0" * 2)
    content = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")
    path.write_bytes(content)
    return content


def test_every_number_of_a_step_is_a_scalar_but_how_far_a_look_is(tmp_path):
    with TensorBoard(tmp_path / "board") as board:
        for event in EVENTS:
            board.tell(**{name: value for name, value in event.items() if name != "time"})
        told = scalars(tmp_path / "board")  # before it is closed: it can be watched
    assert told == {
        ("backbone/nll_val", 250): 93.5,
        ("tilt/gain_val", 60): 0.5,
        ("tilt/holds", 60): 1.0,
    }
    board.close()


def test_a_run_that_is_gone_on_with_has_the_curves_of_one_that_never_stopped(tmp_path):
    folder = tmp_path / "board"
    with TensorBoard(folder) as board:
        board.tell("tilt", "stage", step=70, gain_val=9.0)  # after the checkpoint: cut off
    with TensorBoard(folder, EVENTS) as board:
        board.tell("tilt", "stage", step=80, gain_val=1.0)
    told = scalars(folder)
    assert ("tilt/gain_val", 70) not in told
    assert told["tilt/gain_val", 80] == 1.0
    assert told["backbone/nll_val", 250] == 93.5
    times = [event.wall_time for event in records(folder) if event.summary.value]
    assert times == sorted(times)
    assert times[2] - times[0] == pytest.approx(8.5, abs=1e-3)


def test_figures_are_there_as_they_are(tmp_path):
    content = png(tmp_path / "gain.png")
    with TensorBoard(tmp_path / "board") as board:
        board.show(tmp_path)
    (value,) = [v for event in records(tmp_path / "board") for v in event.summary.value]
    assert (value.tag, value.image.width, value.image.height) == ("report/gain", 3, 2)
    assert value.image.encoded_image_string == content


def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tiltflow\[tensorboard\]'"):
        check_installed()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line(tmp_path):
    with TensorBoard(tmp_path / "board") as board, ExitStack() as stack:
        board._stream.close()
        board._stream = stack.enter_context(Path("/dev/full").open("wb", buffering=0))
        with pytest.raises(InputError, match="No space left on device"):
            board.tell("tilt", "stage", step=1, gain_val=1.0)


def test_another_reader_finds_every_record_whole(tmp_path):
    """The checksums are those that the package itself writes, for the same record."""
    record_writer = pytest.importorskip("tensorboardX.record_writer")
    with TensorBoard(tmp_path / "board", EVENTS):
        pass
    theirs = record_writer.RecordWriter(str(tmp_path / "theirs"))
    for event in records(tmp_path / "board"):
        theirs.write(event.SerializeToString())
    theirs.flush()
    theirs.close()
    (ours,) = (tmp_path / "board").iterdir()
    assert (tmp_path / "theirs").read_bytes() == ours.read_bytes()
