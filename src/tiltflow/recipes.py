"""The backbones that `fit` can make: a coupling flow, or a variational autoencoder.

Of the latter the tilt reads z: chains then have as few dimensions as z (`backbones/prior.py`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone, Prior, fit_units
from tiltflow.backbones.scale import fit_scale
from tiltflow.backbones.units import Units
from tiltflow.learning import Rows, fit_backbone
from tiltflow.learning.fit_backbone import Listener
from tiltflow.learning.fit_vae import fit_vae
from tiltflow.settings import ModelSettings, Settings
from tiltflow.spec import ModelSpec, specify
from tiltflow.spec_vae import VAESpec, specify_vae

_OF_FLOWS = ("blocks", "flow_width", "flow_dropout", "tilt_width", "tilt_depth", "tilt_dropout")


class Fitted(NamedTuple):
    """A backbone, and what the whole model will be made of.

    Attributes:
        spec: of the tilted model.
        backbone: that the tilt is learned on.
        nll_val: its negative log-likelihood on validation rows, or the bound of it.
    """

    spec: ModelSpec | VAESpec
    backbone: Backbone
    nll_val: float


def units_for(
    model: ModelSettings, x: np.ndarray, *, integers: bool, limits: tuple[float, float]
) -> Units:
    """The units of training data `x`: as the settings say; for images before a VAE one scale."""
    if model.backbone == "vae" and model.units == "auto" and x.ndim > 2:
        return fit_scale(x, integers=integers, limits=limits)
    return fit_units(model.units, x, integers=integers, limits=limits)


def make_backbone(
    settings: Settings,
    units: Units,
    train: Rows,
    val: Rows,
    *,
    make_key: PRNGKeyArray,
    learn_key: PRNGKeyArray,
    listen: Listener,
) -> Fitted:
    """Make the backbone that the settings ask for, and learn it.

    Raises:
        InputError: settings that cannot work, or a likelihood that was never finite.
    """
    model = settings.model
    if model.backbone == "vae":
        tilt = {n: getattr(model, n) for n in ("tilt_width", "tilt_depth", "tilt_dropout")}
        spec = specify_vae(units, model.vae, **tilt)
        generator, nll = fit_vae(
            spec.generator(units, key=make_key),
            train,
            val,
            settings.vae,
            key=learn_key,
            listen=listen,
        )
        return Fitted(spec, Prior(generator), nll)
    spec = specify(units, **{name: getattr(model, name) for name in _OF_FLOWS})
    flow, nll = fit_backbone(
        spec.flow(units, key=make_key),
        train,
        val,
        settings.backbone,
        key=learn_key,
        listen=listen,
    )
    return Fitted(spec, flow, nll)
