"""The toy of the figures: a ring of eight clouds, a small flow, and the tilt that corrects it."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning import BackboneSettings, Rows, TiltSettings, fit_backbone, fit_tilt
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import MLPTilt

CLOUDS, RADIUS, WIDTH = 8, 2.0, 0.16
SIDE, CELLS = 2.9, 300  # half the side of the plane that is drawn, and its grid


@dataclass(frozen=True)
class Toy:
    """Data `[rows, 2]`, what was learned from them, and log Z."""

    data: np.ndarray
    model: TiltedModel
    log_z: LogZ


def clouds(rows: int, seed: int) -> np.ndarray:
    """Rows of the ring, float32 `[rows, 2]`."""
    rng = np.random.default_rng(seed)
    angle = 2 * math.pi * rng.integers(CLOUDS, size=rows) / CLOUDS
    centre = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centre + WIDTH * rng.normal(size=(rows, 2))).astype(np.float32)


def learned() -> Toy:
    """Fit flow and tilt with fixed seeds: a minute or two."""
    data = clouds(4_000, 0)
    units = fit_units("standardise", data, integers=False)
    train, val = (Rows(jnp.asarray(x), units, integers=False) for x in (data, clouds(2_000, 1)))
    flow = CouplingFlow(units, num_blocks=8, width=64, key=jr.key(0))
    settings = BackboneSettings(steps=4_000, decay=0.0, patience=16)
    flow, _ = fit_backbone(flow, train, val, settings, key=jr.key(1), listen=_silence)
    settings = TiltSettings(steps=3_000, rate=1e-2, decay=0.0, leapfrogs=5, patience=60)
    tilt = MLPTilt(2, width=96, key=jr.key(2))
    tilt, *_ = fit_tilt(flow, tilt, train, val, settings, key=jr.key(3), listen=_silence)
    model = TiltedModel(flow, tilt)
    return Toy(data, model, log_normalizer(model, key=jr.key(4), exact_draws=50_000))


def visited(x: np.ndarray) -> float:
    """How many clouds a chain of `[chains, draws, 2]` comes to, the mean over chains."""
    turn = np.arctan2(x[..., 1], x[..., 0]) / (2 * math.pi)
    cloud = np.round(turn * CLOUDS).astype(int) % CLOUDS
    return float(np.mean([len(np.unique(chain)) for chain in cloud]))


def plane() -> np.ndarray:
    """Points of the grid, `[CELLS, CELLS, 2]`, rows upwards."""
    axis = np.linspace(-SIDE, SIDE, CELLS, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1)


def over(function, points: np.ndarray) -> np.ndarray:
    """`function` of one point at every point of `[..., 2]`."""
    flat = jax.jit(jax.vmap(function))(jnp.asarray(points.reshape(-1, points.shape[-1])))
    return np.asarray(flat).reshape(*points.shape[:-1], *flat.shape[1:])


def _silence(phase: str, event: str, **fields: object) -> None:
    """Nothing is told."""
