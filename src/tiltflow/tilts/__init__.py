"""Tilts: a backbone's coordinates in, a scalar out; larger f is more probable."""

from tiltflow.tilts.mlp import MLPTilt

__all__ = ["MLPTilt"]
