"""`--until` and `--time-limit`, from words to targets."""

import re
from collections.abc import Sequence

from tiltflow.errors import InputError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def targets(until: Sequence[str], time_limit: str | None):
    """The targets of `--until NAME=NUMBER ...` and `--time-limit DURATION`, or None.

    Raises:
        InputError: another name, the same name twice, no number, or one that cannot be.
    """
    from tiltflow.mcmc.stopping import Until

    values: dict[str, float] = {}
    for words in until:
        name, _, number = words.partition("=")
        if name not in ("ess", "rhat"):
            raise InputError(f"--until {words}: expected ess=NUMBER or rhat=NUMBER")
        if name in values:
            raise InputError(f"--until {words}: {name} is given twice; expected it once")
        try:
            values[name] = float(number)
        except ValueError:
            raise InputError(
                f"--until {words}: {number!r} is no number; expected as in {name}="
                f"{'1000' if name == 'ess' else '1.01'}"
            ) from None
    if time_limit is not None:
        values["seconds"] = seconds(time_limit)
    return Until(**values) if values else None


def seconds(duration: str) -> float:
    """Of `90`, `90s`, `2m`, `1.5h`; raises InputError for anything else."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)([smh]?)", duration.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(
            f"--time-limit {duration}: expected a number of seconds above 0, or as in 90s, 2m, 1.5h"
        )
    return float(found[1]) * UNITS[found[2] or "s"]
