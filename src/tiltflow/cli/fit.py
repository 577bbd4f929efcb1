"""`tiltflow fit DATA --out RUN`."""

import math
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed, seconds_of
from tiltflow.errors import InputError

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
    backbone: Annotated[
        Literal["coupling", "vae"],
        Parameter(
            help="What is tilted: a coupling flow, or a variational autoencoder, in its latent."
        ),
    ] = "coupling",
    learner: Annotated[
        Literal["population", "persistent", "nce", "nce+mle"] | None,
        Parameter(
            help="How the tilt is learned; persistent chains are the paper's, nce is contrast "
            "with the backbone. By default population, and nce+mle for a vae."
        ),
    ] = None,
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
    resume: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Go on with an unfinished run from its newest checkpoint; begin one if there is "
            "none. The numbers are those of a run that was never interrupted.",
        ),
    ] = False,
    time_limit: Annotated[
        str | None,
        Parameter(help="Stop after this time, as in 90s, 2h, with everything saved."),
    ] = None,
    checkpoint_every: Annotated[
        str, Parameter(help="Time between two checkpoints, or steps, as in 500steps.")
    ] = "60s",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Learn a tilted flow from DATA, sample it, and report how far to trust it.

    Writes a folder with the model, metrics.json, events.jsonl, figures and report.html. Exits
    with status 3 if the chains have not converged. Ctrl-C, SIGTERM and the end of the time limit
    save what there is and exit with 130; the same command with --resume goes on.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import show_metrics
    from tiltflow.data import load, split
    from tiltflow.experiment import fit as run_experiment
    from tiltflow.learning import TiltSettings
    from tiltflow.mcmc.interrupts import Interrupts
    from tiltflow.report.page import write_report
    from tiltflow.runs import RunStore
    from tiltflow.runs.checkpoint import Checkpoints
    from tiltflow.runs.sameness import check_same_fit
    from tiltflow.settings import Settings, suited, suited_vae

    dataset = load(data, key=key)
    out = out or Path("runs") / Path(dataset.name).name.split(".")[0]
    parts = split(dataset)
    rows = len(parts.train)
    settings = (
        suited_vae(rows, dataset.shape)
        if backbone == "vae"
        else suited(rows, math.prod(dataset.shape))
    )
    settings = Settings(
        model=replace(settings.model, units=units),
        backbone=_with(settings.backbone, steps=backbone_steps),
        vae=_with(settings.vae, steps=backbone_steps),
        tilt=_with(settings.tilt, steps=tilt_steps, particles=particles)
        if learner in (None, settings.tilt.learner)
        else TiltSettings.default(learner, steps=tilt_steps, particles=particles),
        sampling=_with(settings.sampling, chains=chains, draws=draws),
    )
    settings.check(seed)
    seconds, steps = _every(checkpoint_every)
    limit = None if time_limit is None else seconds_of(time_limit, "--time-limit")
    config = {
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
    store = RunStore.create(out, overwrite=overwrite, resume=resume)
    with store, Progress(quiet=json) as progress, Interrupts(active=True) as interrupts:
        if store.resumed:
            check_same_fit(store.config(), config, str(out))
        else:
            store.write_config(config)
        checkpoints = Checkpoints(
            store.folder / "checkpoints",
            store.log,
            every=seconds,
            every_steps=steps,
            stop=_stop(interrupts, limit, out),
        )

        def listen(phase: str, event: str, **fields: object) -> None:
            store.log.write(phase, event, **fields)
            progress.tell(phase, event, **fields)

        result = run_experiment(dataset, settings, seed=seed, listen=listen, keeper=checkpoints)
        result.model.save(store.folder / "model")
        store.write_metrics(result.metrics)
        store.write_arrays("evidence", result.evidence)
        listen("report", "started")
        write_report(store.folder, name=store.path.name)
        checkpoints.remove()
    show_metrics(result.metrics, store.path, json=json)
    return 0 if result.converged else UNCONVERGED


def _with(settings: Any, **changes: object) -> Any:
    """The settings, a dataclass, with those changes that are not None."""
    return replace(settings, **{k: v for k, v in changes.items() if v is not None})


def _every(text: str) -> tuple[float, int | None]:
    """Seconds and steps between two checkpoints."""
    number = text.removesuffix("steps")
    if number == text:
        return seconds_of(text, "--checkpoint-every"), None
    if not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"--checkpoint-every is {text!r}; expected a time such as 60s, or steps such as "
            f"500steps"
        )
    return math.inf, int(number)


def _stop(interrupts: Any, limit: float | None, out: Path) -> Callable[[], str | None]:
    """Why the fit is to stop, asked between two chunks."""
    began = time.monotonic()

    def why() -> str | None:
        over = limit is not None and time.monotonic() - began >= limit
        if not (interrupts.heard or over):
            return None
        return (
            f"{'interrupted' if interrupts.heard else 'the time limit is reached'}; everything so "
            f"far is in {out}: go on with the same command and --resume"
        )

    return why
