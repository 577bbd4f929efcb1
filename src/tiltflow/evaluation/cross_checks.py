"""Chains and log Z, each held against what does not come from where it comes from.

Chains that agree with one another may all be wrong: their kernel is broken, or none has met a part
of the model. Exact draws of the backbone, weighted by exp f, have the same means, where there are
weights enough. And an estimate of log Z has to lie between the two sides that need no estimator at
all: the mean of exp f over draws of the backbone, and that of exp(-f) over draws of the model.
"""

import numpy as np

from tiltflow.diagnostics.coverage import Means, compare, of_chains
from tiltflow.diagnostics.verdict import Check
from tiltflow.mcmc.draws import Draws
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.bounds import dealt, from_above, from_below
from tiltflow.normalizer.pareto import pareto_k

COORDINATES = 32  # at most
FEWEST_WEIGHED = 200.0  # effective draws of the backbone
HEAVIEST = 0.7  # Pareto k-hat, beyond which weighted means have no error
FEWEST_DRAWN = 50.0  # effective draws of the chains
FAR = 5.0  # standard errors of a side
LEAST = 0.02  # nats


def against_weighted(draws: Draws, u: np.ndarray, f: np.ndarray) -> list[Check]:
    """Chains against weighted exact draws: first and second moments of u, and of |u|^2.

    None where too few of the exact draws reach the model.

    Args:
        draws: of the chains.
        u: exact draws of the backbone, `[number, *latent_shape]`.
        f: of them.
    """
    assert draws.positions is not None
    f = np.asarray(f, np.float64)
    if not np.isfinite(f).all() or pareto_k(f) > HEAVIEST:
        return []
    weights = np.exp(f - f.max())
    weights /= weights.sum()
    if 1.0 / np.sum(weights**2) < FEWEST_WEIGHED:
        return []
    positions = np.asarray(draws.positions)
    ours = of_chains(_moments(positions), ess_min=FEWEST_DRAWN)
    compared = compare(ours, _weighted(_moments(u[None])[0], weights))
    if not compared.compared:
        return []
    value = compared.largest_z
    return [
        Check(
            name="chains against weighted draws of the backbone",
            value=value,
            limit=compared.limit,
            ok=value <= compared.limit,
            severity="caution" if value <= 1.5 * compared.limit else "failed",
            means="Chains and exact draws of the backbone, weighted by exp f, disagree about the "
            "model's means, in standard errors: chains leave out a part of it, or move wrongly.",
            try_="Use another kernel; draw longer chains, or let jumps lead them between modes.",
        )
    ]


def _moments(u: np.ndarray) -> np.ndarray:
    """Of draws `[chains, draws, ...]`: some coordinates, their squares, and |u|^2."""
    flat = u.reshape(*u.shape[:2], -1).astype(np.float64)
    dim = flat.shape[-1]
    some = flat[..., np.unique(np.linspace(0, dim - 1, min(dim, COORDINATES)).astype(int))]
    return np.concatenate([some, some**2, np.sum(flat**2, axis=-1, keepdims=True)], axis=-1)


def _weighted(values: np.ndarray, weights: np.ndarray) -> Means:
    """Means of `[draws, quantities]` with weights that add up to 1, by the delta method."""
    mean = weights @ values
    away = values - mean
    spread = np.sqrt(weights @ away**2)
    return Means(mean, np.sqrt((weights**2) @ away**2), spread, spread > 0)


def between_sides(log_z: LogZ, f_q: np.ndarray, f_p: np.ndarray) -> list[Check]:
    """Whether an estimate lies between log Z from below and from above.

    Args:
        log_z: the estimate.
        f_q: `[n]`, at exact draws of the backbone.
        f_p: `[chains, draws]`, at draws of the model.
    """
    if not (np.isfinite(log_z.mean) and np.isfinite(f_q).all() and np.isfinite(f_p).all()):
        return []
    below = from_below(dealt(np.asarray(f_q, np.float64)))
    above = from_above(-np.asarray(f_p, np.float64))
    under = below.mean - FAR * below.standard_error - log_z.mean
    over = log_z.mean - above.mean - FAR * above.standard_error
    beyond = float(max(under, over))
    return [
        Check(
            name="log Z, nats outside its two sides",
            value=max(beyond, 0.0),
            limit=LEAST,
            ok=beyond <= LEAST,
            part="log Z",
            rests_on=("chains",),
            severity="failed",
            means=f"log Z is told to be {log_z.mean:.3f}; exp f over draws of the backbone has it "
            f"above {below.mean:.3f} ± {below.standard_error:.3f}, and exp(-f) over draws of the "
            f"model below {above.mean:.3f} ± {above.standard_error:.3f}.",
            try_="Estimate log Z anew (`tiltflow likelihood`); do not use this one.",
        )
    ]
