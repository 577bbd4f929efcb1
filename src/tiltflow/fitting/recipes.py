"""The backbones that `fit` can make: a coupling flow, a Glow, a normal density, or a VAE.

Of the last the tilt reads z: chains then have as few dimensions as z (`backbones/prior.py`).
"""

from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone, CouplingFlow, Flow, Gaussian, Prior, fit_units
from tiltflow.backbones.glow import Glow, initialised
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.censored import fit_censored, has_atoms
from tiltflow.backbones.units.normal import LARGEST
from tiltflow.backbones.units.scale import fit_logit_scale, fit_scale
from tiltflow.data.grids import Grid
from tiltflow.errors import InputError
from tiltflow.fitting.settings import ModelSettings, Settings
from tiltflow.learning import Rows, fit_backbone
from tiltflow.learning.early_stopping import Listener
from tiltflow.learning.fit_backbone import nll_of
from tiltflow.learning.fit_mixture import exact_start
from tiltflow.learning.fit_vae import fit_vae, negative_bound
from tiltflow.learning.gaussian_start import at_normal
from tiltflow.learning.keeping import Keeper
from tiltflow.learning.start import Start
from tiltflow.model.specs import (
    GaussianSpec,
    VAESpec,
    WholeSpec,
    specify,
    specify_gaussian,
    specify_glow,
    specify_vae,
)
from tiltflow.parallel.devices import over_devices_once
from tiltflow.tilts import MixtureTilt, Tilt

_OF_FLOWS = ("blocks", "flow_width", "flow_dropout", "tilt_width", "tilt_depth", "tilt_dropout")
_OF_GAUSSIANS = ("components", "tilt_width", "tilt_depth", "tilt_dropout")
_OF_LATENT_TILTS = ("components", "data_width", "tilt_width", "tilt_depth", "tilt_dropout")
_FIRST_ROWS = 256  # that a Glow's normalisations are fitted to


def units_for(
    model: ModelSettings,
    x: np.ndarray,
    *,
    integers: bool,
    limits: tuple[float, float],
    grid: Grid | None = None,
) -> Units:
    """The units of training data `x`: as the settings say.

    Images before a VAE or a Glow have one scale for all pixels. Integers before a Glow are
    censored, where many are the smallest or the largest, or else their logit.
    """
    if model.backbone == "glow" and model.units in ("auto", "logit"):
        if integers and model.units == "auto" and has_atoms(x, limits):
            return fit_censored(x, limits=limits)
        if integers:
            return fit_logit_scale(x, limits=limits)
        if model.units == "auto":
            return fit_scale(x, integers=False, limits=limits)
    if model.backbone == "vae" and model.units == "auto" and x.ndim > 2:
        return fit_scale(x, integers=integers, limits=limits)
    if model.backbone == "gaussian" and model.units == "auto":
        return fit_units("whiten", x, integers=integers, grid=grid)
    return fit_units(model.units, x, integers=integers, limits=limits, grid=grid)


def specification(model: ModelSettings, units: Units) -> WholeSpec:
    """What the whole model will be made of.

    Raises:
        InputError: what a saved model may not be made of, such as too many parameters.
    """
    spec = _specification(model, units)
    spec.check()
    return spec


def _specification(model: ModelSettings, units: Units) -> WholeSpec:
    if model.backbone == "vae":
        tilt = {name: getattr(model, name) for name in _OF_LATENT_TILTS}
        channels = model.conv.channels if model.data_width and len(units.data_shape) > 1 else 0
        return specify_vae(units, model.vae, data_channels=channels, **tilt)
    if model.backbone == "glow":
        return specify_glow(units, model.glow, model.conv)
    if model.backbone == "gaussian":
        return specify_gaussian(units, **{name: getattr(model, name) for name in _OF_GAUSSIANS})
    dim = int(np.prod(units.data_shape))
    if model.backbone == "ensemble" and dim > LARGEST:
        raise InputError(
            f"an ensemble of {dim} numbers a row; expected at most {LARGEST}, whose covariance can "
            f"be told: use another backbone"
        )
    # Of a few images a full covariance learns by heart what the couplings would leave.
    base = dim <= LARGEST and (len(units.data_shape) == 1 or not model.blocks)
    return specify(units, base=base, **{name: getattr(model, name) for name in _OF_FLOWS})


def begin_backbone(spec: WholeSpec, units: Units, *, key: PRNGKeyArray) -> Backbone:
    """The backbone before it is learned."""
    if isinstance(spec, VAESpec):
        return Prior(_made(spec, "generator", units, key=key))
    return _made(spec, "flow", units, key=key)


@over_devices_once
def _made(spec: WholeSpec, part: str, *given: Any, key: PRNGKeyArray) -> Any:
    """That part of the specification, its first weights drawn in one program."""
    return getattr(spec, part)(*given, key=key)


def begin_tilt(
    spec: WholeSpec, mixture: MixtureTilt | None, particles: int, *, key: PRNGKeyArray
) -> tuple[Tilt, Start | None]:
    """The tilt before it is learned, and where learning starts; None: from exact draws of q.

    A `mixture` is the first part of the tilt, and its exact draws are the start.
    """
    if mixture is None or not isinstance(spec, VAESpec | GaussianSpec):
        return _made(spec, "tilt", key=key), None
    start = exact_start(mixture, particles, key=jr.fold_in(key, 1))
    return _made(spec, "tilt", mixture, key=key), start


def learn_backbone(
    backbone: Any,
    train: Rows,
    val: Rows,
    settings: Settings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
    keeper: Keeper,
    kept: bool = False,
) -> tuple[Backbone, float]:
    """Learn what `begin_backbone` has made, or a flow of the user's own; or look at what is `kept`.

    Returns it, and its negative log-likelihood on validation rows, or the bound of it.

    Raises:
        InputError: settings that cannot work, or a likelihood that was never finite.
        Interrupted: the keeper was asked to stop.
    """
    if kept or isinstance(backbone, Gaussian):
        if isinstance(backbone, Flow):
            return backbone, nll_of(backbone, val, settings.backbone, key=key)
        return backbone, float(negative_bound(backbone, val, key))
    how = {"key": key, "listen": listen, "keeper": keeper}
    if isinstance(backbone, Prior):
        generator, nll = fit_vae(backbone.generator, train, val, settings.vae, **how)
        return Prior(generator), nll
    if isinstance(backbone, Glow):
        first, _ = train.batch(jr.fold_in(key, 1), _FIRST_ROWS)
        backbone = initialised(backbone, first)
    if isinstance(backbone, CouplingFlow) and backbone.base is not None:
        backbone = at_normal(backbone, train, val, key=jr.fold_in(key, 2))
        if not backbone.blocks:  # the normal density itself: there is no more to learn
            return backbone, nll_of(backbone, val, settings.backbone, key=key)
    return fit_backbone(backbone, train, val, settings.backbone, **how)
