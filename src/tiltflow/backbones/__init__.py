"""Backbones: noise in, data out. `base.py` has the contract."""

from tiltflow.backbones.base import Backbone, Flow
from tiltflow.backbones.coupling import CouplingFlow
from tiltflow.backbones.units import dequantise, fit_units

__all__ = ["Backbone", "CouplingFlow", "Flow", "dequantise", "fit_units"]
