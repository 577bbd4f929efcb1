"""Runs side by side: what can be compared, what cannot, and which settings differ.

Likelihoods are comparable on the same test rows alone. So runs are grouped by their data and
split, `A`, `B`, ..., and no run is held against one of another group. A run that is unfinished or
whose chains have not converged is shown, and never counts as the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltflow.errors import InputError
from tiltflow.runs.store import CONFIG, EVENTS

from .numbers import finite, flatten
from .run_folder import Run, read_run

UNKNOWN = "?"
"""The group of runs that do not say what their data were."""

_NUMBERS = (
    ("backbone", "nll_test"),
    ("tilted", "nll_test"), ("tilted", "nll_low"), ("tilted", "nll_high"),
    ("gain_nats", "mean"), ("gain_nats", "low"), ("gain_nats", "high"),
    ("log_z", "mean"), ("log_z", "low"), ("log_z", "high"),
    ("mixing", "rhat_max"), ("mixing", "ess_bulk_min"),
    ("seconds", "total"),
)  # fmt: skip
_NOT_SETTINGS = ("command", "data.fingerprint")


@dataclass(frozen=True)
class Entry:
    """A run among others.

    Attributes:
        label: its folder's name, or as much of its path as tells it from the others.
        path: its folder.
        run: what was found there.
        group: of runs on the same data: `A`, `B`, ... or UNKNOWN.
    """

    label: str
    path: Path
    run: Run
    group: str

    @property
    def status(self) -> str:
        """That of its verdict, one of `STATUSES`; or `unfinished`."""
        return self.run.metric("verdict", "status") if self.run.judged else "unfinished"

    @property
    def trusted(self) -> bool:
        """Whether its numbers may be held against others'."""
        return self.status in ("ok", "draw more", "caution")

    @property
    def is_bound(self) -> bool:
        """Whether its likelihoods are bounds, as those of a variational autoencoder are."""
        return self.trusted and self.run.is_bound

    def number(self, *keys: str) -> float | None:
        """A number of its metrics."""
        return finite(self.run.metric(*keys))

    def to_dict(self) -> dict[str, Any]:
        """The numbers that are compared, by their keys in `metrics.json`."""
        numbers: dict[str, dict[str, Any]] = {}
        for block, name in _NUMBERS:
            numbers.setdefault(block, {})[name] = self.number(block, name)
        return {
            "run": str(self.path),
            "label": self.label,
            "data": self.run.data_name,
            "group": self.group,
            "status": self.status,
            "last_event": self.run.last_event if self.status == "unfinished" else None,
            **numbers,
        }


@dataclass(frozen=True)
class Comparison:
    """Runs, in the order in which they were named.

    Attributes:
        entries: at least two.
        settings: by their dotted names, those that differ: one value a run, None where a run
            has no such setting.
        notes: sentences for the reader: what cannot be compared, and what is best.
    """

    entries: tuple[Entry, ...]
    settings: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]

    @property
    def groups(self) -> dict[str, list[Entry]]:
        """The entries by their data."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, []).append(entry)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "same_data": len(self.groups) == 1 and UNKNOWN not in self.groups,
            "runs": [entry.to_dict() for entry in self.entries],
            "settings": {name: list(values) for name, values in self.settings.items()},
            "notes": list(self.notes),
        }


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Read the runs in `folders`, in whatever state they are.

    Raises:
        InputError: fewer than two, one that is named twice, or one that is no folder.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise InputError(f"{len(paths)} runs to compare; expected at least two folders")
    for number, path in enumerate(paths):
        if not any((path / name).is_file() for name in (CONFIG, EVENTS)):
            raise InputError(f"{path} is not a run; expected a folder made by `tiltflow fit`")
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise InputError(f"{path} is named twice; expected each run once")
    runs = [read_run(path) for path in paths]
    entries = tuple(
        Entry(label, path, run, group)
        for label, path, run, group in zip(_labels(paths), paths, runs, _groups(runs), strict=True)
    )
    return Comparison(entries, _differing(runs), tuple(_notes(entries)))


def best(entries: Sequence[Entry]) -> Entry | None:
    """Of entries on the same data, the trusted one with the lowest likelihood loss."""
    scored = [
        (value, number)
        for number, entry in enumerate(entries)
        if entry.trusted and (value := entry.number("tilted", "nll_test")) is not None
    ]
    return entries[min(scored)[1]] if scored else None


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths, of one length, that differ."""
    parts = [path.resolve().parts for path in paths]
    length = 1
    while len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return ["/".join(p[-length:]) for p in parts]


def _groups(runs: Sequence[Run]) -> list[str]:
    """A letter for the data and split of each run, or UNKNOWN.

    A density of integers is none of continuous values: what columns were taken for belongs to the
    split. Runs that do not say yet are taken to do as others.
    """
    kinds: list[tuple[str, list[Any]]] = []
    groups = []
    for run in runs:
        data = run.config.get("data")
        fingerprint = data.get("fingerprint") if isinstance(data, Mapping) else None
        rows = [*(run.metric("data", part) for part in ("train", "val", "test")), _measure(run)]
        if not isinstance(fingerprint, str):
            groups.append(UNKNOWN)
            continue
        for number, (known, split) in enumerate(kinds):
            if known == fingerprint and (rows == split or None in rows or None in split):
                kinds[number] = (known, split if None in rows else rows)
                break
        else:
            number = len(kinds)
            kinds.append((fingerprint, rows))
        groups.append(_letter(number))
    return groups


def _measure(run: Run) -> Any:
    """What a score of the run is the logarithm of: the kinds of its numbers, and noise; or None."""
    noise = dict(flatten(run.config)).get("model.noise") or 0.0
    kinds, integers = run.metric("data", "kinds"), run.metric("data", "integers")
    if kinds is None and integers is not None:  # of a former version
        shape, log_cell = run.metric("data", "shape"), run.metric("data", "grid", "log_cell")
        kinds = "grid of 1" if integers else "continuous"
        if isinstance(shape, list) and len(shape) == 1:
            kinds = [kinds] * int(shape[0])
        if log_cell is not None:
            kinds = log_cell
    return None if kinds is None else (kinds, noise)


def _unlike(entries: Sequence[Entry]) -> str:
    """Why two runs on the same rows are in different groups, if they are, in a sentence."""
    for number, one in enumerate(entries):
        for other in entries[:number]:
            same = one.group != UNKNOWN != other.group and _rows(one.run) == _rows(other.run)
            if same and one.group != other.group:
                words = _apart(_measure(other.run), _measure(one.run))
                return (
                    f"{other.label} and {one.label} are on the same rows, and score them in unlike "
                    f"measures: {words}. Give the columns of both the same kinds (--column), and "
                    f"fit again."
                )
    return ""


def _rows(run: Run) -> list[Any]:
    data = run.config.get("data")
    fingerprint = data.get("fingerprint") if isinstance(data, Mapping) else None
    return [fingerprint, *(run.metric("data", part) for part in ("train", "val", "test"))]


def _apart(first: Any, second: Any) -> str:
    """In what two measures differ."""
    (kinds, noise), (others, noise_of_others) = first, second
    if noise != noise_of_others:
        return f"noise of {noise:g} is added to the rows of one, and of {noise_of_others:g} there"
    if isinstance(kinds, list) and isinstance(others, list) and len(kinds) == len(others):
        pairs = enumerate(zip(kinds, others, strict=True))
        place, (one, other) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        return f"column {place} is {one} for the first and {other} for the second"
    return "what their numbers are taken for differs"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _differing(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not the same in all runs."""
    tables = [dict(flatten(run.config)) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table if name not in _NOT_SETTINGS)
    values = {name: tuple(table.get(name) for table in tables) for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row[1:])}


def _notes(entries: Sequence[Entry]) -> list[str]:
    notes = []
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    if unknown := groups.pop(UNKNOWN, []):
        notes.append(
            f"{_list(unknown)}: the data are not on record, so nothing here can be held against "
            f"the other runs."
        )
    if len(groups) > 1:
        words = "; ".join(f"{letter}: {_list(members)}" for letter, members in groups.items())
        notes.append(
            f"These runs are on different data or splits ({words}). Likelihoods and gains of "
            f"different groups cannot be compared."
        )
        if unlike := _unlike(entries):
            notes.append(unlike)
    for members in groups.values():
        if (first := best(members)) is not None and len(members) > 1:
            notes.append(_lowest(first, members))
    if bounds := [entry for entry in entries if entry.is_bound]:
        notes.append(
            f"{_list(bounds)}: of a variational autoencoder, whose likelihoods are bounds: the "
            f"negative log-likelihood is at most what is shown."
        )
    if failed := [entry for entry in entries if entry.status == "failed"]:
        notes.append(f"{_list(failed)}: not converged, so the numbers are not to be trusted.")
    for entry in entries:
        if entry.status == "unfinished":
            far = f" ({entry.run.last_event})" if entry.run.last_event else ""
            notes.append(f"{entry.label}: unfinished{far}, so there are no numbers yet.")
    return notes


def _lowest(first: Entry, members: Sequence[Entry]) -> str:
    """Which run is best, and which others its interval does not tell it from."""
    high = first.number("tilted", "nll_high")
    close = [
        entry
        for entry in members
        if entry is not first
        and entry.trusted
        and high is not None
        and (low := entry.number("tilted", "nll_low")) is not None
        and low <= high
    ]
    words = f"Lowest negative log-likelihood: {first.label}."
    if not close:
        return words
    return (
        f"{words} The 95% intervals of {_list(close)} overlap with its own; all are from the same "
        f"test rows, so a difference can be real all the same."
    )


def _list(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.label for entry in entries)
