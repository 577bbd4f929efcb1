"""Settings from a TOML file: the parts of `Settings` as tables, beside the data and the seed.

    seed = 3
    [data]
    source = "runs/points.npz"
    key = "x"
    [data.columns]
    city = "category"
    [tilt]
    rate = 2e-3

What a file leaves out keeps its default, and the command line goes on top of the file. The
`config.toml` of a run is such a file: it holds every setting, and what it records beside them (the
command, the data's name and fingerprint) is known here. A path is meant from the current folder.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tiltflow.errors import InputError
from tiltflow.fitting.settings import Settings
from tiltflow.runs import reading

PARTS = get_type_hints(Settings)
"""The tables of settings, and the dataclass of each."""

_HOW = {
    "key": str, "image_size": int, "channels": Literal["grey", "rgb"], "integers": bool,
    "columns": dict, "atoms": Literal["keep", "separate"],
}  # fmt: skip
_DATA = {"source": str, "name": str, "fingerprint": str, "drop_dependent": bool} | _HOW
_GENERAL = {"seed": int, "command": str}
_LARGEST = 2**63 - 1

Layer = Mapping[str, Mapping[str, Any]]
"""Some settings by part and name; None leaves a setting as it is."""


@dataclass(frozen=True)
class Config:
    """What a file says; None where it says nothing.

    Attributes:
        source: the data, as `tiltflow fit` takes them.
        how: the source is read: `key`, `image_size`, `channels`, `integers`, `columns`, `atoms`, as
            far as they are there.
        fingerprint: what the data were when a run recorded them.
        drop_dependent: whether columns that are functions of others are left out.
        seed: of everything random.
        settings: those that the file sets.
    """

    source: str | None = None
    how: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    drop_dependent: bool = False
    seed: int | None = None
    settings: Layer = field(default_factory=dict)


def read_config(path: str | Path) -> Config:
    """The settings in a TOML file.

    Raises:
        InputError: no such file, no TOML, a name that no setting has (the nearest one is named),
            or a value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected settings in TOML")
    table = reading.read_toml(path)
    known = {name: _names(kind) for name, kind in PARTS.items()} | {"data": _DATA}
    for name, value in table.items():
        if name in known:
            _check_table(path, name, value, known[name])
        elif name in _GENERAL:
            _check(path, name, value, _GENERAL[name])
        else:
            raise InputError(f"{path}: unknown setting {name!r:.80}{_hint(name, known)}")
    data = table.get("data", {})
    return Config(
        source=data.get("source"),
        how={name: data[name] for name in _HOW if name in data},
        fingerprint=data.get("fingerprint"),
        drop_dependent=data.get("drop_dependent", False),
        seed=table.get("seed"),
        settings={name: table[name] for name in PARTS if name in table},
    )


def layered(settings: Settings, *layers: Layer) -> Settings:
    """`settings` with those of each layer, a later one on top of an earlier one.

    Where a layer names another learner than `settings` has, those that suit it are the ground
    (`TiltSettings.suiting`).
    """
    learners = [layer.get("tilt", {}).get("learner") for layer in layers]
    learner = next((name for name in reversed(learners) if name), settings.tilt.learner)
    if learner != settings.tilt.learner:
        settings = replace(settings, tilt=settings.tilt.suiting(learner))
    for layer in layers:
        settings = _with(settings, layer)
    return settings


def _with(part: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass with those values that are not None, in parts of parts, too."""
    changes = {
        name: _with(getattr(part, name), value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
    return replace(part, **changes)


def _names(kind: Any) -> dict[str, Any]:
    """The settings of a part, by name, with the type of each."""
    types = get_type_hints(kind)
    return {entry.name: types[entry.name] for entry in fields(kind)}


def _check_table(path: Path, table: str, values: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{path}: {table} is {values!r:.80}; expected a table, [{table}]")
    for name, value in values.items():
        if name not in known:
            close = _nearest(name, known)
            words = f"did you mean {close}?" if close else f"expected one of {', '.join(known)}"
            raise InputError(f"{path}: unknown setting {name!r:.80} in [{table}]: {words}")
        if is_dataclass(known[name]):
            _check_table(path, f"{table}.{name}", value, _names(known[name]))
        else:
            _check(path, f"{table}.{name}", value, known[name])


def _check(path: Path, name: str, value: Any, kind: Any) -> None:
    if not _fits(value, kind):
        raise InputError(f"{path}: {name} is {value!r:.80}; expected {_words(kind)}")


def _hint(name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Where a name that stands outside of all tables may belong."""
    if tables := [table for table, names in known.items() if name in names]:
        *others, last = (f"[{table}]" for table in tables)
        return f": it belongs into {' or '.join(filter(None, (', '.join(others), last)))}"
    if close := _nearest(name, [*_GENERAL, *known]):
        return f": did you mean {close if close in _GENERAL else f'[{close}]'}?"
    return f"; expected {', '.join(_GENERAL)} or a table, {', '.join(f'[{t}]' for t in known)}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)), None)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a TOML value is of a setting's type; a whole number will do for any number."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    kind = next((part for part in get_args(kind) if part is not type(None)), kind)
    names = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false",
             dict: "a table, [data.columns], of a kind by each name"}  # fmt: skip
    return names[kind]
