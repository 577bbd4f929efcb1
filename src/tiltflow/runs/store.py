"""The run directory: a run grows where it will be found, and never costs the previous one.

A reader finds at a run's path, at each moment:

- while the first run there is being made: its files as far as they are, and `UNFINISHED` beside
  them. Should it be interrupted, `create` with `resume` goes on with them.
- while a run that replaces another is being made: the previous one. The new files grow in the
  hidden sibling `.<name>.partial`. At the end the previous one is moved aside to
  `.<name>.previous-<token>`, the new one moved in, and only then the previous one removed. Should
  the machine stop between the two moves, both are whole under their hidden names, and `open` says
  so.
- after `finish`: the new run, without `UNFINISHED`.

`checkpoints` is a folder for what only an unfinished run needs. It goes after `UNFINISHED` has:
whoever is killed when all is written has nothing to do again.

One process at a time may make a run: it has the lock on the hidden sibling `.<name>.lock`.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tiltflow.errors import InputError, Interrupted
from tiltflow.runs import atomic, reading
from tiltflow.runs.events import EventLog, read_events
from tiltflow.runs.lock import Lock
from tiltflow.runs.posterior_folder import is_begun

CONFIG, EVENTS, METRICS = "config.toml", "events.jsonl", "metrics.json"
CHECKPOINTS = "checkpoints"
UNFINISHED = "UNFINISHED"


class RunStore:
    """A run being made, from `create`, or one to read, from `open`.

    As a context manager it finishes the run when the block ends and abandons it when the block
    raises. Other files of a run (a model, figures) are written under `folder` by their owners.

    Attributes:
        path: where the finished run is found.
        folder: where its files are now: `path`, or the partial folder until `finish`.
        resumed: whether there was something to go on with.
        log: the run's events; only from `create`, and closed by `finish` and `abandon`.
    """

    log: EventLog

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        overwrite: bool = False,
        resumed: bool = False,
        lock: Lock | None = None,
    ) -> None:
        """Not for callers: use `create` or `open`."""
        self.path = path
        self.folder = folder
        self.resumed = resumed
        self._overwrite = overwrite
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False, resume: bool = False) -> RunStore:
        """Start a run at `path`, making parent folders as needed, or go on with one.

        Args:
            path: a new or an empty folder, or a run if `overwrite`.
            overwrite: whether `finish` may replace a previous run; never anything else.
            resume: whether to go on with an unfinished run, if there is one.

        Raises:
            InputError: `path` is a file, is taken, cannot be replaced, or cannot be written, or
                the run there is finished, or another process is making it; nothing on disk has
                changed.
        """
        target = Path(os.path.realpath(path))
        with atomic.writing(target):
            if not (resume and _is_run(target)):
                _refuse_kind(target)
            _refuse_parent(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = Lock(
                target.parent / f".{target.name}.lock",
                target,
                advice="wait for it, or choose another folder",
            )
            try:
                folder, resumed = _place(target, overwrite=overwrite, resume=resume)
                # A run that replaces another was begun with the leave to do so.
                allowed = overwrite or folder != target
                store = cls(target, folder, overwrite=allowed, resumed=resumed, lock=lock)
                store.log = EventLog(folder / EVENTS)
            except BaseException:
                lock.release()
                raise
        return store

    @classmethod
    def open(cls, path: str | Path, *, whole: bool = True) -> RunStore:
        """A run to read.

        Raises:
            InputError: `path` is no run, or `whole` is asked for and it is unfinished.
        """
        path = Path(path)
        if not _is_run(path) and is_begun(path):
            raise InputError(
                f"{path} holds the posterior of a density, for `tiltflow posterior`, and, once it "
                f"is finished, info, report, compare and sample; expected a folder made by "
                f"`tiltflow fit`"
            )
        if not _is_run(path):
            raise InputError(
                f"{path} is not a run; expected a folder made by `tiltflow fit`, with {CONFIG} "
                f"and {EVENTS} in it{_leftovers(path)}"
            )
        if whole and _is_unfinished(path):
            raise InputError(
                f"{path} is unfinished: go on with `tiltflow fit ... --out {path} --resume`"
            )
        return cls(path, path)

    @property
    def checkpoints(self) -> Path:
        """The folder for what only an unfinished run needs."""
        return self.folder / CHECKPOINTS

    @property
    def finished(self) -> bool:
        """Whether all of the run is there."""
        return not _is_unfinished(self.folder)

    def part(self, name: str) -> Path:
        """The path of a part of the run that its owner writes.

        Raises:
            InputError: the run's folder has been removed or emptied under way.
        """
        if not (_is_unfinished(self.folder) and (self.folder / EVENTS).exists()):
            raise InputError(
                f"{self.folder} has been removed or emptied while the run was made: begin again"
            )
        return self.folder / name

    def finish(self) -> None:
        """Say that the run is whole, and move it into place; a finished run stays as it is.

        Raises:
            InputError: `path` has been taken meanwhile, the folder has been removed, or the disk
                refuses; the new run stays whole in `folder`.
            RuntimeError: no configuration has been written.
        """
        if self._lock is None:
            return
        if not self.part(CONFIG).is_file():
            raise RuntimeError("a run cannot be finished before write_config")
        self.log.close()
        with atomic.writing(self.path):
            if self.folder != self.path:
                self._move()
            (self.folder / UNFINISHED).unlink()
            atomic.sync_folder(self.folder)
            atomic.sync_folder(self.path.parent)
        _tidy(self.path, previous=self._overwrite or self.resumed)
        self._release()

    def _move(self) -> None:
        """The new run to `path`, and the previous one, if there is one, aside."""
        previous = _sibling(self.path, "previous")
        _refuse_target(self.path, self._overwrite)
        if replaces := self.path.exists():
            os.rename(self.path, previous)
        try:
            os.rename(self.folder, self.path)
        except OSError:
            if replaces:
                os.rename(previous, self.path)
            raise
        self.folder = self.path

    def abandon(self, why: str = "") -> None:
        """Give the run up; its folder stays if it has more to read than a configuration.

        `why` becomes its last event, where there are others. Nothing is raised: what made the
        caller give up is what is to be told.
        """
        if self._lock is None:
            return
        with suppress(OSError, InputError):
            if why and self.log.size:
                self.log.write("run", "stopped", why=why)
        with suppress(InputError):
            self.log.close()
        with suppress(OSError):
            entries = list(self.folder.iterdir())
            written = {e.name for e in entries if e.is_dir() or e.stat().st_size}
            if written <= {CONFIG}:
                shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        """Let another process make a run here."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunStore:
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the run, or abandon it if the block has raised or it cannot be finished."""
        if error is not None:
            self.abandon(_words(error))
            return
        try:
            self.finish()
        except InputError as refused:
            self.abandon(_words(refused))
            raise

    def write_config(self, table: Mapping[str, Any]) -> None:
        """Write the configuration; raises as `atomic.write_toml`."""
        atomic.write_toml(self.folder / CONFIG, table)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics; raises as `atomic.write_json`."""
        atomic.write_json(self.folder / METRICS, metrics)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write `<name>.npz`; raises as `atomic.write_arrays`."""
        atomic.write_arrays(self.folder / f"{name}.npz", arrays)

    def config(self) -> dict[str, Any]:
        """The configuration; raises InputError if it is missing or corrupt, as do the next."""
        return reading.read_toml(self.folder / CONFIG)

    def metrics(self) -> dict[str, Any]:
        """The metrics; what was not finite is None."""
        return reading.read_json(self.folder / METRICS)

    def events(self) -> list[dict[str, Any]]:
        """The events so far, without a torn last line."""
        return read_events(self.folder / EVENTS)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.npz`."""
        return reading.read_arrays(self.folder / f"{name}.npz")


def _is_run(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in (CONFIG, EVENTS))


def _is_unfinished(folder: Path) -> bool:
    return os.path.isfile(folder / UNFINISHED)


def _is_free(folder: Path) -> bool:
    """Whether there is nothing, or only what a run that was killed at once has left."""
    if not os.path.lexists(folder):
        return True
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir()}
    little = {UNFINISHED, EVENTS, *(name for name in names if atomic.is_temporary(name))}
    return not names or (UNFINISHED in names and names <= little)


def _place(target: Path, *, overwrite: bool, resume: bool) -> tuple[Path, bool]:
    """Where a run for `target` grows, and whether there is something to go on with."""
    partial = target.parent / f".{target.name}.partial"
    # A partial run is the newer one: it was begun to replace the other.
    begun = next((f for f in (partial, target) if _is_unfinished(f) and _is_run(f)), None)
    if resume and begun is not None:
        atomic.sweep(begun)
        return begun, True
    if resume and _is_run(target) and not overwrite:
        _tidy(target, previous=True)
        raise InputError(f"{target} is finished: there is nothing to go on with")
    _refuse_target(target, overwrite)
    folder = target if _is_free(target) else partial
    if folder is target and os.path.lexists(partial):  # it belongs to what was here before
        os.rename(partial, _sibling(target, "previous"))
    if not _is_free(folder):
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    atomic.sweep(folder)
    (folder / UNFINISHED).touch()
    return folder, False


def _tidy(path: Path, *, previous: bool) -> None:
    """Remove what a whole run at `path` needs no more, and the `previous` ones it replaces."""
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
    if previous:
        for former in path.parent.glob(f".{glob.escape(path.name)}.previous-*"):
            shutil.rmtree(former, ignore_errors=True)


def _words(error: BaseException) -> str:
    """An error in a line."""
    words = " ".join(str(error).split())
    if isinstance(error, InputError | Interrupted):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _sibling(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}-{secrets.token_hex(4)}")


def _leftovers(path: Path) -> str:
    """What a crash has left beside a missing run, for its message."""
    roles = (f".{path.name}.partial", f".{path.name}.previous-")
    try:
        names = sorted(name for name in os.listdir(path.parent) if name.startswith(roles))
    except OSError:
        names = []
    return f"; beside it are {', '.join(names)}: rename the one you want" if names else ""


def _refuse_kind(path: Path) -> None:
    """Raises InputError for what can never be a run's folder."""
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(f"{path} is a file; expected a new folder: choose another name")
    if os.path.ismount(path) or Path.cwd().is_relative_to(path):
        raise InputError(
            f"{path} is a mount point or holds the current folder and cannot be replaced: name a "
            f"folder inside it"
        )


def _refuse_target(path: Path, overwrite: bool) -> None:
    """Raises InputError unless a run may be moved to `path`."""
    _refuse_kind(path)
    if _is_free(path):
        return
    if not overwrite and _is_unfinished(path):
        raise InputError(
            f"{path} holds an unfinished run: go on with the same command and --resume, or pass "
            f"--overwrite"
        )
    if not overwrite:
        raise InputError(f"{path} is not empty: choose another folder, or pass --overwrite")
    if not _is_run(path):
        raise InputError(
            f"{path} is not a run ({CONFIG} and {EVENTS} are not both in it) and is not "
            f"overwritten: choose another folder"
        )


def _refuse_parent(path: Path) -> None:
    """Raises InputError unless `path` can be made."""
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise InputError(f"{parent} is a file; expected a folder for {path.name}: choose another")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent} is not writable: choose another folder")
