"""`tiltflow likelihood RUN`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiltflow.cli.options import Json, Seed, seconds_of
from tiltflow.cli.status import of_verdict

if TYPE_CHECKING:
    from tiltflow.data import Dataset
    from tiltflow.runs import RunStore


def likelihood(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(help="Rows to score, all of them; by default the run's own test rows."),
    ] = None,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    budget: Annotated[
        str | None,
        Parameter(help="A time such as 60s or 2m: the bounds of log Z get what is left of it."),
    ] = None,
    bound: Annotated[
        Literal["variational", "importance"],
        Parameter(
            help="For integers: the mean over dequantisations of log p, or the log of the mean "
            "of p, which is tighter."
        ),
    ] = "variational",
    dequantisations: Annotated[int, Parameter(help="Of each row of integers.")] = 20,
    chains: Annotated[
        int | None,
        Parameter(help="That bound log Z; by default 32, and 16 where the backbone is a Glow."),
    ] = None,
    draws: Annotated[
        int | None, Parameter(help="Kept of each; by default 1,500, and 400 of a Glow.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Say how probable held-out data are under RUN's model, in nats and bits, with intervals.

    log Z is bounded from both sides. Where the chains have not converged, or the sides
    contradict each other, no number is given, and the exit status is 3.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import show_json, show_likelihood
    from tiltflow.diagnostics.verdict import refusal
    from tiltflow.errors import UnsoundModel
    from tiltflow.evaluation.assess import LikelihoodSettings, assess
    from tiltflow.evaluation.chains import SamplingSettings, suited_sampling
    from tiltflow.model.loading import load_model
    from tiltflow.runs import RunStore

    store = RunStore.open(run)
    asked: dict[str, Any] = {"chains": chains, "draws": draws}
    sizes = {name: number for name, number in asked.items() if number is not None}
    settings = LikelihoodSettings(
        sampling=SamplingSettings(**sizes),
        dequantisations=dequantisations,
        bound=bound,
        budget=None if budget is None else seconds_of(budget, "--budget"),
    )
    settings.check(seed)
    rows = _rows(store, data, key)
    found: dict[str, Any]
    try:
        fitted = load_model(store.folder / "model")
    except UnsoundModel as error:
        found = {"verdict": refusal(str(error))}
    else:
        with Progress(quiet=json) as progress:
            sampling = replace(suited_sampling(fitted.model), **sizes)
            settings = replace(settings, sampling=sampling)
            found = assess(fitted, rows, settings, seed=seed, listen=progress.tell)
    if json:
        show_json({"run": str(store.path), **found})
    else:
        show_likelihood(found)
    return of_verdict(found["verdict"])


def _rows(store: "RunStore", data: str | None, key: str | None) -> "Dataset":
    """The rows of `data`, or the test rows of the run."""
    from tiltflow.cli.run_data import other_rows, run_data
    from tiltflow.data import split
    from tiltflow.errors import InputError

    if data is not None:
        return other_rows(store, data, key)
    if key is not None:
        raise InputError(f"--key {key} without --data; expected both, or neither")
    try:
        dataset = run_data(store)
    except InputError as error:
        raise InputError(f"the data of {store.path}: {error}; or pass rows with --data") from None
    return dataset.take(split(dataset).test)
