"""Units: bijections at a backbone's data end, and how they are fitted to training data."""

from tiltflow.backbones.units.bijections import (
    Affine,
    Gaussianise,
    Histogram,
    Logit,
    Units,
    dequantise,
)
from tiltflow.backbones.units.censored import Censored, fit_censored
from tiltflow.backbones.units.fitting import fit_units
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.backbones.units.scale import Scale, fit_logit_scale, fit_scale

__all__ = [
    "Affine",
    "Censored",
    "Gaussianise",
    "HeavyTailed",
    "Histogram",
    "Logit",
    "Scale",
    "Units",
    "dequantise",
    "fit_censored",
    "fit_logit_scale",
    "fit_scale",
    "fit_units",
]
