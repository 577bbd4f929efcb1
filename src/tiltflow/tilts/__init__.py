"""Tilts: a backbone's coordinates in, a scalar out; larger f is more probable.

A plain function is one too, of x in data units (`data.py`).
"""

from tiltflow.tilts.base import Frozen, ReadsCoordinates, Tilt
from tiltflow.tilts.classes import ClassTilt
from tiltflow.tilts.conv import ConvSizes, ConvTilt
from tiltflow.tilts.data import CoordinateTilt, DataTilt, as_tilt
from tiltflow.tilts.given import GivenTilt
from tiltflow.tilts.linear import LinearTilt
from tiltflow.tilts.mixture import MixtureTilt, WithNoise
from tiltflow.tilts.mlp import MLPTilt
from tiltflow.tilts.network import NetworkTilt
from tiltflow.tilts.observed import ObservedTilt
from tiltflow.tilts.select import OfData, OfLatent, Sum

__all__ = [
    "ClassTilt",
    "ConvSizes",
    "ConvTilt",
    "CoordinateTilt",
    "DataTilt",
    "Frozen",
    "GivenTilt",
    "LinearTilt",
    "MLPTilt",
    "MixtureTilt",
    "NetworkTilt",
    "ObservedTilt",
    "OfData",
    "OfLatent",
    "ReadsCoordinates",
    "Sum",
    "Tilt",
    "WithNoise",
    "as_tilt",
]
