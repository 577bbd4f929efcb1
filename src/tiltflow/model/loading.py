"""A saved model is read: its folder, or plain values and arrays, checked before they are used."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data.dependent import Dropped
from tiltflow.data.grids import Grid
from tiltflow.errors import InputError
from tiltflow.model.fitted import CONFIG, FORMAT, MODEL, WEIGHTS, FittedModel
from tiltflow.model.kernels import MOST_LEAPFROGS
from tiltflow.model.short_run import Protocol
from tiltflow.model.specs import ModelSpec, PartsSpec, Spec, spec_from
from tiltflow.model.specs.arrays import filled, read_arrays
from tiltflow.model.specs.migrations import unstacked
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.parallel.memory_maps import let_go_if_many
from tiltflow.runs import reading


def load_model(folder: str | Path, *, backbone: Any = None, tilt: Any = None) -> FittedModel:
    """The model in `folder`, which `FittedModel.save` has written, or in the run `folder`.

    Nothing in it is executed; weights of wrong names, shapes or types, or that are not finite,
    are refused.

    Args:
        folder: to read.
        backbone, tilt: where the model has a part of the user's own: an object as `fit` was handed
            it, of the same type and sizes, whose arrays are replaced by those in the folder.

    Raises:
        InputError: no model, one of a format that this version cannot read, or a damaged one; an
            own part that is not handed in, or is another.
        UnsoundModel: weights that are not finite.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists() and (folder / MODEL / CONFIG).exists():
        folder = folder / MODEL
    for name in (CONFIG, WEIGHTS):
        reading.refuse_outside(folder / name, folder)
    config = reading.read_json(folder / CONFIG)
    _check_format(config, folder / CONFIG)
    own = {"backbone": backbone, "tilt": tilt}
    skeleton = _skeleton(spec_from(config.get("model")), own, folder)
    arrays, digest = read_arrays(folder / WEIGHTS, skeleton)
    model = _from_plain(config, arrays, folder, own)
    if config.get("weights", digest) != digest:  # former versions did not tell
        raise InputError(
            f"{folder / WEIGHTS} is not the file that {CONFIG} was written for: saving was "
            f"interrupted, or one of them was replaced: save the model again"
        )
    return model


def from_plain(
    config: dict[str, Any], arrays: dict[str, np.ndarray], where: Path = Path()
) -> FittedModel:
    """The model that `FittedModel.to_plain` has taken apart; `where` is named in messages.

    Raises:
        InputError, UnsoundModel: as `load_model`.
    """
    return _from_plain(config, arrays, where, {})


def _from_plain(
    config: dict[str, Any], arrays: dict[str, np.ndarray], where: Path, own: dict[str, Any]
) -> FittedModel:
    let_go_if_many()
    _check_format(config, where / CONFIG)
    spec = spec_from(config.get("model"))
    if config["format"] == 1 and isinstance(spec, ModelSpec):
        arrays = unstacked(arrays, spec.blocks)
    model = filled(_skeleton(spec, own, where), arrays, where / WEIGHTS)
    try:
        sampler = config["sampler"]
        step_size, leapfrogs = sampler["step_size"], sampler["leapfrogs"]
        if type(step_size) not in (int, float) or not 0 < step_size < math.inf:
            raise ValueError(f"step_size is {step_size!r:.50}, expected a positive number")
        if type(leapfrogs) is not int or not 1 <= leapfrogs <= MOST_LEAPFROGS:
            raise ValueError(f"leapfrogs is {leapfrogs!r:.50}, expected 1 to {MOST_LEAPFROGS:,}")
        log_z = LogZ.from_dict(config["log_z"])
        integers = config["integers"]
        if type(integers) is not bool:
            raise ValueError(f"integers is {integers!r:.50}, expected true or false")
        shape = model.backbone.data_shape
        grid = Grid.from_dict(config["grid"], shape) if "grid" in config else None
        columns = _columns(config["columns"], shape) if "columns" in config else None
        protocol = Protocol.from_dict(config["protocol"]) if "protocol" in config else None
        dropped = Dropped.from_dict(config["dropped"], *shape) if "dropped" in config else None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where / CONFIG} is damaged ({type(error).__name__}: {error}): fit the model again"
        ) from None
    about = (grid, columns, protocol, dropped)
    return FittedModel(model, spec, log_z, integers, float(step_size), leapfrogs, *about)


def _columns(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of columns that were read from a file; ValueError if they are none."""
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        raise ValueError("columns are no names")
    if (len(names),) != shape:
        raise ValueError(f"{len(names)} columns have names, expected {shape}")
    return tuple(names)


def _skeleton(spec: Spec, own: dict[str, Any], where: Path) -> TiltedModel:
    """A model of the right shapes, with parts of the user's own as they were handed in."""
    if isinstance(spec, PartsSpec):
        return spec.skeleton(**own)
    if named := [name for name, part in own.items() if part is not None]:
        raise InputError(
            f"{named[0]} is given, but no part of the model in {where} is one of your own; leave "
            f"it out"
        )
    return spec.skeleton()


def _check_format(config: dict[str, Any], path: Path) -> None:
    """Raises InputError for a format that this version cannot read."""
    found = config.get("format")
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise InputError(
            f"{path} has format {found!r:.50}; expected 1 to {FORMAT}: use "
            f"the version of tiltflow that wrote it ({config.get('tiltflow')!r:.50})"
        )
