"""Folders that are made once a run and looked at by many tests, in whichever worker they are."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


class Shared:
    """Folders under `root`, which all workers of a run have in common.

    Nobody may change what is there: a test that has to works on a copy.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder `name`; whoever asks first has `make` fill it, and the others wait.

        One that could not be filled is not there for anybody: the next one tries again.
        """
        folder, part = self._root / f"shared-{name}", self._root / f"shared-{name}.part"
        with (self._root / f"shared-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(folder)
        return folder
