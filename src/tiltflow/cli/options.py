"""The options that commands share, with the words that `--help` shows."""

import math
from typing import Annotated

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
