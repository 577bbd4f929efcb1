"""A density shoot-out: held-out nats per example, with intervals, one table.

    python benchmarks/density.py [--json FILE] [--data FOLDER] [--sets ...] [--models ...] [--quick]

The digits, and the tables protein, elevators and pol of the UCI repository where FOLDER holds
them (FOLDER/pol/data.csv.gz); `density_sets.py` says what is done to them, `density_tilted.py`
and `density_peers.py` what the models are. All models see the same rows and the same noise, and
validation rows alone choose sizes and settings.

Intervals are 95%, over test rows; that of the tilted flow has the error of log Z in it as well.
`ahead` is the mean, over test rows, of a model's nats minus those of the tilted flow, with the
interval of these paired differences: positive where the tilted flow is better. Seconds are
compilation, fitting, choosing and scoring. Keys of the JSON: {set}.{model}.{nll, low, high,
seconds, chosen} and {set}.{model}.ahead.{mean, low, high}.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from density_peers import score_ebmkit, score_flowjax, score_kernels, score_mixture
from density_sets import SETS, Shared, gather
from density_tilted import Scored, score_larger, score_tilted
from rich.console import Console
from rich.table import Table

from tiltflow.fitting.settings import Settings

MODELS = ("tilted", "flow", "larger_flow", "mixture", "kernels", "flowjax", "ebmkit")
PEERS = {
    "mixture": score_mixture,
    "kernels": score_kernels,
    "flowjax": score_flowjax,
    "ebmkit": score_ebmkit,
}
FOLDER = Path(__file__).parents[1] / "../shared/data/uci"
HALF_WIDTH = 1.96  # standard errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the tables")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--quick", action="store_true", help="few rows and steps: a look, no more")
    arguments = parser.parse_args()

    results = {}
    for name in arguments.sets:
        shared = gather(name, arguments.data, quick=arguments.quick)
        if shared is None:
            print(f"{name}: not in {arguments.data}, skipped", flush=True)
            continue
        scored = compete(shared, arguments.models, arguments.quick)
        results[name] = {model: told(one, scored.get("tilted")) for model, one in scored.items()}
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def compete(shared: Shared, models: list[str], quick: bool) -> dict[str, Scored]:
    """Every one of `models` that can be had, on one set."""
    started = time.perf_counter()

    def say(words: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {shared.name}: {words}", flush=True)

    draws, dim = shared.test.shape[1:]
    say(
        f"{shared.rows} training rows with {shared.copies} draws of the noise, "
        f"{len(shared.test)} test rows with {draws}, {dim} columns"
    )
    scored: dict[str, Scored] = {}
    if {"tilted", "flow", "larger_flow"} & set(models):
        scored |= score_tilted(shared, quick_settings() if quick else None, say)
    if "larger_flow" in models:
        scored["larger_flow"] = score_larger(shared, scored["tilted"].seconds, say)
    for model, score in PEERS.items():
        if model in models and (found := score(shared, say)) is not None:
            scored[model] = found
            say(f"{model}: {found.nll.mean():.2f} nats, {found.words}")
    return {model: scored[model] for model in models if model in scored}


def quick_settings() -> Settings:
    """Enough to see that everything runs."""
    settings = Settings()
    return replace(
        settings,
        backbone=replace(settings.backbone, steps=500),
        tilt=replace(settings.tilt, steps=300),
        sampling=replace(settings.sampling, draws=300, exact_draws=20_000),
    )


def told(one: Scored, tilted: Scored | None) -> dict:
    """A model's numbers for the JSON file."""
    low, high = interval(one.nll, one)
    numbers = {
        "nll": float(one.nll.mean()),
        "low": low,
        "high": high,
        "seconds": round(one.seconds, 1),
        "chosen": one.words,
    }
    if tilted is not None and one is not tilted:
        ahead = one.nll - tilted.nll
        low, high = interval(ahead, tilted)
        numbers["ahead"] = {"mean": float(ahead.mean()), "low": low, "high": high}
    return numbers


def interval(values: np.ndarray, one: Scored) -> tuple[float, float]:
    """The 95% interval of the mean of `values`, widened by the error of `one`'s log Z."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    if one.log_z is not None:
        error = math.hypot(error, one.log_z.standard_error)
    mean = values.mean()
    return float(mean - HALF_WIDTH * error), float(mean + HALF_WIDTH * error)


def show(results: dict) -> None:
    """Print the table, and where the tilted flow is not ahead."""
    table = Table("set", "model", "nats", "95%", "behind the tilted flow", "s", "chosen", box=None)
    for name, models in results.items():
        for model, one in sorted(models.items(), key=lambda pair: pair[1]["nll"]):
            ahead = one.get("ahead")
            table.add_row(
                name,
                model,
                f"{one['nll']:.2f}",
                f"{one['low']:.2f} to {one['high']:.2f}",
                f"{ahead['mean']:.2f} ({ahead['low']:.2f} to {ahead['high']:.2f})" if ahead else "",
                f"{one['seconds']:.0f}",
                one["chosen"],
            )
        table.add_section()
    Console(width=140).print(table)
    for name, models in results.items():
        for model, one in models.items():
            if "ahead" in one and one["ahead"]["low"] <= 0:
                print(f"{name}: the tilted flow is not ahead of {model} for certain")


if __name__ == "__main__":
    main()
