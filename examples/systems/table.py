"""What a recipe prints, writes and exits with: claims, each held against its threshold.

A claim is one number of ours beside the same number of a baseline, and the threshold that ours has
to reach. A recipe is `parser`, some work, and `finish`:

    arguments = parser(__doc__).parse_args()
    sys.exit(finish(claims, arguments, seconds))
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Claim(NamedTuple):
    """One number, and what it has to reach.

    Attributes:
        system: "S1" to "S19".
        claim: what is claimed, in words, with its unit.
        baseline: the same number of what it is held against; None where there is none.
        value: ours.
        threshold: what ours has to reach; None: the number is told, and nothing is asked of it.
        larger_is_better: whether ours has to be at least, or at most, the threshold.
    """

    system: str
    claim: str
    baseline: float | None
    value: float
    threshold: float | None
    larger_is_better: bool = True

    @property
    def passes(self) -> bool:
        """Whether the threshold is reached; a number that is not finite reaches none."""
        if self.threshold is None:
            return True
        if not math.isfinite(self.value):
            return False
        if self.larger_is_better:
            return self.value >= self.threshold
        return self.value <= self.threshold


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that all recipes take; of a module's docstring the first line is shown."""
    found = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    found.add_argument("--quick", action="store_true", help="for tests: all runs, little is shown")
    found.add_argument("--seed", type=int, default=0, help="of everything random")
    found.add_argument("--json", type=Path, help="file for the numbers")
    return found


def finish(claims: Sequence[Claim], arguments: argparse.Namespace, seconds: float) -> int:
    """Print the table, write the JSON, and say with what to exit: 1 where a claim does not pass."""
    print(table(claims))
    print(f"{seconds:.0f} s, seed {arguments.seed}", flush=True)
    if arguments.json is not None:
        rows = [as_object(claim, seconds) for claim in claims]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(claim.passes for claim in claims) else 1


def as_object(claim: Claim, seconds: float) -> dict[str, Any]:
    """Plain values for JSON, null for a number that is not finite."""
    return {
        "system": claim.system,
        "claim": claim.claim,
        "baseline": _plain(claim.baseline),
        "value": _plain(claim.value),
        "threshold": _plain(claim.threshold),
        "pass": claim.passes,
        "seconds": round(seconds, 1),
    }


def table(claims: Sequence[Claim]) -> str:
    """Lines of claim, baseline, ours, threshold, and whether it passes."""
    rows = [("claim", "baseline", "ours", "threshold", "pass")]
    rows += [
        (
            claim.claim,
            _number(claim.baseline),
            _number(claim.value),
            _limit(claim),
            "told" if claim.threshold is None else "yes" if claim.passes else "NO",
        )
        for claim in claims
    ]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns, two spaces apart: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)


def _limit(claim: Claim) -> str:
    if claim.threshold is None:
        return "-"
    return f"{'>=' if claim.larger_is_better else '<='} {_number(claim.threshold)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
