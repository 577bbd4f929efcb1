"""The two learners on the digits: held-out gain against seconds and against gradients.

    python benchmarks/learners.py [--json FILE] [--steps N]

One backbone, one tilt network, one data set; each learner with its own default settings. The
gain is that on validation data, as the learner's witnesses tell it. At the end fresh chains,
started from the backbone, tell it again: what a learner reports and they do not find is fiction.
"""

import argparse
import json
import time
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
from rich.console import Console
from rich.table import Table

from tiltflow.backbones import fit_units
from tiltflow.data import load, split
from tiltflow.evaluation.chains import SamplingSettings, fresh_chains
from tiltflow.evaluation.likelihood import score
from tiltflow.fitting.recipes import specification
from tiltflow.fitting.settings import Settings
from tiltflow.learning import Rows, TiltSettings, fit_backbone, fit_tilt
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.specs import ModelSpec
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import from_values, gain

SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of a learner's stages at which the table looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, help="optimiser steps of each learner, to be quick")
    arguments = parser.parse_args()

    data = load("digits")
    parts = split(data)
    units = fit_units("auto", data.values[parts.train], integers=True)
    train, val = (
        Rows(jnp.asarray(data.values[index]), units, True) for index in (parts.train, parts.val)
    )
    keys = jr.split(jr.key(0), 7)
    settings = Settings()
    spec = specification(settings.model, units)
    assert isinstance(spec, ModelSpec)
    flow, nll = fit_backbone(
        spec.flow(units, key=keys[0]), train, val, settings.backbone, key=keys[1], listen=quiet
    )
    print(f"backbone: {nll:.2f} nats on validation data")

    results = {}
    for learner in ("population", "persistent"):
        chosen = TiltSettings.default(learner, steps=arguments.steps)
        stages, started = [], time.perf_counter()

        def listen(phase: str, event: str, stages=stages, started=started, **fields) -> None:
            if event == "stage" and fields["holds"]:
                stages.append({**fields, "seconds": time.perf_counter() - started})

        tilt, judgement, _ = fit_tilt(
            flow, spec.tilt(key=keys[2]), train, val, chosen, key=keys[3], listen=listen
        )
        seconds = time.perf_counter() - started
        model = TiltedModel(flow, tilt)
        draws = fresh_chains(model, SamplingSettings(draws=500), keys[4], quiet)
        log_z = from_values(exact_f(model, 200_000, keys[5]), draws.summaries["f"])
        fresh = gain(score(model, val, keys[6]).f, log_z)
        results[learner] = {
            "curve": [
                {name: stages[i][name] for name in ("seconds", "gradients", "step", "gain_val")}
                for i in sorted({int(share * (len(stages) - 1)) for share in SHARES})
            ],
            "stages": [
                {name: stage[name] for name in ("seconds", "gradients", "step", "gain_val")}
                for stage in stages
            ],
            "seconds": seconds,
            "witnesses": float(judgement.gain_val),
            "fresh": {"mean": fresh.mean, "low": fresh.low, "high": fresh.high},
            "log_z_holds": log_z.holds,
        }
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def quiet(phase: str, event: str, **fields: object) -> None:
    """Listen to nothing."""


def show(results: dict) -> None:
    """Print the table."""
    table = Table("learner", "seconds", "gradients", "steps", "gain, nats", box=None)
    for learner, result in results.items():
        for point in result["curve"]:
            table.add_row(
                learner,
                f"{point['seconds']:.0f}",
                str(point["gradients"]),
                str(point["step"]),
                f"{point['gain_val']:.2f}",
            )
        fresh = result["fresh"]
        table.add_row(
            f"{learner}, kept",
            f"{result['seconds']:.0f}",
            "",
            "",
            f"witnesses {result['witnesses']:.2f}, fresh chains {fresh['mean']:.2f} "
            f"[{fresh['low']:.2f}, {fresh['high']:.2f}]",
        )
        table.add_section()
    Console(width=110).print(table)
    slow = results["persistent"]
    sooner = [p for p in results["population"]["stages"] if p["gain_val"] >= slow["witnesses"]]
    if sooner:
        print(
            f"population reaches the {slow['witnesses']:.2f} nats that persistent chains end with "
            f"after {sooner[0]['seconds']:.0f} s instead of {slow['seconds']:.0f} s, and after "
            f"{sooner[0]['gradients']} gradients a particle instead of "
            f"{slow['stages'][-1]['gradients']}"
        )


if __name__ == "__main__":
    main()
