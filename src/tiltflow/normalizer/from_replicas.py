"""log Z from replica exchange: its replicas are draws of all rungs of a ladder already.

All of them together give log Z (`mbar`); chains, which do not meet, are the independent groups of
which it takes the error. The lowest replica is made of exact draws of the backbone. The others
are in equilibrium only if chains have climbed the ladder often: so the estimate is refused where
what the first half of the draws says is not what the second half says.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from tiltflow.errors import InputError
from tiltflow.mcmc.replicas import refusals
from tiltflow.normalizer.estimate import DISTRUST, LogZ
from tiltflow.normalizer.mbar import Rungs, mbar
from tiltflow.normalizer.values import Values

LEAST_CHAINS, LEAST_DRAWS = 4, 4
MOST_APART = 3.5  # joint standard errors between halves that tell the same story
MOST_REFUSED = 0.9  # of the exchanges of a pair
MOST_SHARES = 20_000_000  # draws times replicas


def from_replicas(betas: Values, f: Float[Values, "chains draws replicas"]) -> LogZ:
    """log Z, with an interval, and whether it holds.

    Args:
        betas: `[replicas]`, rising from 0 to 1.
        f: at all replicas after warm-up, in nats; `Draws.replicas`.

    Raises:
        InputError: other replicas in f than betas, values that are not finite, fewer than four
            chains or draws.
    """
    betas = np.asarray(betas, np.float64)
    refused = refusals(betas, f)
    chains, draws, replicas = f.shape
    if chains < LEAST_CHAINS or draws < LEAST_DRAWS:
        raise InputError(f"{chains} chains of {draws} draws; expected four or more of each")
    f = np.asarray(f, np.float64)[:, :: 1 + f.size * replicas // MOST_SHARES]
    whole = _log_z(betas, f)
    middle = f.shape[1] // 2
    first, second = _log_z(betas, f[:, :middle]), _log_z(betas, f[:, middle:])
    mean, error = float(whole.log_z[-1]), float(whole.standard_error[-1])
    half = float(stdtrit(chains - 1, 0.975)) * error
    reason = _contradiction(whole, first, second, float(refused.max()))
    words = (
        f"{replicas} replicas, {chains} chains of {draws} draws, refused exchanges "
        f"{refused.min():.0%} to {refused.max():.0%}."
    )
    return LogZ(
        mean=mean,
        standard_error=error,
        low=mean - half,
        high=mean + half,
        method="replicas",
        ess_q=float(chains * draws),  # exact draws of q, none like another
        ess_p=math.nan,
        holds=not reason,
        words=f"{DISTRUST}{reason}. {words}" if reason else words,
    )


def _log_z(betas: Values, f: Values) -> Rungs:
    return mbar(betas, list(np.moveaxis(f, 2, 0)), betas * f[..., -1].mean())


def _contradiction(whole: Rungs, first: Rungs, second: Rungs, refused: float) -> str:
    """Why it cannot be believed, or nothing."""
    if refused > MOST_REFUSED:
        return f"a pair refuses {refused:.0%} of its exchanges; take more replicas"
    if not (whole.converged and first.converged and second.converged):
        return "the equations of the pooled estimate were not solved"
    gap = float(second.log_z[-1] - first.log_z[-1])
    joint = float(np.hypot(first.standard_error[-1], second.standard_error[-1]))
    if abs(gap) > MOST_APART * joint + 1e-6 * (1.0 + abs(float(whole.log_z[-1]))):
        return (
            f"the second half of the draws says {gap:+.3f} nats more than the first, "
            f"{abs(gap) / joint:.1f} standard errors; the chains have not reached p: warm up longer"
        )
    return ""
