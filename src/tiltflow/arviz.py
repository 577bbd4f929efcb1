"""Draws for ArviZ, in whichever of its lines is installed: 0.x or 1.x.

`to_arviz(...)` returns what that line works on, an `InferenceData` or a `DataTree`; both have the
groups `posterior` and `sample_stats`, and both write NetCDF with `.to_netcdf(path)`.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow._version import __version__
from tiltflow.errors import InputError
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.tempering import REPLICAS
from tiltflow.runs.draws import StoredDraws, load_draws

STATISTICS = {"energies": "energy", "divergent": "diverging"}
"""Our names of what ArviZ has its own for."""


def to_arviz(draws: Draws | StoredDraws | str | Path, *, x: ArrayLike | None = None) -> Any:
    """The draws as ArviZ has them: `posterior` with u, f, norm and x, and `sample_stats`.

    `u` are the latent positions, `[chain, draw, *latent_shape]`; `f` the tilt, larger where data
    are more probable; `norm` is |u|^2. `sample_stats` has `energy` (the kernel's, in nats),
    `diverging`, and `lp`, the latent log-density f - |u|^2 / 2, up to log Z; of replica exchange
    also `replicas`, f at all of them.

    Args:
        draws: what `FittedModel.sample` returned second; or what `tiltflow.load_draws` gave, or
            its folder, whose arrays stay on disk until they are looked at or written.
        x: data units, `[chains, draws, *data_shape]`: what `FittedModel.sample` returned first. A
            folder has its own.

    Raises:
        InputError: ArviZ is not installed, there are no draws, or x has others.
    """
    if isinstance(draws, str | Path):
        draws = load_draws(draws)
    posterior, statistics = _groups(draws)
    number = statistics["energy"].shape
    if 0 in number:
        raise InputError(f"{number[0]} chains of {number[1]} draws; expected at least one draw")
    if x is not None:
        x = np.asarray(x)
        if x.shape[:2] != number:
            raise InputError(
                f"x has shape {x.shape}; expected {number} chains and draws first, as the draws "
                f"have: pass what the same call of sample returned"
            )
        posterior["x"] = x
    about = {"inference_library": "tiltflow", "inference_library_version": __version__}
    return built(posterior, statistics, about | _scalars(draws))


def _groups(draws: Draws | StoredDraws) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of `posterior` and of `sample_stats`."""
    if isinstance(draws, StoredDraws):
        found = dict(draws.arrays)
        missing = sorted(set(STATISTICS) - set(found))
        if missing:
            raise InputError(f"the folder has no {missing[0]}; expected one of tiltflow's samplers")
    else:
        found = {"energies": draws.energies, "divergent": draws.divergent, **draws.summaries}
        if draws.positions is not None:
            found["positions"] = draws.positions
        if draws.replicas is not None:
            found[REPLICAS] = draws.replicas
    statistics = {name: found.pop(ours) for ours, name in STATISTICS.items()}
    if REPLICAS in found:
        statistics[REPLICAS] = found.pop(REPLICAS)
    if {"f", "norm"} <= set(found):
        statistics["lp"] = np.asarray(found["f"]) - 0.5 * np.asarray(found["norm"])
    if "positions" in found:
        found = {"u": found.pop("positions"), **found}
    return found, statistics


def _scalars(draws: Draws | StoredDraws) -> dict[str, float | int]:
    """What holds for the whole run, as attributes of `sample_stats`."""
    if isinstance(draws, StoredDraws):
        return {"transitions": draws.counts.transitions, "gradients": draws.counts.gradients}
    return {
        "acceptance": float(draws.acceptance),
        "step_size": draws.step_size,
        "transitions": int(draws.transitions),
        "gradients": int(draws.gradients),
    }


def built(posterior: dict[str, Any], statistics: dict[str, Any], about: dict[str, Any]) -> Any:
    """By `from_dict`, whose signature is all that differs between the two lines.

    Args:
        posterior, statistics: arrays `[chain, draw, ...]` by name.
        about: what holds for the whole run, as attributes.

    Raises:
        InputError: ArviZ is not installed.
    """
    if find_spec("arviz") is None:
        raise InputError(
            "ArviZ is not installed; expected its 0.x or 1.x line: pip install 'tiltflow[arviz]'"
        )
    groups = {"posterior": posterior, "sample_stats": statistics}
    if find_spec("arviz_base") is not None:
        attributes = dict.fromkeys(groups, about)
        return import_module("arviz_base").from_dict(groups, attrs=attributes)
    with warnings.catch_warnings():  # 0.x advises to move on to 1.x
        warnings.simplefilter("ignore", FutureWarning)
        arviz = import_module("arviz")
    attributes = {f"{name}_attrs": about for name in groups}
    return arviz.from_dict(**groups, **attributes)
