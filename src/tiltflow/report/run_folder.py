"""What a run has left on disk, read without ever failing: problems are collected, not raised."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import InputError
from tiltflow.runs import reading
from tiltflow.runs.reading import CORRUPT

from .numbers import finite, readable, seconds

SECOND = "data_tilt"
"""The phase of a second tilt, which reads the data where the first reads a latent."""

_SAMPLES = ("data", "backbone", "tilted")
_PAIRS = ("copies_draws", "copies_training")
_PATHS = ("travel", "interpolation", "interpolation_draws")
_DIMENSIONS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys((*_SAMPLES, *_PAIRS), (1, 2, 3, 4)),
    **dict.fromkeys(_PATHS, (2, 3, 4, 5)),
    **dict.fromkeys(("copies_distance", "copies_distance_held_out"), (1,)),
    **dict.fromkeys(("f_data", "f_tilted", "f_backbone"), (1,)),
    **dict.fromkeys(("trace_f", "trace_norm"), (2,)),
    **dict.fromkeys(("autocorrelation_f", "autocorrelation_norm", "autocorrelation_worst"), (1,)),
    **dict.fromkeys(("rhat_latent", "ess_bulk_latent"), (1,)),
}
"""How many axes each array of the evidence may have."""


_DAMAGED = (*CORRUPT, AttributeError)
"""What reading a truncated, foreign or pickled archive raises."""


@dataclass(frozen=True)
class Run:
    """A run as far as it has come.

    `evidence` holds float64 arrays by name, infinities turned into NaN; samples [n, *event] and
    paths [chains or pairs, times, *event] have at least one event axis. `problems` are sentences
    for the reader: what is missing or unreadable.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def metric(self, *keys: str) -> Any:
        """The metric under nested keys, or None."""
        return _dig(self.metrics, keys)

    def happened(self, phase: str, event: str) -> list[Mapping[str, Any]]:
        """The events of one phase and kind, in the order in which they were written."""
        return [e for e in self.events if e.get("phase") == phase and e.get("event") == event]

    def while_learning(self, event: str) -> list[Mapping[str, Any]]:
        """The events of one kind of all tilts that were learned, in their order."""
        return [*self.happened("tilt", event), *self.happened(SECOND, event)]

    @property
    def judged(self) -> bool:
        """Whether there is a verdict; a run that has none is unfinished."""
        return isinstance(self.metric("verdict", "status"), str)

    @property
    def data_name(self) -> str | None:
        """What the data are called."""
        for source in (self.metrics.get("data"), self.config.get("data")):
            name = source.get("name") if isinstance(source, Mapping) else source
            if isinstance(name, str) and name.strip():
                return name
        return None

    @property
    def last_event(self) -> str | None:
        """How far the run has come, as in 'tilt, stage 12, after 41 s'."""
        last = next((e for e in reversed(self.events) if e.get("phase") != "run"), None)
        if last is None:
            return None
        words = [readable(last["phase"])] if "phase" in last else []
        words += [f"{k} {readable(last[k])}" for k in ("stage", "step") if k in last][:1]
        return ", ".join([*words, f"after {seconds(last.get('time'))}"])

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The shape of one observation, or None where no samples are there."""
        for name in _SAMPLES:
            if name in self.evidence:
                return self.evidence[name].shape[1:]
        return self.evidence["travel"].shape[2:] if "travel" in self.evidence else None

    @property
    def is_bound(self) -> bool:
        """Whether likelihoods are bounds: the backbone is a variational autoencoder."""
        model = self.config.get("model")
        return isinstance(model, Mapping) and model.get("backbone") == "vae"

    @property
    def is_images(self) -> bool:
        """Whether observations are pictures, [H, W] or [H, W, C], and not rows of a table."""
        return self.event_shape is not None and len(self.event_shape) > 1


def read_run(run_dir: Path) -> Run:
    """Read whatever of config.toml, metrics.json, events.jsonl and evidence.npz is there."""
    problems: list[str] = []
    config = _read_config(run_dir / "config.toml", problems)
    events = _read_events(run_dir / "events.jsonl", problems)
    metrics = _read_metrics(run_dir / "metrics.json", problems)
    evidence, columns = _read_evidence(run_dir / "evidence.npz", problems)
    name = run_dir.resolve().name
    return Run(name, config, metrics, tuple(events), evidence, columns, tuple(problems))


def _read_config(path: Path, problems: list[str]) -> Mapping[str, Any]:
    text = _text(path, "the settings, written when a run starts", problems)
    try:
        return {} if text is None else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"config.toml could not be read: {error}.")
        return {}


def _read_metrics(path: Path, problems: list[str]) -> Mapping[str, Any]:
    text = _text(path, "the measured numbers and the verdict, written when a run ends", problems)
    try:
        metrics = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"metrics.json could not be read: {error}.")
        return {}
    if isinstance(metrics, Mapping):
        return metrics
    problems.append("metrics.json does not hold a table of numbers.")
    return {}


def _read_events(path: Path, problems: list[str]) -> list[Mapping[str, Any]]:
    text = _text(path, "what happened while learning, written as it happens", problems)
    events, unreadable = [], 0
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, Mapping):
            events.append(event)
        else:
            unreadable += 1
    if unreadable:
        lines = "line" if unreadable == 1 else "lines"
        problems.append(f"events.jsonl: {unreadable} unreadable {lines} left out.")
    return events


def _read_evidence(
    path: Path, problems: list[str]
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...]]:
    arrays: dict[str, NDArray[np.float64]] = {}
    columns: tuple[str, ...] = ()
    if not path.is_file():
        problems.append("evidence.npz is missing (samples and traces, written after sampling).")
        return arrays, columns
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            for name in (n for n in _DIMENSIONS if n in names):
                try:
                    _admit(name, archive[name], arrays, problems)
                except _DAMAGED as error:
                    problems.append(f"evidence.npz: {name} could not be read ({error}).")
            if "columns" in names:
                columns = tuple(str(c) for c in np.ravel(archive["columns"]))
    except _DAMAGED as error:
        problems.append(f"evidence.npz could not be read: {error}.")
    _leave_out_what_is_unpaired(arrays, problems)
    return arrays, columns


def _admit(
    name: str, array: NDArray, arrays: dict[str, NDArray[np.float64]], problems: list[str]
) -> None:
    """Put one array of the archive among the evidence, or say why not."""
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        problems.append(f"evidence.npz: {name} holds {array.dtype}, not numbers.")
        return
    if array.ndim not in _DIMENSIONS[name] or array.size == 0:
        problems.append(f"evidence.npz: {name} has the unexpected shape {array.shape}.")
        return
    values = np.real(array).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        problems.append(f"evidence.npz: {name} holds no finite number.")
        return
    leading = 2 if name in _PATHS else 1
    if name in (*_SAMPLES, *_PAIRS, *_PATHS):
        values = values[..., None] if values.ndim == leading else values
        event = next((arrays[s].shape[1:] for s in _SAMPLES if s in arrays), values.shape[leading:])
        if values.shape[leading:] != event:
            problems.append(f"evidence.npz: {name} has the shape {array.shape}, data have {event}.")
            return
    arrays[name] = values


def _leave_out_what_is_unpaired(
    arrays: dict[str, NDArray[np.float64]], problems: list[str]
) -> None:
    """Images in pairs whose number is not the same are no pairs."""
    found = [name for name in _PAIRS if name in arrays]
    numbers = [len(arrays[name]) for name in found]
    if len(set(numbers)) > 1:
        what = " and ".join(f"{name} {n}" for name, n in zip(found, numbers, strict=True))
        problems.append(f"evidence.npz: {what} images, which make no pairs: left out.")
        for name in found:
            del arrays[name]


def _text(path: Path, what: str, problems: list[str]) -> str | None:
    """The file's text, or None and a problem."""
    if not os.path.lexists(path):
        problems.append(f"{path.name} is missing ({what}).")
        return None
    try:
        return reading.read_bytes(path).decode(errors="replace")
    except InputError as error:
        problems.append(f"{error}.".replace(str(path), path.name))
        return None


def _dig(tree: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def column(events: list[Mapping[str, Any]], *keys: str) -> NDArray[np.float64]:
    """Fields of events as an array [events with all of them finite, len(keys)]."""
    rows = [[finite(e.get(k)) for k in keys] for e in events]
    kept = [[v for v in row if v is not None] for row in rows if None not in row]
    return np.array(kept, dtype=np.float64).reshape(-1, len(keys))
