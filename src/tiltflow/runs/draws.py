"""A folder of draws that grows chunk by chunk and can be resumed, bit for bit.

`index.json` says how many draws there are: it is replaced as a whole, after the chunk's rows have
been forced to disk, so that a chunk is there whole or not at all. `NAME.raw` holds the rows of one
array, `[draws, chains, ...]` in C order; rows beyond those of the index, which a crash may leave,
are not looked at and are cut off on resuming. `carry-TRANSITIONS.safetensors` holds where the
chains are. Nothing is pickled, and nothing depends on the clock: a run that was interrupted and
resumed leaves the bytes of one that was not. One process at a time may write (`runs/lock.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from tiltflow.errors import InputError
from tiltflow.mcmc.identity import check_same
from tiltflow.mcmc.sinks import Chunk, Counts, Saved
from tiltflow.runs import atomic, reading
from tiltflow.runs.lock import Lock

FORMAT = 1
INDEX, LOCK = "index.json", ".lock"

Derive = Callable[[Chunk], Chunk]


class DrawsFolder:
    """A sink (`mcmc/sinks.py`) that writes a folder.

    Attributes:
        path: the folder.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resume: bool = False,
        derive: Derive | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            path: a new or empty folder, made with its parents; or a former one, to be resumed.
            resume: whether to go on with what is there, if there is anything.
            derive: further arrays of a chunk, `[draws, chains, ...]`, to be stored with it.
            about: plain values to be stored in the index when the folder is begun.
        """
        self.path = Path(path)
        self._resume = resume
        self._derive = derive
        self._lock: Lock | None = None
        self._index: dict[str, Any] = {
            "format": FORMAT, "about": dict(about or {}), "identity": {}, "counts": {},
            "carry": None, "arrays": {},
        }  # fmt: skip

    def open(self, identity: dict[str, Any]) -> Saved | None:
        """Begin the folder, or resume it; it is locked until `close`.

        Raises:
            InputError: it is not empty and is not to be resumed, is no folder of draws, is
                damaged, holds another run, or is being written by another process.
        """
        with atomic.writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        was_killed = (self.path / LOCK).exists()
        self._lock = Lock(
            self.path / LOCK, self.path, advice="wait for it, or choose another folder"
        )
        if not (self.path / INDEX).exists():
            self._refuse_strangers(was_killed=was_killed)
            self._index["identity"] = identity
            return None
        if not self._resume:
            raise InputError(f"{self.path} holds draws: resume them, or choose another folder")
        self._index = read_index(self.path)
        check_same(self._index["identity"], identity, str(self.path))
        return self._cut()

    def write(self, chunk: Chunk, carry: Any, counts: Counts) -> None:
        """Append the chunk and where the chains are now; both are there, or neither.

        Raises:
            InputError: the disk refuses; the folder is as it was.
        """
        derived = {} if self._derive is None else self._derive(chunk)
        before = counts.draws - len(next(iter(chunk.values())))
        name = f"carry-{counts.transitions:012d}.safetensors"
        leaves = {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(carry))}
        arrays = {
            name: {
                "dtype": rows.dtype.str,
                "row": list(rows.shape[1:]),
                "derived": name in derived,
            }
            for name, rows in {**chunk, **derived}.items()
        }
        former = self._index["carry"]
        new = self._index | {"counts": counts._asdict(), "carry": name, "arrays": arrays}
        try:
            with atomic.writing(self.path):
                for array, rows in {**chunk, **derived}.items():
                    _append(self._file(array), rows, before)
                state = np.frombuffer(safetensors.numpy.save(leaves), np.uint8)
                _append(self.path / name, state, 0)
                atomic.sync_folder(self.path)
            atomic.write_json(self.path / INDEX, new)
        except InputError:
            if former is None:  # rows beyond an index are cut off, but there is none yet
                for path in (*map(self._file, arrays), self.path / name):
                    path.unlink(missing_ok=True)
            raise
        self._index = new
        if former not in (None, name):
            (self.path / former).unlink(missing_ok=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """What the run has recorded, `[chains, draws, ...]`, mapped from the disk."""
        return {
            name: _mapped(self.path, name, self._index)
            for name, entry in self._index["arrays"].items()
            if not entry["derived"]
        }

    def close(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            self._lock.release()

    def _cut(self) -> Saved:
        """Remove what a crash has left beyond the index; where the chains were."""
        counts = Counts(**self._index["counts"])
        for name, entry in self._index["arrays"].items():
            _mapped(self.path, name, self._index)
            with atomic.writing(self._file(name)):
                os.truncate(self._file(name), counts.draws * _row_bytes(entry))
        with atomic.writing(self.path):
            for entry in self.path.iterdir():
                stale = entry.name.startswith("carry-") and entry.name != self._index["carry"]
                if stale or entry.suffix == ".tmp":
                    entry.unlink()
        path = self.path / self._index["carry"]
        try:
            leaves = safetensors.numpy.load(reading.read_bytes(path))
        except (safetensors.SafetensorError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}): sample again") from None
        return Saved([leaves[name] for name in sorted(leaves)], counts)

    def _refuse_strangers(self, *, was_killed: bool) -> None:
        """Remove what a run killed before its first chunk has left; it leaves its lock, too.

        Raises:
            InputError: there is anything else; then nothing is removed.
        """
        entries = [entry for entry in sorted(self.path.iterdir()) if entry.name != LOCK]
        for entry in entries:
            if not (self._resume and was_killed and _may_be_left(entry)):
                raise InputError(
                    f"{self.path} is not empty ({entry.name} is in it) and holds no {INDEX}: choose"
                    f" another folder"
                )
        for entry in entries:
            entry.unlink()

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.raw"


@dataclass(frozen=True, eq=False)
class StoredDraws:
    """Draws on disk; arrays are mapped, so only what is looked at is read.

    Attributes:
        arrays: by name, `[chains, draws, ...]`: `positions`, `energies`, the summaries, and what
            was derived, as `x`.
        counts: how far the run was.
        about: what was said when the folder was begun.
    """

    arrays: dict[str, np.ndarray]
    counts: Counts
    about: dict[str, Any]

    @property
    def positions(self) -> np.ndarray | None:
        """Of the chains, `[chains, draws, *event]`, or None if they were not kept."""
        return self.arrays.get("positions")


def load_draws(folder: str | Path) -> StoredDraws:
    """The draws in `folder`, finished or not; whole chunks only.

    Raises:
        InputError: it is no folder of draws, or damaged.
    """
    folder = Path(folder)
    index = read_index(folder)
    arrays = {name: _mapped(folder, name, index) for name in index["arrays"]}
    return StoredDraws(arrays, Counts(**index["counts"]), index["about"])


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder of draws; raises InputError as `load_draws`."""
    path = folder / INDEX
    if not path.exists():
        raise InputError(f"{folder} holds no draws: there is no {INDEX} in it")
    index = reading.read_json(path)
    try:
        if index["format"] != FORMAT:
            raise InputError(
                f"{path} has format {index['format']!r:.50}; expected {FORMAT}: use the version of "
                f"tiltflow that wrote it"
            )
        Counts(**index["counts"])
        for name, entry in index["arrays"].items():
            if Path(name).name != name or np.dtype(entry["dtype"]).hasobject:
                raise ValueError(f"array {name!r:.50}")
            _row_bytes(entry)
        if Path(index["carry"]).name != index["carry"]:
            raise ValueError("carry")
        if not isinstance(index["about"], dict) or not isinstance(index["identity"], dict):
            raise ValueError("about")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}): sample again") from None
    return index


def _may_be_left(entry: Path) -> bool:
    """Whether a file looks like one of a first chunk."""
    of_chunk = entry.suffix == ".raw" or re.fullmatch(r"carry-\d{12}\.safetensors", entry.name)
    return entry.is_file() and (bool(of_chunk) or atomic.is_temporary(entry.name))


def _row_bytes(entry: Mapping[str, Any]) -> int:
    return int(np.prod(entry["row"], dtype=np.int64)) * np.dtype(entry["dtype"]).itemsize


def _append(path: Path, rows: np.ndarray, before: int) -> None:
    """Put `rows` after the first `before` ones of the file, and force them to disk."""
    data = np.ascontiguousarray(rows)
    row_bytes = int(np.prod(data.shape[1:], dtype=np.int64)) * data.itemsize
    with open(path, "r+b" if before or path.exists() else "x+b") as stream:
        stream.seek(before * row_bytes)
        stream.write(data.data)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def _mapped(folder: Path, name: str, index: Mapping[str, Any]) -> np.ndarray:
    """The array as `[chains, draws, ...]`."""
    entry, draws = index["arrays"][name], int(index["counts"]["draws"])
    path = folder / f"{name}.raw"
    shape = (draws, *entry["row"])
    if draws == 0:
        return np.swapaxes(np.empty(shape, entry["dtype"]), 0, 1)
    try:
        rows = np.memmap(path, entry["dtype"], mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): sample again") from None
    return np.swapaxes(rows, 0, 1)
