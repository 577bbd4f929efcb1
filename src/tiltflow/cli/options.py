"""The options that commands share, with the words that `--help` shows."""

import math
from typing import Annotated, Literal

from cyclopts import Parameter

from tiltflow.errors import InputError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Seed = Annotated[int, Parameter(help="Of everything random: the same seed, the same numbers.")]
Json = Annotated[
    bool,
    Parameter(negative=(), help="Print one JSON object on standard output, and nothing else."),
]
Overwrite = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Replace what is there, once the new one is finished; a run with all in its folder.",
    ),
]


Columns = Annotated[
    list[str] | None,
    Parameter(
        name="--column",
        negative=(),
        help="What a column of a table is, whatever it looks like, as NAME=KIND: continuous, grid, "
        "grid:STEP (as price=grid:0.05) or category; once for each column.",
    ),
]


Atoms = Annotated[
    Literal["keep", "separate"] | None,
    Parameter(
        help="Values that many rows of a continuous column share, zeros and caps: separate sets "
        "them apart, so that scores count their mass; keep, the default, leaves them, and the "
        "verdict says so."
    ),
]


def kinds_by_name(column: list[str] | None) -> dict[str, str] | None:
    """What `--column` says, by the names of columns; None: nothing.

    Raises:
        InputError: not NAME=KIND, no such kind, or one column twice.
    """
    from tiltflow.data.kinds import EXPECTED, asked_kinds

    found: dict[str, str] = {}
    for words in column or ():
        name, equal, kind = words.rpartition("=")
        if not (name and equal):
            raise InputError(f"--column {words:.80}: no NAME=KIND; {EXPECTED} as KIND")
        if name in found:
            raise InputError(f"--column {name:.60} is given twice; expected one kind")
        found[name] = kind
    asked_kinds(found)
    return found or None


def seconds_of(text: str, name: str) -> float:
    """A time such as `90`, `90s`, `2m` or `1.5h` in seconds.

    Raises:
        InputError: anything else, or a time that is not positive.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"{name} is {text!r}; expected a time such as 60s, 2m or 1h")
    return seconds
