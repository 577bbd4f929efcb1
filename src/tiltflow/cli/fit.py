"""`tiltflow fit DATA --out RUN`.

Settings lie in layers: those that suit the size of the data, then the file of `--config`, then the
command line.
"""

import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tiltflow.cli.options import Atoms, Columns, Json, Overwrite, kinds_by_name, seconds_of
from tiltflow.cli.status import FAILED
from tiltflow.errors import InputError


def fit(
    data: Annotated[
        str | None,
        Parameter(
            help="`digits` (8x8 images, built in), a named set (mnist, fashion-mnist, cifar10), or "
            "a path: .npy, .npz, .csv, .tsv, .parquet or idx with one example a row, or a folder "
            "of images; by default what --config says."
        ),
    ] = None,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="The run's folder; by default runs/NAME OF THE DATA.")
    ] = None,
    config: Annotated[
        Path | None,
        Parameter(
            help="Settings in TOML, such as the config.toml of a run; the command line goes on top."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(help="Of everything random: the same seed, the same numbers. 0 by default."),
    ] = None,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    image_size: Annotated[
        int | None,
        Parameter(help="Pictures of a folder are scaled and cut to squares of so many pixels."),
    ] = None,
    channels: Annotated[
        Literal["grey", "rgb"] | None,
        Parameter(help="What pictures of a folder are converted to."),
    ] = None,
    integers: Annotated[
        bool | None,
        Parameter(
            negative="--continuous",
            help="What the values are, whatever they look like; integers are dequantised.",
        ),
    ] = None,
    column: Columns = None,
    atoms: Atoms = None,
    drop_dependent: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Leave out columns of a table that are linear functions of others; draws have "
            "them again, computed from the others.",
        ),
    ] = False,
    backbone: Annotated[
        Literal["coupling", "ensemble", "gaussian", "glow", "vae"] | None,
        Parameter(
            help="What is tilted: coupling, a flow; ensemble, which is the default for tables of "
            "up to 256 columns, with Gaussian mixtures and autoregressive flows beside it; "
            "gaussian, a normal density; glow, for images; or vae, a variational autoencoder, in "
            "its latent."
        ),
    ] = None,
    network: Annotated[
        Literal["mlp", "conv"] | None,
        Parameter(help="Of a vae: perceptrons, which is the default, or convolutions."),
    ] = None,
    classes: Annotated[
        bool | None,
        Parameter(
            negative=(),
            help="The tilt tells the labels of DATA apart: one network is density and classifier.",
        ),
    ] = None,
    data_tilt: Annotated[
        int | None,
        Parameter(
            help="Of a vae: the width of a second tilt that reads the data, learned on top of that "
            "of its latent; by default there is none."
        ),
    ] = None,
    learner: Annotated[
        Literal["population", "persistent", "nce", "nce+mle", "linear"] | None,
        Parameter(
            help="How the tilt is learned; persistent chains are the paper's, nce is contrast "
            "with the backbone, linear weighs the members of an ensemble, without a network. By "
            "default population, nce+mle for a vae, and linear for tables."
        ),
    ] = None,
    units: Annotated[
        Literal[
            "auto",
            "censored",
            "gaussianise",
            "logit",
            "histogram",
            "standardise",
            "tails",
            "whiten",
        ]
        | None,
        Parameter(help="The bijection at the data's end; auto, the default, looks at the data."),
    ] = None,
    noise: Annotated[
        float | None,
        Parameter(
            help="Of N(0, s^2), in standard deviations of a column, added to each row afresh: what "
            "is learned is the density of rows plus noise. 0 by default."
        ),
    ] = None,
    backbone_steps: Annotated[
        int | None, Parameter(help="Optimiser steps, at most; in whole chunks of 250.")
    ] = None,
    tilt_steps: Annotated[
        int | None,
        Parameter(help="Optimiser steps, at most; those of the contrast, where that is all (nce)."),
    ] = None,
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
    budget: Annotated[
        str | None,
        Parameter(
            help="Of a table: take about this time in all, as in 60s, and use it: more flows, or "
            "longer ones, are learned as far as there is time for them."
        ),
    ] = None,
    checkpoint_every: Annotated[
        str, Parameter(help="Time between two checkpoints, or steps, as in 500steps.")
    ] = "60s",
    tensorboard: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Write RUN/tensorboard, too: curves while it goes on, figures at the end.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        Parameter(help="HOST:PORT of process 0, where several processes meet that share the work."),
    ] = None,
    processes: Annotated[int | None, Parameter(help="How many processes there are.")] = None,
    process_id: Annotated[int | None, Parameter(help="Which of them this one is, from 0.")] = None,
    distributed: Annotated[
        bool,
        Parameter(negative=(), help="The same three as JAX finds them in a cluster's environment."),
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Learn a tilted flow from DATA, sample it, and report how far to trust it.

    Writes a folder with the model, metrics.json, events.jsonl, figures and report.html. Exits
    with status 3 if the chains have not converged. Ctrl-C, SIGTERM and the end of the time limit
    save what there is and exit with 130; the same command with --resume goes on.

    Batches, particles and chains are spread over all devices of all processes.
    """
    import jax

    from tiltflow.cli.recording import Options, Recording
    from tiltflow.cli.show import show_metrics
    from tiltflow.data import load, split, without_dependent
    from tiltflow.data.dependent import of_dependences, of_few_rows
    from tiltflow.data.far_rows import far_rows, of_far_rows
    from tiltflow.evaluation.shared_values import words_on_atoms
    from tiltflow.fitting.config import Config, layered, read_config
    from tiltflow.fitting.experiment import fit as run_experiment
    from tiltflow.fitting.settings import suited_to
    from tiltflow.mcmc.interrupts import Interrupts
    from tiltflow.parallel.processes import is_first, join
    from tiltflow.runs.tensorboard import check_installed

    file = Config() if config is None else read_config(config)
    if tensorboard:
        check_installed()
    source, how = data, {
        "key": key, "image_size": image_size, "channels": channels, "integers": integers,
        "columns": kinds_by_name(column), "atoms": atoms,
    }  # fmt: skip
    if data is None:
        source = file.source
    if file.source in (None, source):
        kinds = {**file.how.get("columns", {}), **(how["columns"] or {})}
        given = {name: value for name, value in how.items() if value is not None}
        how = {**file.how, **given, **({"columns": kinds} if kinds else {})}
    elif any(value is not None for value in file.how.values()):
        print(
            f"tiltflow: what {config} says of data is of {file.source}, and not of {source}: left "
            f"out",
            file=sys.stderr,
        )
    how = {name: value for name, value in how.items() if value is not None}
    if source is None:
        raise InputError("no DATA; expected `digits`, a file, or --config with data.source in it")
    drop_dependent = drop_dependent or (file.drop_dependent and file.source in (None, source))
    dataset = load(source, **how)
    if drop_dependent:
        dataset = without_dependent(dataset)
    if data is None and file.fingerprint not in (None, dataset.fingerprint):
        raise InputError(
            f"{source} is not what {config} was written for: bring the data back, or name DATA"
        )
    seed = next(number for number in (seed, file.seed, 0) if number is not None)
    out = out or Path("runs") / _short(dataset.name)
    train = split(dataset).train
    rows = len(train)
    backbone = backbone or file.settings.get("model", {}).get("backbone")
    if network is not None and backbone != "vae":
        raise InputError(f"--network {network} is of a vae; expected --backbone vae beside it")
    suits = suited_to(backbone, rows, dataset.shape, learner or _learner(file.settings))
    of_contrast = (learner or _learner(file.settings) or suits.tilt.learner) == "nce"
    settings = layered(
        suits,
        file.settings,
        {
            "model": {
                "units": units,
                "noise": noise,
                "backbone": backbone,
                "vae": {"network": network},
                "data_width": data_tilt,
                "classes": classes,
            },
            "backbone": {"steps": backbone_steps},
            "members": {
                "steps": backbone_steps,
                "budget": None if budget is None else seconds_of(budget, "--budget"),
            },
            "vae": {"steps": backbone_steps},
            "tilt": {
                "learner": learner,
                "nce_steps" if of_contrast else "steps": tilt_steps,
                "particles": particles,
            },
            "sampling": {"chains": chains, "draws": draws},
        },
    )
    settings.check(seed)
    seconds, steps = _every(checkpoint_every)
    limit = None if time_limit is None else seconds_of(time_limit, "--time-limit")
    table = {
        "command": shlex.join(["tiltflow", *sys.argv[1:]]),
        "data": {
            "source": source,
            **how,
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            **({"drop_dependent": True} if drop_dependent else {}),
        },
        "seed": seed,
        **asdict(settings),
    }
    if distributed or any(given is not None for given in (coordinator, processes, process_id)):
        join(coordinator, processes, process_id, detect=distributed)
    if is_first() and dataset.note:
        print(f"tiltflow: {dataset.name}: {dataset.note}", file=sys.stderr)
    if is_first() and dataset.dropped is not None:
        found = dataset.dropped.dependences
        words = of_dependences(found, dataset.dropped.columns)
        print(f"tiltflow: {dataset.name}: {words}: left out", file=sys.stderr)
    if is_first() and (words := of_few_rows(rows, math.prod(dataset.shape))):
        print(f"tiltflow: {dataset.name}: {words}", file=sys.stderr)
    skipped = None if dataset.grid is None else dataset.grid.categories
    if is_first() and (words := of_far_rows(far_rows(dataset.values, skipped), dataset.columns)):
        print(f"tiltflow: {dataset.name}: {words}", file=sys.stderr)
    if is_first() and not settings.model.noise and (words := words_on_atoms(dataset, train)[1]):
        print(
            f"tiltflow: {dataset.name}: {words}: there is no density of such values; "
            f"--atoms separate sets them apart",
            file=sys.stderr,
        )
    if is_first() and (words := _undivided(settings, jax.device_count())):
        print(f"tiltflow: {words}", file=sys.stderr)
    options = Options(overwrite, resume, seconds, steps, json, tensorboard)
    with Interrupts(active=True) as interrupts:
        recording = Recording(out, table, _stop(interrupts, limit, out), options)
        with recording:
            result = run_experiment(
                dataset, settings, seed=seed, listen=recording.listen, keeper=recording.keeper
            )
            recording.finish(result)
    if is_first():
        show_metrics(result.metrics, out.resolve(), json=json)
    return 0 if result.converged else FAILED


def _learner(settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The learner of the tilt that a file of settings names."""
    return settings.get("tilt", {}).get("learner")


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


def _undivided(settings: Any, devices: int) -> str:
    """What the devices cannot divide among them, in a line; nothing if all is well."""
    numbers = {
        "particles": settings.tilt.particles,
        "chains": settings.sampling.chains,
        "rows of a backbone's batch": settings.backbone.batch,
        "rows of a tilt's batch": settings.tilt.batch_data,
        "particles of a tilt's batch": settings.tilt.batch_particles,
    }
    whole = [f"{number:,} {name}" for name, number in numbers.items() if number % devices]
    if not whole:
        return ""
    return (
        f"{devices} devices do not divide {', '.join(whole)}: each has all of them; multiples of "
        f"{devices} would be faster"
    )


def _short(name: str) -> str:
    """A folder's name for data called `name`: without an ending, and never empty."""
    return Path(name).name.strip(".").split(".")[0] or "data"


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
