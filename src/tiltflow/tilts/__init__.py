"""Tilts: a backbone's coordinates in, a scalar out; larger f is more probable."""

from tiltflow.tilts.base import Frozen, Tilt
from tiltflow.tilts.given import GivenTilt
from tiltflow.tilts.mlp import MLPTilt
from tiltflow.tilts.network import NetworkTilt

__all__ = ["Frozen", "GivenTilt", "MLPTilt", "NetworkTilt", "Tilt"]
