"""Ctrl-C and requests to terminate, heard now and obeyed between two chunks."""

import contextlib
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While it is open, the first signal only sets `heard`; a second one acts as ever.

    Signals can be heard in the main thread alone: elsewhere, or if not `active`, nothing changes.

    Attributes:
        heard: whether a signal has come.
    """

    def __init__(self, *, active: bool) -> None:
        """Nothing is changed before it is entered."""
        self.heard = False
        self._active = active and threading.current_thread() is threading.main_thread()
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Begin to listen."""
        if self._active:
            self._former = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Signals act as before."""
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            with contextlib.suppress(TypeError):  # a handler that was not set from Python
                signal.signal(number, handler)
        self._former = {}
