"""Whether a run that is to be gone on with is the one that was asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

from tiltflow.errors import InputError
from tiltflow.runs.encode import to_toml
from tiltflow.runs.reading import toml_table

FREE = ("command",)
"""What may differ."""


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


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
