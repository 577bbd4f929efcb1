"""What values of f at all replicas of replica exchange tell: how hard the ladder is to climb.

Neighbours refuse an exchange more often the further apart they are. Added up along the ladder
the refusals approach a number that belongs to the model, not to the ladder: its barrier. Chains
travel fastest where every pair refuses equally often; with many replicas one in 2 + 2 barrier
exchanges then brings a draw of the backbone all the way up, with few it is fewer (Syed et al.
2022, arXiv 1905.02939, section 4).
"""

import numpy as np
from jaxtyping import Float

from tiltflow.errors import InputError

Values = np.ndarray


def refusals(betas: Values, f: Float[Values, "chains draws replicas"]) -> Float[Values, " pairs"]:
    """How often each pair of neighbours refuses an exchange, on average.

    Args:
        betas: `[replicas]`, rising from 0 to 1.
        f: at all replicas, as `Draws.replicas` has them.

    Raises:
        InputError: other replicas in f than betas, or values that are not finite.
    """
    betas, f = np.asarray(betas, np.float64), np.asarray(f, np.float64)
    if f.ndim != 3 or f.shape[2] != len(betas):
        raise InputError(
            f"f at replicas has shape {f.shape}; expected [chains, draws, {len(betas)}]"
        )
    if len(bad := np.argwhere(~np.isfinite(f))):
        raise InputError(
            f"f at replicas has {len(bad)} of {f.size} values that are not finite, the first, "
            f"{f[tuple(bad[0])]}, at {bad[0].tolist()}: look for overflow in the tilt there"
        )
    log_ratio = np.diff(betas) * (f[..., :-1] - f[..., 1:])
    return 1.0 - np.exp(np.minimum(log_ratio, 0.0)).mean(axis=(0, 1))


def barrier(betas: Values, f: Float[Values, "chains draws replicas"]) -> float:
    """The refusals of all pairs together."""
    return float(refusals(betas, f).sum())


def evened(
    betas: Values, f: Float[Values, "chains draws replicas"], number: int | None = None
) -> Float[Values, " replicas"]:
    """`number` betas, as many as there are by default, whose pairs refuse equally often.

    Where the refusals add up is interpolated between the betas at hand.
    """
    betas = np.asarray(betas, np.float64)
    height = np.concatenate([[0.0], np.cumsum(np.maximum(refusals(betas, f), 1e-6))])
    levels = np.linspace(0.0, height[-1], len(betas) if number is None else number)
    new = np.interp(levels, height, betas)
    new[0], new[-1] = 0.0, 1.0
    return new
