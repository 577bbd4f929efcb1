"""`--until` and `--time-limit`, from words to targets."""

from collections.abc import Sequence
from typing import Any

from tiltflow.cli.options import seconds_of
from tiltflow.errors import InputError


def targets(until: Sequence[str], time_limit: str | None):
    """The targets of `--until NAME=NUMBER ...` and `--time-limit DURATION`, or None.

    Raises:
        InputError: another name, the same name twice, no number, or one that cannot be.
    """
    from tiltflow.mcmc.stopping import Until

    values: dict[str, Any] = {}
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
        values["seconds"] = seconds_of(time_limit, "--time-limit")
    return Until(**values) if values else None
