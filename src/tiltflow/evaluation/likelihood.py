"""Held-out likelihood: nats per example for backbone and tilted model, and the gain."""

from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.learning import Rows
from tiltflow.tilted import TiltedModel

DRAWS = 20  # dequantisations of each row
PART = 4096


@dataclass(frozen=True, eq=False)
class Scores:
    """Held-out rows under a model, each with its dequantisation draws, in nats.

    Attributes:
        f: `[rows, draws]`, the tilt.
        log_q: `[rows, draws]`, the backbone's log-density, data units.
    """

    f: np.ndarray
    log_q: np.ndarray

    @property
    def nll_backbone(self) -> np.ndarray:
        """`[rows]`: minus log q, mean over dequantisations."""
        return -self.log_q.mean(axis=1)


def score(model: TiltedModel, rows: Rows, key: PRNGKeyArray, draws: int = DRAWS) -> Scores:
    """f and log q of every row, with `draws` dequantisations if the data are integers."""
    y, log_det = rows.every(key, draws)
    f, log_q = _score(model, y.reshape(-1, y.shape[-1]))
    shape = log_det.shape
    return Scores(
        f=np.asarray(f, np.float64).reshape(shape),
        log_q=np.asarray(log_q, np.float64).reshape(shape) + np.asarray(log_det, np.float64),
    )


@eqx.filter_jit
def _score(model: TiltedModel, y: Array) -> tuple[Array, Array]:
    def one(y: Array) -> tuple[Array, Array]:
        return model.tilt(y), model.backbone.log_prob_coordinates(y)

    return jax.lax.map(one, y, batch_size=PART)
