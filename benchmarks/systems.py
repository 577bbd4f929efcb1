"""Systems that build on the paper, each a recipe in examples/systems: which of them hold up here.

    python benchmarks/systems.py [--json FILE] [--quick] [--seed N] [--only S2 S17 ...]

Every `sNN_*.py` that is there is run in a process of its own, one after the other, and exits by its
own thresholds; the table has all nineteen systems, and says which are not there. Shown of a recipe
is the first of its claims, or the first that fails.

Exits with 1 where a recipe fails. The JSON is a list with an object a recipe: system, title, claim,
baseline, value, threshold, pass, seconds, and `claims`, a list of all of its claims with the same
keys. A recipe that did not come to its table says so in `claim`, and does not pass.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "systems"
sys.path.insert(0, str(FOLDER))

from table import aligned  # noqa: E402

LONGEST = 3_600  # seconds that a recipe may take here; it means to take at most 600
SYSTEMS = {
    "S1": "value gradient sampler",
    "S2": "HMC on ReLU networks",
    "S3": "variational potential flow",
    "S4": "EM distillation",
    "S5": "energy correction in feature space",
    "S6": "energy-calibrated VAE",
    "S7": "manifold projection-diffusion recovery",
    "S8": "latent-space EBM for open-set recognition",
    "S9": "ranking NCE and energy-based policies",
    "S10": "regularised Wasserstein proximals",
    "S11": "fast and functional RBMs",
    "S12": "balanced training with adaptive flows",
    "S13": "HEAT",
    "S14": "energy-guided entropic transport",
    "S15": "CLEL",
    "S16": "approximate transport maps",
    "S17": "non-convergent sampling",
    "S18": "SO-EBM",
    "S19": "HybViT",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="all runs, little is shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="such as S2 S17")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the recipes")
    arguments = parser.parse_args()
    wanted = arguments.only or list(SYSTEMS)
    if unknown := [name for name in wanted if name not in SYSTEMS]:
        print(f"no system {unknown[0]!r}; expected S1 to S19", file=sys.stderr)
        return 2
    there = recipes(arguments.folder)
    found = []
    for system in wanted:
        if system in there:
            print(f"\n{system}, {SYSTEMS[system]}", flush=True)
            found.append(run(system, there[system], arguments.quick, arguments.seed))
    print(f"\n{shown(found)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(one["pass"] for one in found) else 1


def recipes(folder: Path) -> dict[str, Path]:
    """The recipes that are there, by system."""
    return {f"S{int(path.name[1:3])}": path for path in sorted(folder.glob("s[0-9][0-9]_*.py"))}


def run(system: str, path: Path, quick: bool, seed: int) -> dict[str, Any]:
    """One recipe, and what it has found."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        command = [sys.executable, str(path), "--json", str(out), "--seed", str(seed)]
        try:
            status = subprocess.run(command + ["--quick"] * quick, timeout=LONGEST).returncode
            why = f"did not come to its table: exit status {status}"
        except subprocess.TimeoutExpired:
            status, why = 1, f"was not over after {LONGEST} s"
        claims = json.loads(out.read_text()) if out.exists() else []
    seconds = round(time.perf_counter() - started, 1)
    failed = [claim for claim in claims if not claim["pass"]]
    nothing = {"claim": why, "baseline": None, "value": None, "threshold": None}
    shown = {**(failed or claims or [nothing])[0]}
    shown |= {"system": system, "title": SYSTEMS[system], "seconds": seconds, "claims": claims}
    return shown | {"pass": bool(claims) and not failed and status == 0}


def shown(found: list[dict[str, Any]]) -> str:
    """The table of all nineteen."""
    by_name = {one["system"]: one for one in found}
    rows = [("system", "claim", "baseline", "ours", "threshold", "pass", "seconds")]
    for name, title in SYSTEMS.items():
        one = by_name.get(name)
        cells = ["not there" if one is None else one["claim"]]
        for key in ("baseline", "value", "threshold"):
            value = None if one is None else one[key]
            cells.append("-" if value is None else f"{value:.4g}")
        cells += (
            ["-", "-"] if one is None else ["yes" if one["pass"] else "NO", f"{one['seconds']:.0f}"]
        )
        rows.append((f"{name} {title}", *cells))
    return aligned(rows)


if __name__ == "__main__":
    sys.exit(main())
