"""Checkpoints of a fit: a folder of safetensors files, each whole or not there.

`NAME-done.safetensors` is the result of a finished stage. `NAME-STEP.safetensors` is the state of
the stage that goes on: the newest two are kept, and one that is damaged is passed over for the one
before. A file holds the arrays of a pytree in the order of its leaves, and beside them, as text,
plain numbers, the seconds gone and how long the event log was, so that a fit that is gone on with
leaves the events of one that never stopped. A checksum over all of it is checked before anything
is used. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import safetensors
import safetensors.numpy
from jax.dtypes import prng_key

from tiltflow.errors import InputError, Interrupted
from tiltflow.runs import atomic
from tiltflow.runs.events import EventLog

FORMAT = "1"
KEPT = 2  # states of the stage that goes on
EVERY = 60.0  # seconds between two of them
DONE = "done"


class Checkpoints:
    """A keeper (`learning/keeping.py`) that writes a folder.

    Attributes:
        folder: of the files; made when the first is written.
    """

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        *,
        every: float = EVERY,
        every_steps: int | None = None,
        stop: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Go on from what is in `folder`, if there is anything.

        Args:
            folder: of this fit alone.
            log: its events; cut back to where they were at the newest checkpoint.
            every: seconds between two states of a stage that are saved.
            every_steps: steps between two states that are saved, whatever the time.
            stop: asked between two chunks: why the fit is to stop, or None.
        """
        self.folder = folder
        self._log = log
        self._every, self._every_steps, self._stop = every, every_steps, stop
        newest = self._newest()
        self._before = newest["seconds"] if newest else 0.0
        self._began = time.monotonic()
        self._saved_at, self._saved_step = self._began, 0
        self._offered: tuple[str, int, Any, str] | None = None
        log.cut(newest["events"] if newest else 0, self._before)

    def clock(self) -> float:
        """Seconds since the fit was begun, without those between an interruption and now."""
        return self._before + time.monotonic() - self._began

    def last(self, stage: str, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole state of a stage; see `Keeper.last`."""
        for path in self._states(stage):
            if (found := _read(path)) is not None:
                self._saved_step = _step(path)
                return filled(like, found[0], str(path)), found[1]["plain"]
        return None

    def offer(self, stage: str, step: int, tree: Any, plain: dict[str, Any]) -> None:
        """Save a state if it is time; see `Keeper.offer`."""
        why = self._stop()
        now = time.monotonic()
        due = now - self._saved_at >= self._every or (
            self._every_steps is not None and step - self._saved_step >= self._every_steps
        )
        self._offered = (stage, step, tree, self._about(plain))
        if due or why:
            self._save(now)
        if why:
            raise Interrupted(why)

    def finished(self, stage: str, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The result of a finished stage; see `Keeper.finished`."""
        path = self.folder / f"{stage}-{DONE}.safetensors"
        found = _read(path)
        return None if found is None else (filled(like, found[0], str(path)), found[1]["plain"])

    def finish(self, stage: str, tree: Any, plain: dict[str, Any]) -> None:
        """Save the result of a stage and drop its states; see `Keeper.finish`."""
        self._write(stage, DONE, tree, self._about(plain))
        self._offered = None
        for path in self._states(stage):
            path.unlink(missing_ok=True)
        self._saved_at, self._saved_step = time.monotonic(), 0
        self.listen()

    def listen(self) -> None:
        """Save what was offered last and raise Interrupted, if the fit is to stop."""
        if why := self._stop():
            self._save(time.monotonic())
            raise Interrupted(why)

    def _about(self, plain: dict[str, Any]) -> str:
        """What is said of a state beside its arrays, at this moment."""
        return json.dumps(
            {"plain": plain, "seconds": self.clock(), "events": self._log.size}, sort_keys=True
        )

    def _save(self, now: float) -> None:
        """Write the state that was offered last, unless it has been written."""
        if self._offered is None:
            return
        stage, step, tree, about = self._offered
        self._offered = None
        self._write(stage, f"{step:012d}", tree, about)
        self._saved_at, self._saved_step = now, step
        for path in self._states(stage)[KEPT:]:
            path.unlink(missing_ok=True)

    def _write(self, stage: str, mark: str, tree: Any, about: str) -> None:
        arrays = arrays_of(tree)
        words = {"format": FORMAT, "about": about, "sha256": _checksum(arrays, about)}
        with atomic.writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        self._log.sync()
        atomic.write_bytes(
            self.folder / f"{stage}-{mark}.safetensors",
            safetensors.numpy.save(arrays, metadata=words),
        )

    def _states(self, stage: str) -> list[Path]:
        """The files of a stage that goes on, the newest first."""
        found = (p for p in self.folder.glob(f"{stage}-*.safetensors") if _step(p) is not None)
        return sorted(found, reverse=True)

    def _newest(self) -> dict[str, Any] | None:
        """What the newest whole file says of itself."""
        abouts = [found[1] for p in self.folder.glob("*.safetensors") if (found := _read(p))]
        return max(abouts, key=lambda about: about["seconds"], default=None)


def _step(path: Path) -> Any:
    """The step in the name of a state's file; None for a finished stage."""
    found = re.fullmatch(r".+-(\d{12})\.safetensors", path.name)
    return int(found[1]) if found else None


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree, named by their place; `filled` puts them back.

    A list is one of arrays, JAX's or NumPy's; of other trees JAX's are taken.
    """
    leaves = tree if isinstance(tree, list) else jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    # Of an array that is no whole piece of memory safetensors would write other numbers.
    return {f"{i:04d}": np.asarray(_plain(leaf), order="C") for i, leaf in enumerate(leaves)}


def filled(like: Any, arrays: dict[str, np.ndarray], where: str) -> Any:
    """`like` with other arrays; `where` they come from is named in the message.

    Of `like` None they are a list, as they were written.

    Raises:
        InputError: they are of other shapes or types.
    """
    values = [arrays[name] for name in sorted(arrays)]
    if like is None:
        return values
    given, rest = eqx.partition(like, eqx.is_array)
    leaves, structure = jax.tree.flatten(given)
    expected = [(_plain(leaf).shape, _plain(leaf).dtype) for leaf in leaves]
    if [(value.shape, value.dtype) for value in values] != expected:
        raise InputError(
            f"{where} holds arrays of other shapes than this fit has: it comes from another "
            f"version of tiltflow; begin again with --overwrite"
        )
    new = [
        jr.wrap_key_data(jnp.asarray(value), impl=jr.key_impl(leaf))
        if jnp.issubdtype(leaf.dtype, prng_key)
        else jnp.asarray(value)
        for value, leaf in zip(values, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, new), rest)


def _plain(leaf: Any) -> Any:
    """A leaf that NumPy can hold: the data of a random key, or the leaf itself."""
    return jr.key_data(leaf) if jnp.issubdtype(leaf.dtype, prng_key) else leaf


def _checksum(arrays: dict[str, np.ndarray], about: str) -> str:
    """Over names, types, shapes and values of the arrays, and the text."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and the text of a file; None if it is missing or not whole."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            words = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if words.get("format") != FORMAT or words["sha256"] != _checksum(arrays, words["about"]):
            return None
        return arrays, json.loads(words["about"])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError):
        return None
