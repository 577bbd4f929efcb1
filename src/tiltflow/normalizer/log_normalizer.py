"""The best log Z that the draws at hand allow, checked against the second best."""

from __future__ import annotations

from dataclasses import replace
from math import hypot

from numpy.typing import ArrayLike

from tiltflow.normalizer.bridge import bridge
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.importance import importance

MOST_APART = 3.0
"""Joint standard errors by which two trusted estimates may differ."""


def log_normalizer(f_q: ArrayLike, f_p: ArrayLike | None = None) -> LogZ:
    """log Z by importance sampling and, given draws of p, by bridge sampling.

    Of the estimates that hold, the one with the smallest standard error. It stops holding if
    another that holds differs by more than three joint standard errors: both use exact
    identities, so one set of draws is not what it is said to be. Where none holds, the bridge
    (or the only estimate) is returned with `holds=False` and the reason.

    Args:
        f_q: [n], f in nats at independent exact draws of q.
        f_p: [chains, draws], f at draws of p, if there are any.

    Raises:
        InputError: a wrong shape, fewer than 2 values, or a value that is not finite.
    """
    by_weights = importance(f_q)
    if f_p is None:
        return by_weights
    by_bridge = bridge(f_q, f_p)
    trusted = [estimate for estimate in (by_bridge, by_weights) if estimate.holds]
    if not trusted:
        return by_bridge
    best = min(trusted, key=lambda estimate: estimate.standard_error)
    if len(trusted) == 2 and _apart(by_bridge, by_weights):
        return replace(best, holds=False, words=_disagreement(by_bridge, by_weights))
    if not by_bridge.holds:
        return replace(best, words=f"{best.words} The bridge was set aside: {by_bridge.words}")
    return best


def _apart(a: LogZ, b: LogZ) -> bool:
    """Whether two estimates differ by more than chance and rounding allow."""
    error = hypot(a.standard_error, b.standard_error)
    return abs(a.mean - b.mean) > MOST_APART * error + 1e-9 * (1.0 + abs(a.mean))


def _disagreement(by_bridge: LogZ, by_weights: LogZ) -> str:
    return (
        f"Do not trust this interval: bridge sampling says {by_bridge.mean:.3f} ±"
        f" {by_bridge.standard_error:.3f} and importance sampling {by_weights.mean:.3f} ±"
        f" {by_weights.standard_error:.3f}, more than {MOST_APART:.0f} joint standard errors"
        " apart; the chains have not reached p, or the draws of q are not exact."
    )
