"""Backbones: noise in, data out. `base.py` has the contract."""

from tiltflow.backbones.autoregressive import AutoregressiveFlow
from tiltflow.backbones.base import Backbone, Flow
from tiltflow.backbones.celled import CelledFlow
from tiltflow.backbones.copula import CopulaDensity
from tiltflow.backbones.coupling import CouplingFlow
from tiltflow.backbones.density import Density, MixtureDensity
from tiltflow.backbones.ensemble import Ensemble
from tiltflow.backbones.flowjax import FlowjaxFlow
from tiltflow.backbones.gaussian import Gaussian
from tiltflow.backbones.generator import Generator
from tiltflow.backbones.glow import Glow, GlowSizes
from tiltflow.backbones.own import Kept
from tiltflow.backbones.prior import Prior
from tiltflow.backbones.pushforward import Pushforward
from tiltflow.backbones.units.bijections import dequantise
from tiltflow.backbones.units.fitting import fit_units

__all__ = [
    "AutoregressiveFlow",
    "Backbone",
    "CelledFlow",
    "CopulaDensity",
    "CouplingFlow",
    "Density",
    "Ensemble",
    "Flow",
    "FlowjaxFlow",
    "Gaussian",
    "Generator",
    "Glow",
    "GlowSizes",
    "Kept",
    "MixtureDensity",
    "Prior",
    "Pushforward",
    "dequantise",
    "fit_units",
]
