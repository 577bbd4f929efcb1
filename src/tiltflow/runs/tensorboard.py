"""A run's events for TensorBoard: every number that an event tells of a step is a scalar.

It hears what the event log hears, after the compiled loops have come back, and draws figures when
they are there. The folder follows from `events.jsonl` and is made anew from it when a run is gone
on with, so that TensorBoard shows the curves of a run that was never interrupted. It needs the
package tensorboardX, `pip install 'tiltflow[tensorboard]'`, and is written without a thread, so
that a disk that is full is told at once.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from tiltflow.errors import InputError
from tiltflow.runs.atomic import writing
from tiltflow.runs.reading import read_bytes

FOLDER = "tensorboard"
_PLACE = ("step", "steps", "stage", "time", "phase", "event", "done", "total")


def check_installed() -> None:
    """Raises InputError if there is no tensorboardX."""
    if find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard needs the package tensorboardX, which is not installed: pip install "
            "'tiltflow[tensorboard]'"
        )


class TensorBoard:
    """Writes a folder that `tensorboard --logdir` opens.

    Attributes:
        folder: of the event files.
    """

    def __init__(self, folder: Path, events: Iterable[Mapping[str, Any]] = ()) -> None:
        """Begin `folder`, in place of what is there, with the events of a run so far.

        Args:
            folder: of this run alone.
            events: as `EventLog` has them, with their `time` in seconds.

        Raises:
            InputError: no tensorboardX, or the disk refuses.
        """
        check_installed()
        self.folder = Path(folder)
        self._event: Any = import_module("tensorboardX.proto.event_pb2").Event
        self._summary: Any = import_module("tensorboardX.proto.summary_pb2").Summary
        self._checksum: Any = import_module("tensorboardX.crc32c").crc32c
        with writing(self.folder):
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            name = f"events.out.tfevents.{int(time.time())}.tiltflow"
            self._stream = (self.folder / name).open("xb", buffering=0)
        self._record(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        former = list(events)
        began = time.time() - max((float(event.get("time", 0)) for event in former), default=0.0)
        for event in former:
            self._tell(event, began + float(event.get("time", 0)))

    def tell(self, phase: str, event: str, **fields: Any) -> None:
        """An event of the run, as `EventLog.write` takes it; raises InputError as that does."""
        self._tell({"phase": phase, "event": event, **fields}, time.time())

    def show(self, pictures: Path) -> None:
        """Every PNG in the folder `pictures`, by its name."""
        for path in sorted(pictures.glob("*.png")):
            png = read_bytes(path)
            picture = self._summary.Image(
                width=int.from_bytes(png[16:20], "big"),
                height=int.from_bytes(png[20:24], "big"),
                encoded_image_string=png,
            )
            value = self._summary.Value(tag=f"report/{path.stem}", image=picture)
            self._write([value], 0, time.time())

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._stream.close()

    def __enter__(self) -> TensorBoard:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _tell(self, event: Mapping[str, Any], when: float) -> None:
        step = event.get("step")
        if not isinstance(step, int):
            return
        values = [
            self._summary.Value(tag=f"{event['phase']}/{name}", simple_value=float(value))
            for name, value in event.items()
            if name not in _PLACE and _is_number(value)
        ]
        if values:
            self._write(values, step, when)

    def _write(self, values: list[Any], step: int, when: float) -> None:
        self._record(self._event(wall_time=when, step=step, summary=self._summary(value=values)))

    def _record(self, event: Any) -> None:
        """Append an event: its length and its bytes, each with a checksum (TFRecord)."""
        data = event.SerializeToString()
        length = len(data).to_bytes(8, "little")
        record = length + self._masked(length) + data + self._masked(data)
        with writing(self.folder):
            if self._stream.write(record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _masked(self, data: bytes) -> bytes:
        """The checksum of a record, rotated and shifted as the format asks."""
        crc = self._checksum(data)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return masked.to_bytes(4, "little")


def _is_number(value: Any) -> bool:
    """Whether a curve can go through the value; truth values are 0 and 1."""
    return isinstance(value, int | float) and math.isfinite(value)
