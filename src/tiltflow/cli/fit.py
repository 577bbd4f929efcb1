"""`tiltflow fit DATA --out RUN`."""

import math
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed

UNCONVERGED = 3


def fit(
    data: Annotated[
        str,
        Parameter(
            help="`digits` (8x8 images, built in), or a path to a .npy, .npz or .csv file with "
            "one example a row."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="The run's folder; by default runs/NAME OF THE DATA.")
    ] = None,
    seed: Seed = 0,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    learner: Annotated[
        Literal["population", "persistent"],
        Parameter(help="How the tilt is learned; persistent chains are the paper's."),
    ] = "population",
    units: Annotated[
        Literal["auto", "gaussianise", "logit", "histogram", "standardise", "whiten"],
        Parameter(help="The bijection at the data's end; auto looks at the data."),
    ] = "auto",
    backbone_steps: Annotated[
        int | None, Parameter(help="Optimiser steps, at most, in chunks of 250.")
    ] = None,
    tilt_steps: Annotated[int | None, Parameter(help="Optimiser steps, at most.")] = None,
    particles: Annotated[
        int | None, Parameter(help="Latent particles of the learner, witnesses included.")
    ] = None,
    chains: Annotated[int | None, Parameter(help="Final chains.")] = None,
    draws: Annotated[int | None, Parameter(help="Draws kept of each final chain.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Learn a tilted flow from DATA, sample it, and report how far to trust it.

    Writes a folder with the model, metrics.json, events.jsonl, figures and report.html. Exits
    with status 3 if the chains have not converged.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import show_metrics
    from tiltflow.data import load, split
    from tiltflow.experiment import fit as run_experiment
    from tiltflow.learning import TiltSettings
    from tiltflow.report.page import write_report
    from tiltflow.runs import RunStore
    from tiltflow.settings import Settings, suited

    dataset = load(data, key=key)
    out = out or Path("runs") / Path(dataset.name).name.split(".")[0]
    parts = split(dataset)
    settings = suited(len(parts.train), math.prod(dataset.shape))
    settings = Settings(
        model=replace(settings.model, units=units),
        backbone=_with(settings.backbone, steps=backbone_steps),
        tilt=_with(settings.tilt, steps=tilt_steps, particles=particles)
        if learner == settings.tilt.learner
        else TiltSettings.default(learner, steps=tilt_steps, particles=particles),
        sampling=_with(settings.sampling, chains=chains, draws=draws),
    )
    settings.check(seed)
    store = RunStore.create(out, overwrite=overwrite)
    with store, Progress(quiet=json) as progress:
        store.write_config(
            {
                "command": shlex.join(["tiltflow", *sys.argv[1:]]),
                "data": {
                    "source": data,
                    "key": key,
                    "name": dataset.name,
                    "fingerprint": dataset.fingerprint,
                },
                "seed": seed,
                **asdict(settings),
            }
        )

        def listen(phase: str, event: str, **fields: object) -> None:
            store.log.write(phase, event, **fields)
            progress.tell(phase, event, **fields)

        result = run_experiment(dataset, settings, seed=seed, listen=listen)
        result.model.save(store.folder / "model")
        store.write_metrics(result.metrics)
        store.write_arrays("evidence", result.evidence)
        listen("report", "started")
        write_report(store.folder, name=store.path.name)
    show_metrics(result.metrics, store.path, json=json)
    return 0 if result.converged else UNCONVERGED


def _with(settings: Any, **changes: object) -> Any:
    """The settings, a dataclass, with those changes that are not None."""
    return replace(settings, **{k: v for k, v in changes.items() if v is not None})
