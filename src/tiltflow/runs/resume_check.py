"""Whether a run that is to be gone on with is the one that was asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

from tiltflow.errors import InputError
from tiltflow.parallel.processes import anywhere, from_first
from tiltflow.runs.encode import to_toml
from tiltflow.runs.reading import toml_table

PLACE = ("data.source", "data.name")
"""Where the data are. It may differ where the same data, by their fingerprint, lie elsewhere."""
FREE = ("command", *PLACE)
"""What may differ between a run and the command that goes on with it, and between processes."""


def check_same_fit(former: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Compare the configurations of a run and of the command that goes on with it.

    Raises:
        InputError: they differ, in the data or in a setting; it names the first that does.
    """
    before, after = dict(_flat(former)), dict(_flat(toml_table(to_toml(now), where)))
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if name in FREE or old == new:
            continue
        if name == "data.fingerprint":
            raise InputError(
                f"the data have changed since {where} was begun: go on with the same data, or "
                f"begin again with --overwrite"
            )
        raise InputError(
            f"{name} is {new!r:.100}, but {where} was begun with {old!r:.100}: go on with the same "
            f"settings, or begin again with --overwrite"
        )


def moved(former: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the data are in another place than when the run was begun."""
    before, after = dict(_flat(former)), dict(_flat(now))
    return any(before.get(name) != after.get(name) for name in PLACE)


def check_same_everywhere(table: Mapping[str, Any]) -> None:
    """Compare the configurations of several processes; all have to ask.

    Raises:
        InputError: one has other data or another setting than the first; all raise.
    """
    first = toml_table(from_first(to_toml(table).encode()).decode(), "process 0")
    theirs, own = dict(_flat(first)), dict(_flat(toml_table(to_toml(table), "this process")))
    names = sorted(theirs.keys() | own.keys())
    other = next((n for n in names if n not in FREE and theirs.get(n) != own.get(n)), None)
    if not anywhere(other is not None):
        return
    if other is None:
        raise InputError(
            "another process has other data or settings; expected the same in all: see its words"
        )
    raise InputError(
        f"{other} is {own.get(other)!r:.100}, but {theirs.get(other)!r:.100} in process 0; "
        f"expected the same data and settings in all processes"
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
