"""Tilts: a backbone's coordinates in, a scalar out; larger f is more probable."""

from tiltflow.tilts.base import Frozen, Tilt
from tiltflow.tilts.conv import ConvSizes, ConvTilt
from tiltflow.tilts.given import GivenTilt
from tiltflow.tilts.mixture import MixtureTilt, WithNoise
from tiltflow.tilts.mlp import MLPTilt
from tiltflow.tilts.network import NetworkTilt
from tiltflow.tilts.observed import ObservedTilt
from tiltflow.tilts.select import OfData, OfLatent, Sum

__all__ = [
    "ConvSizes",
    "ConvTilt",
    "Frozen",
    "GivenTilt",
    "MLPTilt",
    "MixtureTilt",
    "NetworkTilt",
    "ObservedTilt",
    "OfData",
    "OfLatent",
    "Sum",
    "Tilt",
    "WithNoise",
]
