"""log Z by meeting half-way: draws of q and draws of p, weighed by the optimal bridge.

With t(x) = f(x) - c + log(s_p / s_q) and sigma the logistic function, c = log Z solves

    1/s_p mean_q sigma(t) = 1/s_q mean_p sigma(-t)                                    (a)

Bennett (1976), "Efficient estimation of free energy differences from Monte Carlo data",
J. Comput. Phys. 22; Meng and Wong (1996), "Simulating ratios of normalizing constants via a
simple identity", Statistica Sinica 6, equation 4.1 at its fixed point. Correlated chains
enter s_p with their effective number of draws, as in Gronau et al. (2017), "A tutorial on
bridge sampling", J. Math. Psych. 81.

The difference of the logarithms of the two sides of (a) falls monotonically in c and changes
sign between the smallest and the largest f, so the root is bracketed before it is sought.

Minus its derivative there is a check for free. With h = p q / (s_p p + s_q q) the draws of q
contribute int h (1 - sigma) / int h to it and those of p int h sigma / int h: together 1, if
the draws are what they are said to be. Chains that lag behind f leave it below 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logsumexp

from tiltflow.normalizer.estimate import DISTRUST, LogZ
from tiltflow.normalizer.mean_error import half_width, of_chains, of_independent
from tiltflow.normalizer.values import Values, finite_values, over_q

LEAST_SIZE = 20.0
"""Effective draws below which a side's standard error is not believed."""
MOST_SLOPE = 3.5
"""Standard errors by which the slope of (a) may differ from 1."""


def bridge(f_q: ArrayLike, f_p: ArrayLike) -> LogZ:
    """log Z from f in nats at draws of q and of p.

    The standard error is that of equation (a), linearised at its root: the variance of its
    left side over independent draws, of its right side over correlated chains (`of_chains`).
    It is trusted when both sides rest on 20 effective draws or more, the slope of (a) agrees
    with the 1 that it has by theory, and f is not larger under q than under p.

    Args:
        f_q: [n], at independent exact draws of q.
        f_p: [chains, draws], at draws of p; chains independent of each other.

    Raises:
        InputError: a wrong shape, fewer than 2 draws of q or 4 of p, or a value not finite.
    """
    return bridge_or_contradiction(f_q, f_p)[0]


def bridge_or_contradiction(f_q: ArrayLike, f_p: ArrayLike) -> tuple[LogZ, bool]:
    """`bridge`, and whether it fails because the draws contradict each other, not for want of them.

    A contradiction leaves no estimate from these draws to be trusted, by any method.
    """
    q = over_q(f_q)
    p = finite_values("f_p", f_p, ("chains", "draws"), least=4)
    centre = float(np.median(q))
    q, p = q - centre, p - centre
    shift = float(np.log(of_chains(p).size / len(q)))
    c = _root(q, p.ravel(), shift)
    left, right = _relative(log_expit(q - c + shift)), _relative(log_expit(c - shift - p))
    slope, slope_error = _slope(left, expit(c - shift - q), right, expit(p - c + shift))
    side_q, side_p = of_independent(left), of_chains(right)
    error_q = side_q._replace(variance=side_q.variance / slope**2)
    error_p = side_p._replace(variance=side_p.variance / slope**2)
    half = half_width(error_q, error_p)
    size_q = side_q.size / float(np.mean(left**2))
    size_p = side_p.size / float(np.mean(right**2))
    overlap = float(np.mean(expit(q - c)) + np.mean(expit(c - p)))
    contradiction = _larger_under_q(q, p)
    scarcity = ""
    if min(size_q, size_p) < LEAST_SIZE:
        scarcity = (
            f"the overlap rests on {size_q:.1f} effective draws of q and {size_p:.1f} of p, fewer"
            f" than {LEAST_SIZE:.0f}; take more draws, or intermediate densities."
        )
    elif not contradiction and abs(slope - 1.0) > MOST_SLOPE * slope_error + 1e-9:
        contradiction = (
            f"the bridge equation has slope {slope:.3f} ± {slope_error:.3f} where 1 is due; the"
            " draws of p are not draws of exp(f) q: have the chains reached it?"
        )
    reason = contradiction or scarcity
    counted = f"{size_q:.0f} effective draws of q meet {size_p:.0f} of p, overlap {overlap:.2f}."
    log_z = c + centre
    estimate = LogZ(
        mean=log_z,
        standard_error=(error_q.variance + error_p.variance) ** 0.5,
        low=log_z - half,
        high=log_z + half,
        method="bridge",
        ess_q=size_q,
        ess_p=size_p,
        overlap=overlap,
        holds=not reason,
        words=f"{DISTRUST}{reason}" if reason else counted,
    )
    return estimate, bool(contradiction)


def _larger_under_q(q: Values, p: Values) -> str:
    """What to say if mean f is larger at `q` [n] than at `p` [chains, draws], else nothing.

    mean_p f - mean_q f = KL(p, q) + KL(q, p), so that only chance can make it negative.
    """
    gap = float(q.mean() - p.mean())
    if gap <= 1.5 * half_width(of_independent(q), of_chains(p)) + 1e-9:
        return ""
    return (
        f"f is larger under q than under p by {gap:.3g} nats, which no tilt does; are f_q and f_p"
        " swapped, or is the sign of f wrong?"
    )


def _root(q: Values, p: Values, shift: float) -> float:
    """The c that solves (a) for f at `q` [n] and `p` [m], shift = log(s_p / s_q)."""
    balance = shift + np.log(len(q) / len(p))

    def excess(c: float) -> float:
        left = np.asarray(logsumexp(log_expit(q - c + shift)))
        return float(left - np.asarray(logsumexp(log_expit(c - shift - p))) - balance)

    low, high = min(q.min(), p.min()), max(q.max(), p.max())
    if high - low < 1e-12:
        return float((low + high) / 2)
    margin = 1e-9 * (high - low)
    return float(brentq(excess, low - margin, high + margin, xtol=1e-10))  # pyright: ignore


def _relative(log_values: Values) -> Values:
    """exp(`log_values`) over its mean: the terms of one side of (a), 1 on average."""
    values = np.exp(log_values - log_values.max())
    return values / values.mean()


def _slope(left: Values, down: Values, right: Values, up: Values) -> tuple[float, float]:
    """Minus the slope of (a) in logarithms at its root, and its standard error.

    Args:
        left: [n], terms of the left side, 1 on average.
        down: [n], 1 - sigma at the draws of q.
        right: [chains, draws], terms of the right side, 1 on average.
        up: [chains, draws], sigma at the draws of p.
    """
    fall, rise = float(np.mean(left * down)), float(np.mean(right * up))
    slope = max(fall + rise, 1e-12)  # 0 where all f of q lie far above all f of p
    # Its derivative in c; the root moves with the draws, and the slope with the root.
    bend = np.mean(left * down * (1.0 - 2.0 * down)) + fall**2
    bend -= np.mean(right * up * (1.0 - 2.0 * up)) + rise**2
    drag = float(bend) / slope
    variance = of_independent(left * (down - fall + drag)).variance
    variance += of_chains(right * (up - rise - drag)).variance
    return slope, variance**0.5
