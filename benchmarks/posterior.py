"""`tiltflow.posterior` on densities whose evidence is known: error, stated error, verdict, cost.

    python benchmarks/posterior.py                     # targets, posteriors and traps, three seeds
    python benchmarks/posterior.py --targets funnel shells --seeds 1 --json funnel.json
    python benchmarks/posterior.py --frugal            # with a budget of evaluations
    python benchmarks/posterior.py --json all.json     # stopped? the same line goes on

`off` is log Z less the truth, `stated` its standard error, `tv` the total variation of the shares
that are stated of modes, where all are told apart (in the file also `tv of draws`), `inside`
whether the bounds hold the truth. A run is *wrong* if it is `ok` and off by more than 2.5 stated
errors, or with the truth outside of the bounds (there by more than rounding).
Of one trap nobody who can but evaluate the density finds the truth (`Case.beyond`): it is wrong all
the same, and counted apart; so are right runs of two others whose verdict has to be a caution
(`Case.doubt`): walls, and values that are no numbers. With ten seeds or more of a target, what log
Z is off by over the error that it states is summed up: its mean and root mean square should be 0,
and 1 or less.
Exit status 1 if any run is wrong, or a target misses what is asked of it at its seeds' median.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from posterior_cases import Case
from posterior_models import MODELS
from posterior_targets import TARGETS
from posterior_traps import TRAPS

import tiltflow

SLACK = 1e-3  # nats that the bounds may miss the truth by


def total_variation(case: Case, post: tiltflow.Posterior) -> tuple[float, float]:
    """Of the shares that are stated of modes, and of those of the draws.

    Modes that are not told apart have one share: then the first is that of the draws as well.
    """
    if case.shares is None or case.part is None:
        return math.nan, math.nan
    truth, number = np.asarray(case.shares), len(case.shares)
    counted = np.bincount(case.part(post.draws).ravel(), minlength=number)
    at = [int(case.part({n: v[None] for n, v in m.mean.items()})[0]) for m in post.modes]
    stated = np.bincount(at, [m.share for m in post.modes], number)
    if len(set(at)) < number:
        stated = counted / counted.sum()
    off = np.abs(np.stack([stated, counted / counted.sum()]) - truth)
    return tuple((0.5 * off.sum(axis=1)).tolist())


def measured(
    name: str, case: Case, seed: int, *, frugal: bool, limit_s: float = 150.0
) -> dict[str, Any]:
    """One run, in plain values."""
    rng = np.random.default_rng(10_000 + seed)
    start = None if case.start is None else case.start(rng)
    limit, within = case.frugal if frugal and case.frugal else (None, case.within)
    begun, cpu = time.perf_counter(), time.process_time()
    post = tiltflow.posterior(
        case.log_density, case.parameters, start=start, log_z_within=within, evaluations=limit,
        draws=case.draws, seconds=limit_s, seed=seed,
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    stated, counted = total_variation(case, post)
    z = post.log_z
    off = z.mean - case.log_z
    inside = bool(z.lower - SLACK <= case.log_z <= z.upper + SLACK)
    right = bool(abs(off) <= 2.5 * z.standard_error + SLACK / 2 and inside)
    return {
        "target": name,
        "seed": seed,
        "off": off,
        "stated": z.standard_error,
        "inside": inside,
        "right": right,
        "tv": stated,
        "tv of draws": counted,
        "rhat": post.worst["rhat"],
        "effective": post.worst["effective_share"],
        "k": post.worst["pareto_k"],
        "seconds": seconds,
        "cpu": cpu,
        "evaluations": post.budget.used,
        "verdict": post.verdict.status,
        "checks": {c.name: c.value for c in post.verdict.reasons},
        "broken": [f"{c.name} {c.value:.3g}" for c in post.verdict.broken],
        "helped": list(post.verdict.helped),
        "wrong ok": post.verdict.status == "ok" and not right,
        "beyond": case.beyond,
        "doubt": case.doubt,
        "stages": {n: round(s.seconds, 1) for n, s in post.budget.stages.items()},
    }


def line(run: dict[str, Any]) -> str:
    return (
        f"{run['target']:>15} {run['seed']:4d} {run['off']:+9.4f} {run['stated']:7.4f} "
        f"{run['inside']!s:>6} {run['tv']:6.3f} {run['rhat']:6.3f} {run['effective']:5.2f} "
        f"{run['cpu']:6.1f} {run['evaluations'] / 1000:7.0f}k  {run['verdict']}"
        f"{' WRONG' if run['wrong ok'] else ''}  {'; '.join(run['broken'])}"
    )


def missed(name: str, case: Case, runs: list[dict[str, Any]], *, frugal: bool) -> list[str]:
    """What a target misses, at the median of its runs."""
    found = [f"{name}: wrong ok, seed {run['seed']}" for run in runs if run["wrong ok"]]
    if frugal or math.isnan(case.most[0]):
        return found
    error, seconds = case.most
    for what, value, most in (
        ("|off|", float(np.median([abs(run["off"]) for run in runs])), error),
        ("first run's CPU seconds", runs[0]["cpu"], seconds),
        ("tv", float(np.median([run["tv"] for run in runs])), case.most_tv),
    ):
        if value > most:
            found.append(f"{name}: {what} {value:.4g}, asked {most:g}")
    return found


def honesty(runs: list[dict[str, Any]]) -> str:
    """Errors over stated errors, of many seeds of a target."""
    ratio = np.array([run["off"] / run["stated"] for run in runs])
    beyond = int(np.sum(np.abs(ratio) > 2.5))
    return (
        f"{runs[0]['target']:>15} {len(runs)} seeds: off over stated {ratio.mean():+.2f} "
        f"± {ratio.std(ddof=1) / len(ratio) ** 0.5:.2f}, root mean square "
        f"{math.sqrt(np.mean(ratio**2)):.2f}, {beyond} beyond 2.5"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="*", choices=[*TARGETS, *MODELS, *TRAPS])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from the first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=150.0, help="limit of each run")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds, on a busy machine")
    parser.add_argument("--frugal", action="store_true", help="with a budget of evaluations")
    parser.add_argument(
        "--json", type=Path, help="all numbers; runs that are there are not made again"
    )
    given = parser.parse_args(arguments)
    if given.cpu:
        time.monotonic = time.process_time
    cases = TARGETS | MODELS | TRAPS
    print(
        f"{'target':>15} seed {'off':>9} {'stated':>7} {'inside':>6} {'tv':>6} {'R-hat':>6} "
        f"{'eff':>5} {'cpu s':>6} {'evals':>8}  verdict"
    )
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    before = {(run["target"], run["seed"]): run for run in kept}
    everything, misses = [], []
    for name in given.targets or cases:
        case = cases[name]()
        runs = []
        for seed in range(given.first, given.first + given.seeds):
            run = before.get((name, seed))
            if run is None:
                run = measured(name, case, seed, frugal=given.frugal, limit_s=given.seconds)
                kept.append(run)
                if given.json:
                    given.json.write_text(json.dumps(kept, indent=1))
            runs.append(run)
            print(line(run), flush=True)
            everything.append(run)
        misses += missed(name, case, runs, frugal=given.frugal)
        if len(runs) >= 10:
            print(honesty(runs), flush=True)
    right = [run for run in everything if run["right"]]
    doubted = [run for run in right if run["verdict"] not in ("ok", "draw more")]
    wrong = [run for run in everything if run["wrong ok"]]
    meant = sum(bool(run["doubt"]) for run in doubted)
    print(
        f"{len(wrong)} wrong ok of {len(everything)} runs, {sum(bool(r['beyond']) for r in wrong)} "
        f"of them beyond what evaluations tell; {len(doubted)} of {len(right)} right runs doubted, "
        f"{meant} of them as they should be"
    )
    for words in misses:
        print("MISSED", words)
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
