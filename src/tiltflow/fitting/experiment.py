"""From a data set to a trusted model: backbone, tilt, chains, log Z, verdict.

`fit` is what `tiltflow fit` runs. Everything random comes from its one seed, and nothing
depends on the clock but a budget, so that the same seed gives the same numbers on the same machine,
however often the fit was interrupted and gone on with.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.data import Dataset, Splits, load, split
from tiltflow.data.checks import refuse_constant_in_training
from tiltflow.data.dependent import refuse_dependent
from tiltflow.data.kinds import KEEP
from tiltflow.errors import InputError
from tiltflow.evaluation.quality import suited as suited_features
from tiltflow.fitting.judging import Asked, Classes, Result, foresee, judge
from tiltflow.fitting.own_parts import OwnParts, chosen
from tiltflow.fitting.recipes import units_for
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.training import train
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.rows import in_little_memory, noise_of
from tiltflow.parallel.ahead import Ahead
from tiltflow.parallel.memory_maps import let_go_if_many

KEYS = (
    "flow", "backbone", "tilt", "learn", "chains", "bank", "score", "evidence",
    "again", "ladder", "generated", "stages",
)  # fmt: skip


def fit(
    data: Dataset | np.ndarray | str | Path,
    settings: Settings | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    atoms: str = "keep",
    backbone: Any = None,
    tilt: Any = None,
    learner: Any = None,
    seed: int = 0,
    parts: Splits | None = None,
    listen: Callable[..., Any] = silent,
    keeper: Keeper | None = None,
) -> Result:
    """Fit a tilted flow to `data` and say how far to trust it.

    Args:
        data: from `tiltflow.load_data`, or what it takes: an array `[rows, *event_shape]`, ...
        settings: those that suit the size of the data, if None (`settings.suited`).
        columns: what columns are, whatever they look like, by name: `"continuous"`, `"grid"`,
            `"grid:0.05"` or `"category"`; as in `tiltflow.load_data`, which a `Dataset` has been
            through.
        atoms: `"separate"` sets values apart that many rows of a continuous column share, likewise.
        backbone: `"coupling"`, `"ensemble"`, `"gaussian"`, `"glow"` or `"vae"`; or an object: a
            flow or a distribution of flowjax, which are learned; one of them in `backbones.Kept`,
            or a generator, which are taken as they are; or a function of (units, key=key), such as
            a class of flows, that makes a flow over units fitted to the data.
        tilt: `"mlp"`, `"conv"`, or `"classes"`, which tells the labels of the data apart, so that
            the likelihood of both is learned, and `metrics["classes"]` has accuracy and
            calibration (`tilts.ClassTilt`); or an object: a `tilts.Tilt`, such as a network in
            `tilts.NetworkTilt`, which reads coordinates; or a function or module of one example x
            in data units. What has arrays of floats in it is learned, from f = 0; what has none is
            f as it is.
        learner: `"population"`, `"persistent"`, `"nce"` or `"nce+mle"`; a `TiltSettings`; or a
            `learning.Learner`.
        seed: of everything random but the split.
        parts: training, validation and test rows; None: as `tiltflow.data.split` has them.
        listen: called as (phase, event, **fields) while it goes on, as `EventLog.write`.
        keeper: of the states of backbone, tilt, final chains and the ladder, and asked for them
            first.

    Raises:
        InputError: data, settings or parts that cannot work.
        Interrupted: the keeper was asked to stop.
    """
    let_go_if_many()
    if not isinstance(data, Dataset):
        data = load(data, columns=columns, atoms=atoms)
    elif columns is not None or atoms != KEEP:
        raise InputError(
            f"{data.name} is read already, and its columns are to be of other kinds; expected "
            f"these in tiltflow.load_data(..., columns=..., atoms=...)"
        )
    keeper = keeper or KeepsNothing()
    parts = split(data) if parts is None else parts
    refuse_constant_in_training(data, parts.train)
    settings, own = chosen(backbone, tilt, learner, settings, len(parts.train), data.shape)
    settings.check(seed)
    keys = dict[str, PRNGKeyArray](zip(KEYS, jr.split(jr.key(seed), len(KEYS)), strict=True))
    train_values = data.take(parts.train).values
    noise = noise_of(train_values, settings.model.noise)
    if noise is None:
        refuse_dependent(data, parts.train)
        train_values = _cells_of(data, parts.train)
    else:  # rows plus noise are continuous, whatever they were
        if data.grid is not None and data.grid.levels:
            raise InputError(
                f"noise is {settings.model.noise:g}, and {data.name} has categories or columns of "
                f"few numbers, which have cells; expected 0: leave the noise out, or the columns"
            )
        data = replace(data, integers=False, grid=None)
        rng = np.random.default_rng(seed)
        train_values = train_values + (noise * rng.standard_normal(train_values.shape)).astype("f4")
    units = own.units or units_for(
        settings.model,
        train_values,
        integers=data.integers,
        limits=(float(data.values.min()), float(data.values.max())),
        grid=data.grid,
    )
    if units.data_shape != data.shape:
        raise InputError(
            f"the backbone makes data of shape {units.data_shape}; expected {data.shape}, that of "
            f"one example of the data"
        )
    own, names, labels = _classes(own, data)
    rows = {
        name: Rows(
            in_little_memory(_cells_of(data, index), integers=data.integers),
            units,
            data.integers,
            noise=noise,
            steps=None if data.grid is None else data.grid.step,
            labels=None if labels is None else labels[index],
            atoms=atom_cells(data.grid),
        )
        for name, index in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    }
    asked = Asked(
        data,
        parts,
        rows,
        settings,
        keys,
        seed,
        protocol=getattr(own.stage, "protocol", None),
        classes=Classes(names, labels[parts.test]) if labels is not None else None,
    )
    with Ahead() as ahead:
        learned = train(
            rows["train"],
            rows["val"],
            settings,
            features=suited_features(data.take(parts.val).values),
            keys=keys,
            listen=listen,
            keeper=keeper,
            own=own,
            labels=() if data.grid is None else data.grid.labels,
            ahead=ahead,
            later=lambda model: foresee(model, asked),
        )
        return judge(learned, asked, listen, keeper)


def _classes(
    own: OwnParts, data: Dataset
) -> tuple[OwnParts, list[int], Int[np.ndarray, " rows"] | None]:
    """For a tilt that tells them apart: how many, their names, and each row's, counted from 0.

    Raises:
        InputError: the data have no labels.
    """
    if not own.tells_classes:
        return own, [], None
    if data.labels is None:
        raise InputError(
            f"{data.name} has no labels for a tilt that tells classes apart; expected labelled "
            f"data, such as an .npz file with x and y, or another tilt"
        )
    names, labels = np.unique(data.labels, return_inverse=True)
    return replace(own, classes=len(names)), [int(name) for name in names], labels


def _cells_of(data: Dataset, index: np.ndarray) -> np.ndarray:
    """Rows as the lower ends of their cells, float32."""
    values = data.take(index).values
    return values if data.grid is None else data.grid.to_cells(values)
