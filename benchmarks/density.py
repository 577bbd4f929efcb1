"""A density shoot-out: held-out nats per row within equal time, with paired intervals.

    python benchmarks/density.py [--json FILE] [--continue] [--seconds 30 60] [--sets ...]
                                 [--models ...] [--picture FILE.png]

Every model runs in a process of its own, on the same rows with the same noise (`density_sets.py`),
and has the same seconds in all: compiling, fitting, choosing and scoring. `ours` is `tiltflow.fit`
with a budget and nothing else (`density_ours.py`), `backbone` the same without its tilt; the peers
are in `density_peers.py`. Validation rows alone choose. `ahead` is the mean over test rows of a
model's nats minus ours, with the 95% interval of these paired differences, positive where ours is
better; the error of log Z is in it.

Exits with 1 where ours is behind the best peer by more than the interval on any set, or is ahead of
every peer outside of it on fewer than 10 of 14 sets (less in proportion, where fewer are run).
`--continue` keeps what FILE has.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from density_sets import SETS
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PEERS = (
    "mixture", "kernels", "flowjax maf", "flowjax spline", "flowjax maf, our units",
    "flowjax spline, our units",
)  # fmt: skip
OWN = ("ours", "backbone")
HALF_WIDTH = 1.96  # standard errors
LEAST_AHEAD = 10 / 14  # of the sets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--continue", action="store_true", dest="go_on")
    parser.add_argument("--seconds", nargs="+", type=float, default=[30.0, 60.0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--models", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()

    results: dict[str, dict] = {}
    if arguments.go_on and arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text())
    for name in arguments.sets:
        for seconds in arguments.seconds:
            found = results.setdefault(name, {}).setdefault(f"{seconds:g}", {})
            for model in ("ours", *arguments.models):
                if model not in found:
                    found |= run(name, model, seconds)
                    print(line(name, seconds, model, found[model]), flush=True)
                    if arguments.json:
                        arguments.json.write_text(json.dumps(results) + "\n")
    show(results)
    if arguments.picture:
        draw(results, arguments.picture)
    return judged(results)


def run(name: str, model: str, seconds: float) -> dict[str, dict]:
    """One model on one set; what was told of it, and the nats of each test row."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        command = [sys.executable, str(HERE / "density_one.py"), name, model, str(seconds), out]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
        if done.returncode:
            why = (done.stderr.strip() or "no reason given").splitlines()[-1]
            return {model: {"failed": why}}
        with np.load(out) as found:
            told = json.loads(str(found["told"]))
            nll = {n: [round(float(v), 5) for v in found[n]] for n in found.files if n != "told"}
    others = {n: {"nll": values, "chosen": ""} for n, values in nll.items() if n != "nll"}
    return {model: {**told, "nll": nll["nll"]}, **others}


def line(name: str, seconds: float, model: str, found: dict) -> str:
    """What is printed as it comes."""
    if "failed" in found:
        return f"{name}, {seconds:g} s, {model}: {found['failed']}"
    return (
        f"{name}, {seconds:g} s, {model}: {-np.mean(found['nll']):.3f} nats after "
        f"{found['seconds']:.0f} s; {found['chosen']}"
    )


def ahead(found: dict[str, dict], model: str) -> tuple[float, float] | None:
    """By how much ours is ahead of a model, and half its interval; None: one of them failed."""
    if "nll" not in found.get(model, {}) or "nll" not in found.get("ours", {}):
        return None
    away = np.asarray(found[model]["nll"]) - np.asarray(found["ours"]["nll"])
    error = math.hypot(away.std(ddof=1) / math.sqrt(len(away)), found["ours"]["log_z_error"])
    return float(away.mean()), HALF_WIDTH * error


def best_peer(found: dict[str, dict]) -> str | None:
    """The peer that ours is least ahead of, by test rows: what makes it hardest for ours."""
    known = {m: a[0] for m in PEERS if (a := ahead(found, m)) is not None}
    return min(known, key=known.__getitem__) if known else None


def show(results: dict[str, dict]) -> None:
    """The table."""
    table = Table(title="Held-out nats a row, and by how much ours is ahead of others")
    columns = ("set", "seconds", "ours", "took", "its verdict", "backbone", "best peer", *PEERS)
    for column in columns:
        table.add_column(column, justify="left" if column in ("set", "best peer") else "right")
    for name, by_seconds in results.items():
        for seconds, found in by_seconds.items():
            ours = found.get("ours", {})
            if "nll" not in ours:
                table.add_row(name, seconds, "failed")
                continue
            cells = [
                "-" if (a := ahead(found, m)) is None else f"{a[0]:+.2f} ± {a[1]:.2f}"
                for m in ("backbone", *PEERS)
            ]
            table.add_row(
                name, seconds, f"{-np.mean(ours['nll']):.2f}", f"{ours['seconds']:.0f} s",
                ours["verdict"], cells[0], best_peer(found) or "-", *cells[1:],
            )  # fmt: skip
    Console(width=220 if not sys.stdout.isatty() else None).print(table)


def judged(results: dict[str, dict]) -> int:
    """0 if ours is where it is asked to be."""
    status = 0
    for seconds in sorted({s for found in results.values() for s in found}, key=float):
        compared = {
            name: ahead(found[seconds], peer)
            for name, found in results.items()
            if seconds in found and (peer := best_peer(found[seconds])) is not None
        }
        behind = [name for name, (mean, half) in compared.items() if mean < -half]
        first = [name for name, (mean, half) in compared.items() if mean > half]
        late = [
            name for name in compared
            if results[name][seconds]["ours"]["seconds"] > 1.1 * float(seconds)
        ]  # fmt: skip
        print(
            f"{seconds} s: of {len(compared)} sets ours is ahead of every peer on {len(first)}, "
            f"behind the best on {len(behind)} ({', '.join(behind) or 'none'}), late by more than "
            f"a tenth on {len(late)} ({', '.join(late) or 'none'})"
        )
        if behind or late or len(first) < LEAST_AHEAD * len(compared):
            status = 1
    return status


def draw(results: dict[str, dict], path: Path) -> None:
    """Nats against seconds, a panel a set."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.axis("off")
    for axis, (name, by_seconds) in zip(axes.flat, results.items(), strict=False):
        for model in ("ours", *PEERS):
            points = [
                (found[model]["seconds"], -np.mean(found[model]["nll"]))
                for found in by_seconds.values()
                if "nll" in found.get(model, {})
            ]
            if points:
                style = {"lw": 2.5, "color": "black", "zorder": 3} if model == "ours" else {"lw": 1}
                axis.plot(*zip(*sorted(points), strict=True), "o-", ms=4, label=model, **style)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("seconds", fontsize=8)
        axis.set_ylabel("nats a row", fontsize=8)
        axis.tick_params(labelsize=7)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    raise SystemExit(main())
