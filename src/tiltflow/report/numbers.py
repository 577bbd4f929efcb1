"""Numbers as a reader wants them: few digits, true minus signs, and words for what is missing."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = "–"


def finite(value: object) -> float | None:
    """The value as a finite float, or None for anything else (null, text, NaN, a truth value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def readable(value: object) -> str:
    """Any leaf of a metrics or configuration tree as text; floats to four significant digits."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _thousands(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list | tuple):
        return _listed(value)
    return str(value)


def nats(value: object) -> str:
    """A log-likelihood in nats: two decimals, fewer where the number is large."""
    number = finite(value)
    if number is None:
        return MISSING
    decimals = 2 if abs(number) < 1_000 else 1 if abs(number) < 100_000 else 0
    return _minus(f"{number:,.{decimals}f}")


def signed_nats(value: object) -> str:
    """A difference of log-likelihoods in nats, with its sign."""
    number = finite(value)
    return MISSING if number is None else ("+" if number > 0 else "") + nats(number)


def interval(low: object, high: object) -> str | None:
    """Two ends in nats as 'low to high', or None where one of them is missing."""
    if finite(low) is None or finite(high) is None:
        return None
    return f"{nats(low)} to {nats(high)}"


def seconds(value: object) -> str:
    """A duration given in seconds as '41 s', '4 min 05 s' or '2 h 10 min'."""
    number = finite(value)
    if number is None:
        return MISSING
    if abs(number) < 60:
        return _minus(f"{number:.1f} s" if abs(number) < 10 else f"{number:.0f} s")
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def literal(value: object) -> str:
    """A setting as one would type it: nothing rounded, nothing grouped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(literal(v) for v in value)
    return str(value)


def shape(sides: object) -> str:
    """The shape of an array as '8 × 8'."""
    return " × ".join(readable(side) for side in sides) if isinstance(sides, list) else MISSING


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables as ('outer.inner', value), in their order."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def _float(value: float) -> str:
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return _minus(f"{value:.3e}")
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return _minus(text.rstrip("0").rstrip(".") if "." in text else text)


def _thousands(value: int) -> str:
    return _minus(f"{value:,}")


def _listed(value: list[Any] | tuple[Any, ...]) -> str:
    shown = ", ".join(readable(v) for v in value[:12])
    return f"{shown}, … ({len(value)} in all)" if len(value) > 12 else shown or "none"


def _minus(text: str) -> str:
    return text.replace("-", "−")
