"""Output that nobody reads any more: the command goes on, and its exit status is its own."""

import os
from typing import Any, TextIO


class Unread:
    """A stream that falls silent when its reader has gone, as behind `| head`.

    Else the first line that is not read would end a computation, or hide how it ended: a library
    that prints for us exits with 1.
    """

    def __init__(self, stream: TextIO) -> None:
        """Around a standard stream."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or leave it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flush, or leave it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._silence()

    def _silence(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
