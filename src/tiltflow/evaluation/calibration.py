"""The scale of a tilt, chosen on validation data: beta f instead of f.

A tilt that was learned for too long, or by particles that lagged, is too steep. Along beta f the
held-out gain is beta E_val f - log Z(beta), concave, and log Z(beta) follows from draws at
beta = 1 by reweighting, as long as their weights allow it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import equinox as eqx
import numpy as np
from scipy.special import logsumexp

from tiltflow.errors import InputError
from tiltflow.tilts import ConvTilt, MLPTilt

BETAS = np.linspace(0.5, 1.5, 201)
SHARE = 0.2  # of the draws that count after reweighting, at least
SCALABLE = (MLPTilt, ConvTilt)
LEAST_RISE = 0.05  # nats: a smaller one is not worth other chains


@dataclass(frozen=True)
class Calibration:
    """The best scale of a tilt.

    Attributes:
        beta: of the grid, as far as the draws reach.
        rise: of the held-out gain over that of beta = 1, in nats.
        log_ratio: log Z(beta) - log Z(1), in nats.
    """

    beta: float
    rise: float
    log_ratio: float = 0.0

    @property
    def matters(self) -> bool:
        """Whether the tilt is to be scaled."""
        return self.rise >= LEAST_RISE

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def calibrate(f_val: np.ndarray, f_chains: np.ndarray) -> Calibration:
    """The scale with the largest held-out gain.

    Args:
        f_val: of validation rows, any shape.
        f_chains: of draws of the tilted model, any shape.

    Raises:
        InputError: f is not finite everywhere.
    """
    mean, f = float(np.mean(f_val, dtype=np.float64)), np.asarray(f_chains, np.float64).ravel()
    if not (np.isfinite(mean) and np.isfinite(f).all()):
        raise InputError("f is not finite at all rows and draws; expected finite values")
    rise = (BETAS - 1)[:, None] * f
    log_z = logsumexp(rise, axis=1) - np.log(len(f))
    share = np.exp(2 * logsumexp(rise, axis=1) - logsumexp(2 * rise, axis=1)) / len(f)
    gained = np.where(share >= SHARE, (BETAS - 1) * mean - log_z, -np.inf)
    best = int(np.argmax(gained))
    return Calibration(round(float(BETAS[best]), 6), float(gained[best]), float(log_z[best]))


def scaled(tilt: Any, beta: float) -> MLPTilt | ConvTilt:
    """`tilt` times `beta`, of the same architecture.

    Raises:
        InputError: a tilt whose last layer is not known.
    """
    if isinstance(tilt, MLPTilt):
        return eqx.tree_at(
            lambda t: (t.layers[-1].weight, t.level), tilt, replace_fn=lambda x: beta * x
        )
    if isinstance(tilt, ConvTilt):
        return eqx.tree_at(lambda t: (t.last.weight, t.level), tilt, replace_fn=lambda x: beta * x)
    raise InputError(f"a {type(tilt).__name__} cannot be scaled; expected MLPTilt or ConvTilt")
