"""All particles of all rungs, climbing and descending, as one estimate of log Z.

Particles that are resampled within a small group, and moved a little, lag: at each rung they are
still somewhat where they came from, by 1 / particles of a group and by what moves leave. Climbers
alone lean down, descenders up; more groups do not help, as each has the same lag. But a group's
particles times its running estimate of the ratio of normalising constants *are* unbiased, at each
rung and whatever the moves (Del Moral 2004, "Feynman-Kac formulae", theorem 7.4.2). So particles
count by that estimate, over its mean of all groups: what is left of the lean falls with the number
of groups, faster than the error.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from tiltflow.normalizer.mbar import Rungs, mbar
from tiltflow.normalizer.values import Values

MOST_SHARES = 50_000_000  # draws times rungs


def pooled(
    betas: Values,
    up: Float[np.ndarray, "rungs rounds groups particles"],
    down: Float[np.ndarray, "rungs rounds groups particles"],
    guess: Values,
) -> Rungs:
    """log Z at each rung, of all particles.

    Args:
        betas: `[rungs]`, ascending.
        up: f of those that climb, after their moves at each rung; at the first before any.
        down: of those that descend, in the same order of rungs; at the last before any move.
        guess: `[rungs]`, of log Z.
    """
    thin = 1 + (up.size + down.size) * len(betas) // MOST_SHARES
    f, weights = [], []
    for values, order in ((up, slice(None)), (down, slice(None, None, -1))):
        shares = weights_of_groups(betas[order], values[order])[order]
        for rung, share in zip(values, shares, strict=True):
            rung, share = np.moveaxis(rung, 1, 0), np.repeat(share.T, rung.shape[-1], axis=1)
            f.append(rung.reshape(len(rung), -1)[:, ::thin])
            weights.append(share[:, ::thin])
    return mbar(betas, f, guess, rung_of=np.tile(np.arange(len(betas)), 2), weights=weights)


def weights_of_groups(
    betas: Values, f: Float[np.ndarray, "rungs rounds groups particles"]
) -> Float[np.ndarray, "rungs rounds groups"]:
    """What a group's particles count at each rung; 1 on average.

    Args:
        betas: in the order in which rungs were met.
        f: of particles that were resampled at every rung, after their moves there.
    """
    steps = np.diff(betas)[:, None, None, None] * f[:-1]
    ratios = np.asarray(logsumexp(steps, axis=-1)) - np.log(f.shape[-1])
    log_z = np.concatenate([np.zeros((1, *ratios.shape[1:])), np.cumsum(ratios, axis=0)])
    shares = np.exp(log_z - log_z.max(axis=(1, 2), keepdims=True))
    return shares / shares.mean(axis=(1, 2), keepdims=True)
