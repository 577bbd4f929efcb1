"""Outliers in 29 sets: the library's score and other people's, AUROC and average precision.

    python benchmarks/outliers.py [--json FILE] [--data FOLDER] [--sets ...] [--splits N]

`outlier_sets.py` says what is done to the sets, `outlier_peers.py` who the others are. A: the
training rows hold their anomalies, and no label is used. B: training rows are normal. Ours is
`TiltedOutlierDetector(contaminated=True)` in A and `contaminated=False` in B, the same for all
sets. All see the same rows; the others see them standardised, without constant columns.

Means are over splits, then over sets; ranks are those among all methods, ties shared. `ahead` is
the mean, over sets, of ours less the other's, with the 95% interval of a bootstrap over sets.
`flagged` is the share of normal test rows with a p-value of at most 0.05. Seconds are fitting and
scoring, the mean of a set, and the largest.

Exits with 1 where a figure is missed: means below `LEAST`, or below one of the others', or a mean
rank behind one of theirs; more than 20 s a set; a mean rate of false alarms outside 0.03 to 0.07.
Keys of the JSON: {setting}.{method}.{auroc, average_precision, rank_auroc, rank_average_precision,
seconds, slowest, ahead}, {setting}.flagged, sets, variants, missed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from outlier_peers import Peer, peers
from outlier_sets import FOLDER, SETTINGS, SPLITS, Case, cases, names
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from tiltflow.evaluation.outliers.judge import measures
from tiltflow.sklearn import TiltedOutlierDetector

OURS = "tiltflow"
LEAST = {"A": (0.80, 0.49), "B": (0.87, 0.65)}  # AUROC and average precision, means over all sets
MOST_SECONDS = 20.0
RATE, FALSE_ALARMS = 0.05, (0.03, 0.07)
VARIANTS = 110  # looked at on these sets, or half of them, before the rule was fixed
MEASURES = ("auroc", "average_precision")
DRAWS = 10_000  # of the bootstrap over sets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", help="names, such as cover; all by default")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--alone", action="store_true", help="without the others: a look, no more")
    arguments = parser.parse_args()
    others, whose = ({}, "ours alone") if arguments.alone else peers()
    chosen = arguments.sets or names(arguments.data)
    if not chosen:
        print(f"no sets in {arguments.data}: pass their folder with --data")
        return 2
    print(whose, flush=True)

    results = {}
    for name in chosen:
        results[name] = compete(list(cases(arguments.data, name, arguments.splits)), others)
        each = [(s, results[name][s][OURS]) for s in SETTINGS]
        words = "  ".join(f"{s} {o['auroc']:.3f} / {o['average_precision']:.3f}" for s, o in each)
        print(f"{name}: {words}", flush=True)
    told = summary(results)
    missed = misses(told)
    if arguments.json:
        whole = {**told, "sets": results, "peers": whose, "variants": VARIANTS, "missed": missed}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    show(told, len(chosen))
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


def compete(split: list[Case], others: dict[str, Peer]) -> dict:
    """All methods on one set: the means over its splits, in both settings."""
    found = {setting: {} for setting in SETTINGS}
    for case in split:
        score, flagged, seconds = ours(case)
        add(found[case.setting], OURS, case, score, seconds, flagged=flagged)
        train, test = standardised(case)
        for name, other in others.items():
            started = time.perf_counter()
            score = other(train, test, case.split)
            add(found[case.setting], name, case, score, time.perf_counter() - started)
    return {
        setting: {
            method: {key: float(np.mean([one[key] for one in each])) for key in each[0]}
            for method, each in methods.items()
        }
        for setting, methods in found.items()
    }


def ours(case: Case) -> tuple[np.ndarray, float, float]:
    """Scores of the test rows, the share of normal ones with p <= 0.05, seconds."""
    started = time.perf_counter()
    detector = TiltedOutlierDetector(
        contamination=RATE, contaminated=case.setting == "A", random_state=case.split
    )
    used = np.ptp(case.train, axis=0) > 0
    detector.fit(case.train[:, used])
    score = -detector.score_samples(case.test[:, used])
    seconds = time.perf_counter() - started
    flagged = detector.score_.p_values(score)[~case.anomalies] <= RATE
    return score, float(flagged.mean()), seconds


def standardised(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows by the training rows' mean and deviation; no constant columns."""
    used = np.ptp(case.train, axis=0) > 0
    mean, sd = case.train[:, used].mean(axis=0), case.train[:, used].std(axis=0)
    return (case.train[:, used] - mean) / sd, (case.test[:, used] - mean) / sd


def add(into: dict, method: str, case: Case, score: np.ndarray, seconds: float, **more) -> None:
    told = measures(np.nan_to_num(score, nan=0.0, posinf=1e300, neginf=-1e300), case.anomalies)
    into.setdefault(method, []).append(
        {key: told[key] for key in MEASURES} | {"seconds": seconds} | more
    )


def summary(results: dict) -> dict:
    """Means over sets, ranks among methods, and how far ours is ahead."""
    found = {}
    for setting in SETTINGS:
        each = [one[setting] for one in results.values()]
        methods = list(each[0])
        values = {
            key: np.array([[one[m][key] for m in methods] for one in each]) for key in MEASURES
        }
        ranks = {
            key: rankdata(-table.round(10), axis=1).mean(axis=0) for key, table in values.items()
        }
        seconds = np.array([[one[m]["seconds"] for m in methods] for one in each])
        found[setting] = {"flagged": float(np.mean([one[OURS]["flagged"] for one in each]))}
        for j, method in enumerate(methods):
            found[setting][method] = {
                **{key: float(values[key][:, j].mean()) for key in MEASURES},
                **{f"rank_{key}": float(ranks[key][j]) for key in MEASURES},
                "seconds": float(seconds[:, j].mean()),
                "slowest": float(seconds[:, j].max()),
            }
            if method != OURS:
                ahead = {key: values[key][:, 0] - values[key][:, j] for key in MEASURES}
                found[setting][method]["ahead"] = {key: paired(x) for key, x in ahead.items()}
    return found


def paired(differences: np.ndarray) -> dict[str, float]:
    """The mean of differences of sets with its interval, and how sure it is that we are ahead."""
    rng = np.random.default_rng(0)
    draws = rng.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return {
        "mean": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "ahead": float(np.mean(draws > 0)),
    }


def misses(told: dict) -> list[str]:
    """What is not reached."""
    lines = []
    for setting in SETTINGS:
        methods = {name: one for name, one in told[setting].items() if name != "flagged"}
        own = methods.pop(OURS)
        for key, least in zip(MEASURES, LEAST[setting], strict=True):
            if own[key] < least:
                lines.append(f"{setting}: {key} {own[key]:.4f}; expected {least} at least")
            for name, other in methods.items():
                if own[key] <= other[key]:
                    lines.append(
                        f"{setting}: {key} of {name} is {other[key]:.4f}, ours {own[key]:.4f}"
                    )
                if own[f"rank_{key}"] >= other[f"rank_{key}"]:
                    lines.append(f"{setting}: {name} is ahead by its mean rank in {key}")
        if own["slowest"] > MOST_SECONDS:
            lines.append(
                f"{setting}: {own['slowest']:.0f} s for one set; expected {MOST_SECONDS:.0f}"
            )
        low, high = FALSE_ALARMS
        if not low <= told[setting]["flagged"] <= high:
            rate = told[setting]["flagged"]
            lines.append(f"{setting}: {rate:.3f} of normal rows flagged; expected {low} to {high}")
    return lines


def show(told: dict, sets: int) -> None:
    """Print a table a setting."""
    words = {"A": "training rows with their anomalies", "B": "normal training rows"}
    for setting in SETTINGS:
        table = Table(
            "method", "AUROC", "AP", "ranks", "ahead in AUROC", "ahead in AP", "s", "slowest",
            title=f"{setting}: {words[setting]}, {sets} sets", title_justify="left", box=None,
        )  # fmt: skip
        methods = {name: one for name, one in told[setting].items() if name != "flagged"}
        for name, one in sorted(methods.items(), key=lambda pair: -pair[1]["auroc"]):
            ahead = [told_interval(one["ahead"][key]) if "ahead" in one else "" for key in MEASURES]
            table.add_row(
                name,
                f"{one['auroc']:.4f}",
                f"{one['average_precision']:.4f}",
                f"{one['rank_auroc']:.1f}, {one['rank_average_precision']:.1f}",
                *ahead,
                f"{one['seconds']:.2f}",
                f"{one['slowest']:.1f}",
            )
        Console(width=140).print(table)
        rate = told[setting]["flagged"]
        print(f"of normal test rows {rate:.3f} are flagged at {RATE}\n")
    print(f"{VARIANTS} variants were looked at on these sets before the rule was fixed")


def told_interval(one: dict[str, float]) -> str:
    return f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


if __name__ == "__main__":
    sys.exit(main())
