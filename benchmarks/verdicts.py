"""A battery for the verdict: 60 fits, 30 of them broken in a known way, one line each.

    python benchmarks/verdicts.py [--json FILE] [--continue] [--only WORDS ...] [--data FOLDER]

Six fits are broken at each of the verdict's five parts (`verdicts_broken.py`,
`verdicts_sampled.py`), by settings, by a part put in through the public contracts, or by a step of
the fit that is replaced; 30 are sound (`verdicts_sound.py`): real tables of FOLDER and of
scikit-learn, and drawn ones. What is judged is the verdict that `tiltflow.fit` itself returns.

A broken fit counts as *seen* if it is not `ok` (nor `draw more`, which says that nothing is
wrong) or is refused, and as *named* if `verdict.part` is the part that was broken. A sound one
counts as *cleared* if it is `ok` or `draw more`. Exit status 1 where a broken one is not seen,
fewer than 27 are named, or more than 2 sound ones are not cleared.

Fits are small: tables of a few columns, of which most share their compiled programs. `--only` takes
those whose names have one of the words in them; `--continue` keeps the finished ones of FILE.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from verdicts_broken import BACKBONE, DATA, TILT
from verdicts_fits import Case, Outcome
from verdicts_sampled import CHAINS, LOG_Z
from verdicts_sound import FOLDER, sound_cases

from tiltflow.diagnostics.verdict import PARTS

LEAST_NAMED, MOST_DOUBTED = 0.9, 1 / 15  # of the broken, of the sound
CLEAR = ("ok", "draw more")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--continue", action="store_true", dest="go_on")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the shared tables")
    arguments = parser.parse_args()

    cases = [*DATA, *BACKBONE, *TILT, *CHAINS, *LOG_Z, *sound_cases(arguments.data)]
    results: dict[str, dict] = {}
    if arguments.go_on and arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text())
    for case in cases:
        wanted = not arguments.only or any(word in case.name for word in arguments.only)
        if not wanted or case.name in results:
            continue
        started = time.perf_counter()
        found = case.run()
        results[case.name] = told(case, found, time.perf_counter() - started)
        print(f"{case.name}: {found.status}, {found.part or '-'}: {found.words}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    results = {case.name: results[case.name] for case in cases if case.name in results}
    show(results)
    return judged(results)


def told(case: Case, found: Outcome, seconds: float) -> dict:
    """A case's line for the JSON file."""
    return {
        "part": case.part,
        "how": case.how,
        "status": found.status,
        "named": found.part,
        "words": found.words,
        "checks": found.checks,
        "good": good(case.part, found.status),
        "seconds": round(seconds, 1),
    }


def good(part: str | None, status: str) -> bool:
    """Whether a verdict clears a sound fit, or sees a broken one."""
    return (status in CLEAR) == (part is None)


def show(results: dict[str, dict]) -> None:
    """The table, and the sums."""
    table = Table("fit", "broken at", "how", "verdict", "at", "by", "s", box=None)
    for name, one in results.items():
        mark = "" if one["good"] and one["named"] == one["part"] else " <"
        table.add_row(
            name,
            one["part"] or "-",
            one["how"],
            one["status"] + ("" if one["good"] else " <<"),
            (one["named"] or "-") + ("" if one["part"] is None else mark),
            ", ".join(one["checks"])[:80],
            f"{one['seconds']:.0f}",
        )
    Console(width=220).print(table)
    for part in PARTS:
        of_part = [one for one in results.values() if one["part"] == part]
        if of_part:
            seen, named = (sum(found) for found in zip(*map(_seen_and_named, of_part), strict=True))
            print(f"{part}: {seen} of {len(of_part)} seen, {named} named")
    broken = [one for one in results.values() if one["part"]]
    sound = [one for one in results.values() if not one["part"]]
    if broken:
        seen, named = (sum(found) for found in zip(*map(_seen_and_named, broken), strict=True))
        print(f"broken: {seen} of {len(broken)} seen, {named} named")
    if sound:
        print(f"sound: {sum(one['good'] for one in sound)} of {len(sound)} cleared")


def judged(results: dict[str, dict]) -> int:
    """The exit status."""
    broken = [one for one in results.values() if one["part"]]
    sound = [one for one in results.values() if not one["part"]]
    unseen = [one for one in broken if not one["good"]]
    named = sum(_seen_and_named(one)[1] for one in broken)
    doubted = sum(not one["good"] for one in sound)
    missed = unseen or named < LEAST_NAMED * len(broken) or doubted > MOST_DOUBTED * len(sound)
    return 1 if missed else 0


def _seen_and_named(one: dict) -> tuple[bool, bool]:
    return one["good"], one["good"] and one["named"] == one["part"]


if __name__ == "__main__":
    sys.exit(main())
