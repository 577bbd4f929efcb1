"""`tiltflow quality RUN`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed
from tiltflow.cli.status import of_verdict

if TYPE_CHECKING:
    import numpy as np

    from tiltflow.evaluation.quality import Features
    from tiltflow.runs import RunStore


def quality(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(help="Rows to compare with; by default the run's own test rows."),
    ] = None,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    features: Annotated[
        Literal["fashion-mnist", "values"] | None,
        Parameter(
            help="What distances are taken of: the features of a Fashion-MNIST classifier (the "
            "default for images of 28x28), or the rows themselves."
        ),
    ] = None,
    n: Annotated[int, Parameter(help="Rows of each set, where the data have as many.")] = 5_000,
    chains: Annotated[int, Parameter(help="Started from fresh draws of the backbone.")] = 250,
    warmup: Annotated[int, Parameter(help="Transitions before the first draw.")] = 200,
    thin: Annotated[int, Parameter(help="Transitions a draw.")] = 10,
    picture: Annotated[
        Path | None,
        Parameter(help="A .png file for images of all three: data, backbone and tilted model."),
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Compare samples of RUN's model, and of its backbone, with data: distances and variety.

    Beside them stands the floor: other real rows, as many. Exits with status 3 if the chains
    have not converged.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_quality import show_quality
    from tiltflow.diagnostics.verdict import refusal
    from tiltflow.errors import UnsoundModel
    from tiltflow.evaluation.quality.of_model import QualitySettings, quality_of
    from tiltflow.model.loading import load_model
    from tiltflow.report.gallery import gallery_of, write_gallery
    from tiltflow.runs import RunStore

    store = RunStore.open(run)
    settings = QualitySettings(rows=n, chains=chains, warmup=warmup, thin=thin)
    settings.check(seed)
    real = _real(store, data, key)
    if picture is not None:
        _check_picture(picture, real.reference.shape, overwrite=overwrite)
    named = _features(features, real.reference)
    found: dict[str, Any]
    try:
        fitted = load_model(store.folder / "model")
    except UnsoundModel as error:
        found = {"verdict": refusal(str(error))}
    else:
        with Progress(quiet=json) as progress:
            told = quality_of(
                fitted,
                real.reference,
                real.others,
                named,
                settings,
                seed=seed,
                listen=progress.tell,
            )
        found = {"data": real.words, **told.to_dict()}
        if picture is not None:
            write_gallery(picture, gallery_of(told))
    if json:
        show_json({"run": str(store.path), **found})
    else:
        show_quality(found)
    return of_verdict(found["verdict"])


class Real(NamedTuple):
    """Real rows to compare with, `[n, *shape]`, others for the floor, and what they are called."""

    reference: "np.ndarray"
    others: "np.ndarray"
    words: dict[str, str]


def _real(store: "RunStore", data: str | None, key: str | None) -> Real:
    """Test rows of the run against its training rows; or rows of `data`.

    The floor of other data rests on the run's training rows if they are of the same shape, and
    else on every second row of the data themselves.
    """
    from tiltflow.cli.run_data import other_rows, run_data
    from tiltflow.data import split
    from tiltflow.errors import InputError

    if data is None and key is not None:
        raise InputError(f"--key {key} without --data; expected both, or neither")
    reference = None if data is None else other_rows(store, data, key)
    try:
        known = run_data(store)
    except InputError as error:
        if reference is None:
            raise InputError(
                f"the data of {store.path}: {error}; or pass rows with --data"
            ) from None
        known = None
    if known is not None and (reference is None or reference.shape == known.shape):
        parts = split(known)
        reference = reference or known.take(parts.test)
        kind = "test rows" if data is None else "rows"
        words = {"name": reference.name, "reference": kind, "floor": "training rows"}
        return Real(reference.values, known.values[parts.train], words)
    assert reference is not None
    words = {"name": reference.name, "reference": "even rows", "floor": "odd rows"}
    return Real(reference.values[::2], reference.values[1::2], words)


def _features(name: str | None, reference: "np.ndarray") -> "Features":
    """The features called `name`, or those that suit the rows."""
    from tiltflow.evaluation.quality import fashion_mnist, suited, values

    if name is None:
        return suited(reference)
    return fashion_mnist() if name == "fashion-mnist" else values(reference)


def _check_picture(path: Path, shape: tuple[int, ...], *, overwrite: bool) -> None:
    """Raises InputError if no picture can be drawn, or not there."""
    from tiltflow.errors import InputError

    if len(shape) < 3:
        raise InputError(f"--picture {path}: rows of shape {shape[1:]}; expected images")
    if path.suffix != ".png":
        raise InputError(f"--picture {path}: expected a name that ends in .png")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} is not a folder that can be written: choose another")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another --picture, or pass --overwrite")
