"""One writer at a time: a lock that the system releases when the process that has it ends.

The lock is `flock` on a file that says whose it is. Whatever ends a process, a kill or a power
failure, ends its lock, so a file that is left behind locks nothing. Where there is no `fcntl`, as
on Windows, nothing is locked.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tiltflow.errors import InputError
from tiltflow.runs.atomic import writing

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None


class Lock:
    """The right to write something, held from its making until `release`.

    Attributes:
        file: the locked file, which is removed at the end.
    """

    def __init__(self, file: Path, what: Path, *, advice: str) -> None:
        """Take the lock.

        Args:
            file: made if need be, in a folder that is there.
            what: is to be written by this process alone.
            advice: what to do if another process has the lock.

        Raises:
            InputError: another process has it, whose id is named; or the disk refuses.
        """
        self.file = Path(file)
        self._descriptor: int | None = None
        with writing(what):
            self._take(what, advice)

    def release(self) -> None:
        """Let another process have it; doing so twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if _is_same(self.file, descriptor):
                with suppress(OSError):  # in a folder that cannot be written any more
                    self.file.unlink()
            os.close(descriptor)

    def __enter__(self) -> Lock:
        """The lock itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let another process have it."""
        self.release()

    def _take(self, what: Path, advice: str) -> None:
        """Lock the file that is at the path, not one that its last owner has just removed."""
        while fcntl is not None and self._descriptor is None:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(self.file, descriptor):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    self._descriptor = descriptor
            except BlockingIOError:
                raise InputError(
                    f"{what} is being written by process {_owner(descriptor)}: {advice}"
                ) from None
            finally:
                if self._descriptor is None:
                    os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether the file at the path is still the one that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _owner(descriptor: int) -> str:
    """The id of the process that has the lock, as it wrote it down."""
    words = os.read(descriptor, 32).decode("ascii", "replace").strip()
    return words if words.isdecimal() else "of unknown id"
