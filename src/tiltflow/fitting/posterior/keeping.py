"""The state of a run on disk: written after each stage, and gone on from.

What does not change any more (populations, proposals, blocks of draws) has a file of its own,
written once; `state.npz` names them, and holds what does change. It is written last and replaced
whole, so that whatever ends the process, the folder holds a state as it was at some moment.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.packing import Arrays, changing, fill, parts_of
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.target import values_at
from tiltflow.runs import atomic
from tiltflow.runs.lock import Lock
from tiltflow.runs.posterior_folder import CHECKPOINT as FOLDER
from tiltflow.runs.posterior_folder import DENSITY, DRAWS, NUMBERS, PAGE, STATE

FORMAT = 2
EVERY = 10.0  # seconds, within a stage


class Keeper:
    """One process that keeps its state in a folder.

    Attributes:
        folder: of the state.
    """

    def __init__(self, out: Path, every: float = EVERY) -> None:
        """Take the folder for this process alone.

        Raises:
            InputError: something else lies there, another process is at it, or the disk refuses.
        """
        known = {FOLDER, NUMBERS, DRAWS, PAGE, DENSITY, "figures"}
        with atomic.writing(out):
            strangers = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
            strangers = [n for n in strangers if n not in known and not n.startswith(".")]
            if strangers:
                raise InputError(
                    f"{out} holds {strangers[0]}, which is of no such run; expected a new folder "
                    f"or one that a run has written"
                )
            self.folder = out / FOLDER
            self.folder.mkdir(parents=True, exist_ok=True)
        self._out, self._every = out, every
        self._lock = Lock(self.folder / ".lock", out, advice="wait for it, or choose another")
        self._saved = time.monotonic()
        self._written: set[str] = set()

    def __enter__(self) -> Keeper:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let another process have the folder; one in which nothing was written is removed."""
        self._lock.release()
        with suppress(OSError):  # not empty
            self.folder.rmdir()
            self._out.rmdir()

    def offer(self, state: State, urgent: bool) -> None:
        """Write the state, if a stage has ended or it is time."""
        if urgent or time.monotonic() - self._saved >= self._every:
            self.save(state)

    def save(self, state: State) -> None:
        """Write the state; what is there stays whole until that is done."""
        parts = parts_of(state)
        for name, arrays in parts.items():
            if name not in self._written:
                atomic.write_arrays(self.folder / f"{name}.npz", arrays)
        plain, arrays = changing(state)
        plain |= {"format": FORMAT, "question": _question(state), "wishes": _wishes(state)}
        plain["parts"] = sorted(parts)
        arrays["about"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        atomic.write_arrays(self.folder / STATE, arrays)
        for file in self.folder.glob("*.npz"):
            if file.stem not in parts and file.name != STATE:
                file.unlink(missing_ok=True)
        self._written = set(parts)
        self._saved = time.monotonic()

    def restored(self, state: State) -> State:
        """`state`, which has not begun, as far as the folder has it.

        Raises:
            InputError: the folder holds a run of another density, start, seed or kinds, or of
                another version; or a file that is damaged.
        """
        if not (self.folder / STATE).is_file():
            return state
        arrays = _read(self.folder / STATE)
        plain = json.loads(arrays.pop("about").tobytes())
        if plain["format"] != FORMAT:
            raise InputError(f"{self._out} is of another version; choose another folder")
        if plain["question"] != _question(state):
            raise InputError(
                f"{self._out} holds a run with another start, seed or other parameters; give the "
                f"same, or choose another folder"
            )
        parts = {name: _read(self.folder / f"{name}.npz") for name in plain["parts"]}
        self._written = set(parts)
        fill(state, plain, arrays, parts)
        if not state.todo:
            more = _wishes(state) != plain["wishes"]
            state.todo, state.rounds = [["judge"] if more else ["conclude"]], 0
        if state.populations:
            rows = state.populations[0].y[:8]
            found, before = values_at(state.target, rows), arrays["witness"]
            if not np.allclose(found, before, rtol=1e-3, atol=1e-2, equal_nan=True):
                raise InputError(
                    f"{self._out} holds a run of another density: at {len(rows)} points it was "
                    f"{before[0]:.6g}, ... and is {found[0]:.6g}, ...; choose another folder"
                )
        return state


def _question(state: State) -> str:
    """What has to be the same for a run to be gone on with."""
    parameters = state.target.parameters
    start = b"" if state.free is None else np.ascontiguousarray(state.free).tobytes()
    told = [parameters.names, [repr(kind) for kind in parameters.kinds], state.asked.seed]
    return json.dumps([*told, hashlib.sha256(start).hexdigest()])


def _wishes(state: State) -> list[Any]:
    """What may have changed, and makes it worth while to go on with a finished run."""
    asked, budget = state.asked, state.budget
    limits = [budget.seconds, budget.evaluations]
    return [asked.log_z_within, asked.draws, asked.ess, asked.rhat, *limits]


def _read(path: Path) -> Arrays:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is missing or damaged ({type(error).__name__}); choose another folder"
        ) from None
