"""`tiltflow sample RUN --out FILE`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed
from tiltflow.cli.status import FAILED, INTERRUPTED, of_verdict

DRAWS, MOST = 500, 10_000  # by default; at most, if there is a target to stop at
TIMES = 4  # as many draws as by default are made, at most, where those are too few


def sample(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit` or `posterior`.")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            help="A file for the draws, by default RUN/draws.npz: .npz for all arrays; of tables "
            ".csv or .parquet, too, with the data's own columns; of images .png, a sheet of them. "
            "With --stream a folder, by default RUN/draws."
        ),
    ] = None,
    chains: Annotated[int, Parameter(help="Started from fresh draws of the backbone.")] = 64,
    draws: Annotated[
        int | None,
        Parameter(
            help=f"Kept of each chain, at most; {MOST} with --until. By default {DRAWS}, and up to "
            f"{TIMES * DRAWS} while chains do not agree or effective draws are too few."
        ),
    ] = None,
    warmup: Annotated[int, Parameter(help="Transitions before that, of each chain.")] = 200,
    thin: Annotated[int, Parameter(help="Transitions a draw.")] = 1,
    kernel: Annotated[
        str | None,
        Parameter(
            help="How chains move; auto tries several for a moment and chooses. By default hmc; "
            "hmc+jumps where a mixture in the tilt proposes them; replica-exchange with a Glow."
        ),
    ] = None,
    until: Annotated[
        list[str] | None,
        Parameter(
            help="Stop when the worst quantity reaches ess=NUMBER or rhat=NUMBER; both, if both "
            "are given.",
            negative=(),
        ),
    ] = None,
    time_limit: Annotated[
        str | None, Parameter(help="Stop after this time, as in 90s, 2m, 1.5h.")
    ] = None,
    stream: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Write draws to a folder while they are made: memory does not grow with them.",
        ),
    ] = False,
    resume: Annotated[
        bool, Parameter(negative=(), help="With --stream: go on with what is in the folder.")
    ] = False,
    seed: Seed = 1,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Draw from the tilted model of RUN with latent chains, and judge them.

    The draws are x [chains, draws, ...] in data units, u (latent) and f (larger is more probable;
    energy is -f). Exits with status 3 if the chains have not converged; Ctrl-C keeps the draws
    made so far and exits with 130.

    Of a posterior: --until goes on with the run, --out writes its draws as rows.
    """
    from tiltflow.cli.draws_out import check_kind, write_draws
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.run_data import columns_of
    from tiltflow.cli.show import show_json
    from tiltflow.cli.targets import targets
    from tiltflow.diagnostics.verdict import LEAST_ESS, MOST_RHAT, refusal
    from tiltflow.errors import UnsoundModel, check_seed
    from tiltflow.evaluation.chains import LEAST
    from tiltflow.evaluation.mixing import mixing
    from tiltflow.mcmc import catalogue
    from tiltflow.mcmc.stopping import Until
    from tiltflow.model.kernels import kernel_of, suited_kernel
    from tiltflow.model.loading import load_model
    from tiltflow.runs import RunStore
    from tiltflow.runs.posterior_folder import is_posterior

    until_ = targets(until or (), time_limit)
    if is_posterior(run):
        from tiltflow.cli.sample_posterior import sample_posterior

        others = {"--chains": chains != 64, "--warmup": warmup != 200, "--thin": thin != 1}
        others |= {"--kernel": kernel is not None, "--stream": stream, "--resume": resume}
        return sample_posterior(
            run, out=out, draws=draws, until=until_, seed=seed, overwrite=overwrite,
            others=others, json=json,
        )  # fmt: skip
    store = RunStore.open(run)
    if draws is None and (until_ is None or not until_.targets):
        until_ = replace(until_ or Until(), ess=LEAST_ESS, rhat=MOST_RHAT, least=DRAWS)
        draws = TIMES * DRAWS
    draws = MOST if draws is None else draws
    out = _checked_out(
        out or store.folder / ("draws" if stream else "draws.npz"),
        stream=stream,
        resume=resume,
        overwrite=overwrite,
    )
    _check_counts(chains=chains, draws=draws, warmup=warmup, thin=thin)
    check_seed(seed)
    if kernel is not None:
        catalogue.check_name(kernel)
    try:
        fitted = load_model(store.folder / "model")
    except UnsoundModel as error:
        if not json:
            raise
        show_json({"run": str(store.path), "verdict": refusal(str(error))})
        return FAILED
    columns = None
    if not stream:
        check_kind(out, fitted.model.backbone.data_shape)
        columns = columns_of(store, fitted)
    kernel = kernel or suited_kernel(fitted.model)
    with Progress(quiet=json) as progress:
        about = _about(fitted, kernel, chains, seed, out if stream and resume else None, progress)
        x, latent = fitted.sample(
            chains,
            draws,
            warmup=warmup,
            thin=thin,
            seed=seed,
            kernel=kernel_of(fitted.model, about["kernel"], fitted.leapfrogs),
            **{name: about[name] for name in ("step_size", "length") if name in about},
            until=until_,
            folder=out if stream else None,
            resume=resume,
            about=about if stream else None,
            chunk=50,
            interruptible=True,
            on_chunk=lambda news: progress.tell("sampling", "progress", **_told(news)),
        )
    number = latent.energies.shape[1]
    if not stream and (latent.interrupted or number < LEAST):
        out = _beside(out)
    if number and not stream:
        write_draws(out, fitted, x, latent, thin=thin, columns=columns)
    if latent.interrupted:
        print(f"tiltflow: {_interrupted(out, number, stream=stream)}", file=sys.stderr)
        return INTERRUPTED
    if number < LEAST:
        print(
            f"tiltflow: the time was over after {number} draws of each chain; expected {LEAST} at "
            f"least, to judge them: allow more time",
            file=sys.stderr,
        )
        return FAILED
    mixed = mixing(latent, fitted.model)
    verdict = mixed.verdict()
    missed = _missed(latent.stopped, until_)
    _show(out, about, latent.stopped, mixed.to_dict(), verdict, missed, json=json)
    return of_verdict(verdict)


def _checked_out(out: Path, *, stream: bool, resume: bool, overwrite: bool) -> Path:
    """Where the draws go; raises InputError if they cannot."""
    from tiltflow.cli.draws_out import ARRAYS, PICTURE
    from tiltflow.errors import InputError
    from tiltflow.runs.row_tables import check_out

    if stream:
        if out.suffix == ".npz":
            raise InputError(f"{out} ends in .npz: --stream writes a folder, name one with --out")
        if overwrite:
            raise InputError(
                "--overwrite does not go with --stream: choose another folder with --out, or "
                "--resume"
            )
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; expected a folder: choose another --out")
        if out.exists() and any(out.iterdir()) and not resume:
            raise InputError(
                f"{out} is not empty: choose another folder with --out, or pass --resume"
            )
        return out
    if resume:
        raise InputError("--resume goes on with draws that were streamed: pass --stream, too")
    if not out.suffix:
        raise InputError(f"{out} is a folder's name; expected a file, or --stream beside it")
    check_out(out, overwrite=overwrite, also=(ARRAYS, PICTURE))
    return out


def _beside(out: Path) -> Path:
    """Where fewer draws go than were asked for: they do not replace those that are there."""
    return out.with_stem(f"{out.stem}-unfinished") if out.exists() else out


def _check_counts(**counts: int) -> None:
    from tiltflow.errors import InputError
    from tiltflow.evaluation.chains import LEAST

    least = {"chains": LEAST, "draws": LEAST, "warmup": 0, "thin": 1}
    for name, value in counts.items():
        if value < least[name]:
            raise InputError(f"--{name} is {value}; expected at least {least[name]}")


def _about(
    fitted: Any, kernel: str, chains: int, seed: int, former: Path | None, progress: Any
) -> dict[str, Any]:
    """Which kernel moves the chains, its first step size, and why; as it was, if there was one."""
    from tiltflow.errors import InputError
    from tiltflow.mcmc.catalogue import AUTO
    from tiltflow.runs.draws import INDEX, read_index

    if kernel != AUTO:
        return {"kernel": kernel, "step_size": fitted.step_size}
    if former is not None and (former / INDEX).exists():
        about = read_index(former)["about"]
        if "kernel" not in about:
            raise InputError(
                f"{former} was not begun by this command, so that what --kernel auto chose is not "
                f"known; expected the name of its kernel"
            )
        return about
    choice = fitted.pilot(
        chains, seed=seed, on_candidate=lambda row: progress.tell("pilot", "candidate", **row)
    )
    return {
        "kernel": choice.name,
        "step_size": choice.step_size,
        "length": choice.length,
        "pilot": choice.evidence,
    }


def _told(news: Any) -> dict[str, Any]:
    """The news as the fields of an event."""
    fields = news._asdict()
    return {
        "step": fields.pop("done"),
        "steps": fields.pop("total"),
        "part": fields.pop("phase"),
        **fields,
    }


def _missed(stopped: str, until: Any) -> str:
    """What ended the chains before their targets were reached, in words; empty if nothing did."""
    if until is None or not until.targets or stopped not in ("draws", "seconds"):
        return ""
    ended = "the time limit" if stopped == "seconds" else "the number of draws"
    wanted = [f"{name}={value:g}" for name in ("ess", "rhat") if (value := getattr(until, name))]
    return f"Stopped by {ended}, before {' and '.join(wanted)}."


def _interrupted(out: Path, number: int, *, stream: bool) -> str:
    """What is there after Ctrl-C, and how to go on."""
    if stream:
        return (
            f"interrupted after {number} draws of each chain, all of them in {out}; go on with the "
            f"same command and --resume"
        )
    if not number:
        return "interrupted before the first draws; nothing was written"
    return f"interrupted; {out} holds the {number} draws of each chain made so far"


def _show(
    out: Path,
    about: dict[str, Any],
    stopped: str,
    mixed: dict[str, Any],
    verdict: dict[str, Any],
    missed: str,
    *,
    json: bool,
) -> None:
    """Print how the chains mixed, the verdict and where the draws are."""
    from rich.console import Console

    from tiltflow.cli.show import flat, show_json, show_verdict, shown

    if json:
        show_json(
            {
                "draws": str(out),
                "stopped": stopped,
                **about,
                "mixing": mixed,
                "verdict": verdict,
            }
        )
        return
    console = Console()
    for row in about.get("pilot", ()):
        console.print(
            f"{row['name']:<36} {row['ess_per_second']:>12,.0f} effective draws/s"
            f"{', chosen' if row['name'] == about['kernel'] else ''}",
            highlight=False,
        )
    for key, value in flat({"mixing": mixed}):
        console.print(f"{key:<36} {shown(value):>12}", highlight=False, markup=False)
    show_verdict(verdict, console)
    if missed:
        console.print(f"\n{missed}", highlight=False)
    console.print(f"\nDraws in {out}", highlight=False, markup=False, soft_wrap=True)
