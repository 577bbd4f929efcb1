"""One writer at a time: a lock on a folder that the system releases when its process ends.

The lock is `flock` on the file `.lock` inside the folder, which says whose it is. Whatever ends a
process, a kill or a power failure, ends its lock, so a file that is left behind locks nothing.
Where there is no `fcntl`, as on Windows, nothing is locked.
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

LOCK = ".lock"


class FolderLock:
    """The right to write a folder, held from its making until `release`.

    Attributes:
        folder: what is locked.
    """

    def __init__(self, folder: Path, *, advice: str) -> None:
        """Lock `folder`, which is there already.

        Args:
            folder: to be written by this process alone.
            advice: what to do if another process has it.

        Raises:
            InputError: another process has it, whose id is named; or the disk refuses.
        """
        self.folder = Path(folder)
        self._descriptor: int | None = None
        with writing(self.folder):
            self._take(advice)

    def release(self) -> None:
        """Give the folder free; doing so twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if _is_same(self.folder / LOCK, descriptor):
                with suppress(OSError):  # a folder that is gone, or cannot be written any more
                    (self.folder / LOCK).unlink()
            os.close(descriptor)

    def moved(self, folder: Path) -> None:
        """Say that the folder has another name now."""
        self.folder = Path(folder)

    def __enter__(self) -> FolderLock:
        """The lock itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the folder free."""
        self.release()

    def _take(self, advice: str) -> None:
        """Lock the file that is at the path, not one that its last owner has just removed."""
        path = self.folder / LOCK
        while fcntl is not None and self._descriptor is None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(path, descriptor):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    self._descriptor = descriptor
            except BlockingIOError:
                raise InputError(
                    f"{self.folder} is being written by process {_owner(descriptor)}: {advice}"
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
