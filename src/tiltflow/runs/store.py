"""The run directory: the new run is there whole, or the previous one still is.

A reader finds at a run's path, at each moment:

- while a run is being made: what was there before, a previous run or nothing. The new files grow
  in the hidden sibling `.<name>.partial-<token>`, whose `events.jsonl` can be followed.
- after `finish`: the new run. The previous one has been moved aside to `.<name>.previous-<token>`,
  the new one moved in, and only then the previous one removed. Should the machine stop between
  the two moves, both are whole under their hidden names, and `open` says so.
- after a failure: what was there before. The partial folder stays if it has more to read than a
  configuration.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tiltflow.errors import InputError
from tiltflow.runs import atomic, reading
from tiltflow.runs.events import EventLog, read_events

CONFIG, EVENTS, METRICS = "config.toml", "events.jsonl", "metrics.json"


class RunStore:
    """A run being made, from `create`, or one to read, from `open`.

    As a context manager it finishes the run when the block ends and abandons it when the block
    raises. Other files of a run (a model, figures) are written under `folder` by their owners.

    Attributes:
        path: where the finished run is found.
        folder: where its files are now: the partial folder until `finish`, then `path`.
        log: the run's events; only from `create`, and closed by `finish` and `abandon`.
    """

    log: EventLog

    def __init__(self, path: Path, folder: Path, *, overwrite: bool = False) -> None:
        """Not for callers: use `create` or `open`."""
        self.path = path
        self.folder = folder
        self._overwrite = overwrite

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> RunStore:
        """Start a run that `finish` puts at `path`, making parent folders as needed.

        Args:
            path: a new or an empty folder, or a run if `overwrite`.
            overwrite: whether `finish` may replace a previous run; never anything else.

        Raises:
            InputError: `path` is a file, is taken, cannot be replaced, or cannot be written;
                nothing on disk has changed.
        """
        target = Path(os.path.realpath(path))
        with atomic.writing(target):
            _refuse_target(target, overwrite)
            _refuse_parent(target)
            store = cls(target, _sibling(target, "partial"), overwrite=overwrite)
            store.folder.mkdir(parents=True)
            store.log = EventLog(store.folder / EVENTS)
        return store

    @classmethod
    def open(cls, path: str | Path) -> RunStore:
        """A run to read, finished or partial; raises InputError if `path` is none."""
        path = Path(path)
        if not _is_run(path):
            raise InputError(
                f"{path} is not a run; expected a folder made by `tiltflow fit`, with {CONFIG} "
                f"and {EVENTS} in it{_leftovers(path)}"
            )
        return cls(path, path)

    def finish(self) -> None:
        """Move the run into place; does nothing if it is there already.

        Raises:
            InputError: `path` has been taken meanwhile, or the disk refuses; the new run stays
                whole in `folder`.
            RuntimeError: no configuration has been written.
        """
        if self.folder == self.path:
            return
        if not _is_run(self.folder):
            raise RuntimeError("a run cannot be finished before write_config")
        self.log.close()
        previous = _sibling(self.path, "previous")
        with atomic.writing(self.path):
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
            atomic.sync_folder(self.path.parent)
        shutil.rmtree(previous, ignore_errors=True)

    def abandon(self) -> None:
        """Give the run up; its folder stays if it has more to read than a configuration."""
        if self.folder == self.path:
            return
        self.log.close()
        written = {
            entry.name for entry in self.folder.iterdir() if entry.is_dir() or entry.stat().st_size
        }
        if written <= {CONFIG}:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RunStore:
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the run, or abandon it if the block has raised."""
        if error is None:
            self.finish()
        else:
            self.abandon()

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


def _sibling(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}-{secrets.token_hex(4)}")


def _leftovers(path: Path) -> str:
    """What a crash has left beside a missing run, for its message."""
    roles = tuple(f".{path.name}.{role}-" for role in ("partial", "previous"))
    try:
        names = sorted(name for name in os.listdir(path.parent) if name.startswith(roles))
    except OSError:
        names = []
    return f"; beside it are {', '.join(names)}: rename the one you want" if names else ""


def _refuse_target(path: Path, overwrite: bool) -> None:
    """Raises InputError unless a run may be moved to `path`."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file; expected a new folder: choose another name")
    if os.path.ismount(path) or Path.cwd().is_relative_to(path):
        raise InputError(
            f"{path} is a mount point or holds the current folder and cannot be replaced: name a "
            f"folder inside it"
        )
    if not any(path.iterdir()):
        return
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
