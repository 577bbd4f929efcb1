"""The backbones that `fit` can make: a coupling flow, or a variational autoencoder.

Of the latter the tilt reads z: chains then have as few dimensions as z (`backbones/prior.py`).
"""

import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone, CouplingFlow, Generator, Prior, fit_units
from tiltflow.backbones.scale import fit_scale
from tiltflow.backbones.units import Units
from tiltflow.learning import Rows, fit_backbone
from tiltflow.learning.fit_backbone import Listener
from tiltflow.learning.fit_vae import fit_vae
from tiltflow.learning.keeping import Keeper
from tiltflow.settings import ModelSettings, Settings
from tiltflow.spec import ModelSpec, specify
from tiltflow.spec_vae import VAESpec, specify_vae

_OF_FLOWS = ("blocks", "flow_width", "flow_dropout")
_OF_TILTS = ("tilt_width", "tilt_depth", "tilt_dropout")


def units_for(
    model: ModelSettings, x: np.ndarray, *, integers: bool, limits: tuple[float, float]
) -> Units:
    """The units of training data `x`: as the settings say; for images before a VAE one scale."""
    if model.backbone == "vae" and model.units == "auto" and x.ndim > 2:
        return fit_scale(x, integers=integers, limits=limits)
    return fit_units(model.units, x, integers=integers, limits=limits)


def make_backbone(
    settings: Settings, units: Units, key: PRNGKeyArray
) -> tuple[ModelSpec | VAESpec, CouplingFlow | Generator]:
    """What the settings ask for, before it is learned: the whole model's specification with it.

    Raises:
        InputError: settings that cannot work.
    """
    model = settings.model
    if model.backbone == "vae":
        tilt = {name: getattr(model, name) for name in _OF_TILTS}
        spec = specify_vae(units, model.vae, **tilt)
        return spec, spec.generator(units, key=key)
    spec = specify(units, **{name: getattr(model, name) for name in (*_OF_FLOWS, *_OF_TILTS)})
    return spec, spec.flow(units, key=key)


def learn_backbone(
    backbone: CouplingFlow | Generator,
    train: Rows,
    val: Rows,
    settings: Settings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
    keeper: Keeper,
) -> tuple[CouplingFlow | Generator, float]:
    """The learned backbone, and its negative log-likelihood on `val`, or the bound of it.

    Raises:
        InputError: a likelihood that was never finite.
        Interrupted: the keeper was asked to stop.
    """
    if isinstance(backbone, Generator):
        return fit_vae(backbone, train, val, settings.vae, key=key, listen=listen, keeper=keeper)
    return fit_backbone(
        backbone, train, val, settings.backbone, key=key, listen=listen, keeper=keeper
    )


def as_tilted(backbone: CouplingFlow | Generator) -> Backbone:
    """The backbone as the tilt sees it: of a generator, its prior."""
    return Prior(backbone) if isinstance(backbone, Generator) else backbone
