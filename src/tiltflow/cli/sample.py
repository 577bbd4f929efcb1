"""`tiltflow sample RUN --out FILE`."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed


def sample(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(help="A .npz file for the draws; by default RUN/draws.npz."),
    ] = None,
    chains: Annotated[int, Parameter(help="Started from fresh draws of the backbone.")] = 64,
    draws: Annotated[int, Parameter(help="Kept of each chain.")] = 500,
    warmup: Annotated[int, Parameter(help="Transitions before that, of each chain.")] = 200,
    seed: Seed = 1,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Draw from the tilted model of RUN with latent chains, and judge them.

    The file holds x [chains, draws, ...] in data units, u (latent) and f (larger is more
    probable; energy is -f). Exits with status 3 if the chains have not converged.
    """
    import numpy as np
    from rich.console import Console

    from tiltflow.cli.fit import UNCONVERGED
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import flat, show_json, show_verdict, shown
    from tiltflow.errors import InputError, check_seed
    from tiltflow.evaluation.mixing import mixing
    from tiltflow.fitted import load_model
    from tiltflow.runs import RunStore, atomic

    store = RunStore.open(run)
    out = out or store.folder / "draws.npz"
    if out.suffix != ".npz":
        raise InputError(f"{out} does not end in .npz: the draws are written as .npz")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"{out.parent} is not a folder that can be written: choose another --out")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: choose another file with --out, or pass --overwrite")
    for name, value, least in (
        ("--chains", chains, 4),
        ("--draws", draws, 4),
        ("--warmup", warmup, 0),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")
    check_seed(seed)
    fitted = load_model(store.folder / "model")
    with Progress(quiet=json) as progress:

        def on_chunk(done: int, total: int, phase: str, acceptance: float, step_size: float,
                     divergences: int) -> None:  # fmt: skip
            progress.tell(
                "sampling", "progress", step=done, steps=total, part=phase,
                acceptance=acceptance, step_size=step_size, divergences=divergences,
            )  # fmt: skip

        x, latent = fitted.sample(chains, draws, warmup=warmup, seed=seed, on_chunk=on_chunk)
    mixed = mixing(latent)
    verdict = mixed.verdict()
    atomic.write_arrays(
        out, {"x": x, "u": np.asarray(latent.positions), "f": latent.summaries["f"]}
    )
    if json:
        show_json({"draws": str(out), "mixing": mixed.to_dict(), "verdict": verdict})
    else:
        console = Console()
        for key, value in flat({"mixing": mixed.to_dict()}):
            console.print(f"{key:<36} {shown(value):>12}", highlight=False)
        show_verdict(verdict, console)
        console.print(f"\nDraws in {out}", highlight=False, soft_wrap=True)
    return 0 if verdict["status"] != "failed" else UNCONVERGED
