"""What happened during a run: one JSON object a line, readable while it happens."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tiltflow.errors import InputError
from tiltflow.runs.atomic import writing
from tiltflow.runs.encode import to_json
from tiltflow.runs.reading import json_object, read_bytes


class EventLog:
    """An append-only log; an event is in the file when `write` returns.

    An event counts once its line has an end. What a crash left after the last line end is cut
    off when the log is opened again, and not seen by `read_events`.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; raises InputError if the disk refuses."""
        self.path = Path(path)
        self._opened = time.monotonic()
        with writing(self.path):
            self._stream = self.path.open("ab", buffering=0)
            self._stream.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    @property
    def size(self) -> int:
        """Bytes written so far; 0 of a log that is closed."""
        return 0 if self._stream.closed else self._stream.seek(0, os.SEEK_END)

    def cut(self, size: int, seconds: float) -> None:
        """Forget the events after the first `size` bytes; `seconds` had gone by then.

        Raises:
            InputError: the log is shorter, so it is another one; or the disk refuses.
        """
        if self.size < size:
            raise InputError(
                f"{self.path} is shorter than when the last checkpoint was written: it is damaged; "
                f"begin again with --overwrite"
            )
        with writing(self.path):
            self._stream.truncate(size)
        self._opened = time.monotonic() - seconds

    def sync(self) -> None:
        """Force the log to disk; raises InputError if the disk refuses."""
        with writing(self.path):
            os.fsync(self._stream.fileno())

    def write(self, phase: str, event: str, **fields: Any) -> None:
        """Append one event, with `time`: seconds since the run was begun, to the millisecond.

        Args:
            phase: the part of the run, such as `"backbone"`.
            event: what happened in it, such as `"epoch"`.
            fields: values for `to_json`, under any name but `time`.

        Raises:
            InputError: the disk is full or gone.
            TypeError: a field that JSON cannot say, or one called `time`.
        """
        if "time" in fields:
            raise TypeError("an event's `time` is set by the log: give the field another name")
        seconds = round(time.monotonic() - self._opened, 3)
        line = to_json({"time": seconds, "phase": phase, "event": event, **fields}) + "\n"
        data = line.encode()
        with writing(self.path):
            if os.fstat(self._stream.fileno()).st_nlink == 0:  # the file has been deleted
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            size = self.size
            if self._stream.write(data) != len(data):
                self._stream.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Force the log to disk and close it; closing twice is harmless."""
        if self._stream.closed:
            return
        with writing(self.path), self._stream:
            os.fsync(self._stream.fileno())

    def __enter__(self) -> EventLog:
        """The log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log in their order, without a torn last line.

    Raises:
        InputError: the file cannot be read, or a whole line is not a JSON object.
    """
    lines = read_bytes(path).split(b"\n")[:-1]
    return [
        json_object(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)
    ]
