"""`tiltflow diagnose RUN`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiltflow.cli.options import Json, Seed
from tiltflow.cli.status import of_verdict

if TYPE_CHECKING:
    from tiltflow.data import Dataset
    from tiltflow.runs import RunStore


def diagnose(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    /,
    *,
    draws: Annotated[
        str | None,
        Parameter(
            help="How many of each fresh chain, by default 1,500, and 400 where the backbone is a "
            "Glow; or a file or folder of `tiltflow sample`, to be judged instead."
        ),
    ] = None,
    chains: Annotated[
        int | None,
        Parameter(
            help="Started from fresh draws of the backbone; by default 32, and 16 of a Glow."
        ),
    ] = None,
    kernel: Annotated[
        str | None, Parameter(help="How fresh chains move; by default as in `tiltflow sample`.")
    ] = None,
    labels: Annotated[
        Literal["data", "kmeans"] | None,
        Parameter(
            help="What tells modes apart: the data's own labels, or clusters; by default the "
            "data's where there are any."
        ),
    ] = None,
    modes: Annotated[
        int | None, Parameter(help="How many clusters, by default 10; not of labels.")
    ] = None,
    reference: Annotated[
        int, Parameter(help="Draws of each reference chain in data space; 0 for no reference.")
    ] = 1_000,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Judge RUN's model by chains: do they mix, travel between modes, and cover its mass?

    Each check that fails says what it means and what to try. Exits with status 3 if the chains
    have not converged.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_diagnosis import show_diagnosis
    from tiltflow.diagnostics.verdict import refusal
    from tiltflow.errors import UnsoundModel
    from tiltflow.evaluation.diagnose import DiagnoseSettings
    from tiltflow.evaluation.diagnose import diagnose as judge_run
    from tiltflow.model.loading import load_model
    from tiltflow.runs import RunStore

    store = RunStore.open(run)
    number, path = _number_or_path(draws)
    settings = DiagnoseSettings(
        chains=chains,
        kernel=kernel,
        labels=labels,
        modes=modes,
        reference_draws=reference,
        draws=number,
    )
    settings.check(seed)
    found: dict[str, Any]
    try:
        fitted = load_model(store.folder / "model")
    except UnsoundModel as error:
        found = {"verdict": refusal(str(error))}
    else:
        with Progress(quiet=json) as progress:
            data = _data(store, labels)
            found = judge_run(fitted, data, settings, draws=path, seed=seed, listen=progress.tell)
    if json:
        show_json({"run": str(store.path), **found})
    else:
        show_diagnosis(found)
    return of_verdict(found["verdict"])


def _number_or_path(draws: str | None) -> tuple[int | None, Path | None]:
    """A number of draws, or where they are; raises InputError if there is nothing there."""
    from tiltflow.errors import InputError

    if draws is None:
        return None, None
    try:
        return int(draws), None
    except ValueError:
        path = Path(draws)
    if not path.exists():
        raise InputError(
            f"--draws {draws}: no number, and there is no such file or folder; expected how many "
            f"draws to make, or where `tiltflow sample` has written some"
        )
    return None, path


def _data(store: "RunStore", labels: str | None) -> "Dataset | None":
    """The run's data; None if they are not to be found, unless their labels are asked for."""
    from tiltflow.cli.run_data import run_data
    from tiltflow.errors import InputError

    try:
        return run_data(store)
    except InputError as error:
        if labels == "data":
            raise InputError(f"the data of {store.path}: {error}; or use --labels kmeans") from None
        return None
