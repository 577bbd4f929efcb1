"""The best log Z that the draws at hand allow, checked against the second best."""

from __future__ import annotations

import math
from dataclasses import replace
from math import hypot

from numpy.typing import ArrayLike

from tiltflow.normalizer.bounds import Side, dealt, from_above, from_below
from tiltflow.normalizer.bridge import bridge_or_contradiction
from tiltflow.normalizer.estimate import DISTRUST, LogZ
from tiltflow.normalizer.importance import importance
from tiltflow.normalizer.rounding import step_of, within_rounding
from tiltflow.normalizer.values import finite_values, over_q

MOST_APART = 3.0
"""Joint standard errors by which two trusted estimates may differ."""
HIGHEST_K = 0.5
"""From here on the weights have no variance."""
HEAVY_K, MOSTLY = 0.6, 0.5
"""Weights that are heavier, where p and q overlap by more than that, are of tails."""


def from_values(f_q: ArrayLike, f_p: ArrayLike | None = None) -> LogZ:
    """log Z by importance sampling and, given draws of p, by bridge sampling.

    The bridge where it holds: it has the same draws of q and more, and at the optimum no larger
    an error (Meng and Wong 1996); the smaller of two estimated errors would be the luckier one.
    Where draws of p or overlap are wanting, the weights, if they hold. Where neither holds, or
    the bridge finds that the draws contradict each other, the bridge with the reason.

    Both use exact identities, so where both hold and yet differ by more than three joint
    standard errors, one set of draws is not what it is said to be and nothing holds. Weights
    with k-hat above 1/2 have no variance, hence no standard error, and are not heard.

    Args:
        f_q: [n], f in nats at independent exact draws of q.
        f_p: [chains, draws], f at draws of p, if there are any.

    Raises:
        InputError: a wrong shape, fewer than 2 draws of q or 4 of p, or a value not finite, but for
            -inf at draws of q, where p has no mass.
    """
    step = step_of(f_q, *(() if f_p is None else (f_p,)))
    return within_rounding(_from_values(f_q, f_p), step)


def _from_values(f_q: ArrayLike, f_p: ArrayLike | None) -> LogZ:
    by_weights = importance(f_q)
    below = from_below(dealt(over_q(f_q)))
    if f_p is None:
        return replace(by_weights, lower=below.bound)
    values_p = finite_values("f_p", f_p, ("chains", "draws"), least=4)
    found = _chosen(by_weights, *bridge_or_contradiction(f_q, f_p))
    if len(values_p) == 1:
        return replace(found, lower=below.bound, upper=math.nan)
    above = from_above(-values_p)
    if found.holds and _crossed(below, above):
        found = replace(found, holds=False, words=_crossing(below, above))
    return replace(found, lower=below.bound, upper=above.bound)


def _chosen(by_weights: LogZ, by_bridge: LogZ, contradicted: bool) -> LogZ:
    """Whichever holds, the bridge first."""
    if not by_bridge.holds:
        instead = by_weights.holds and not contradicted
        return _instead(by_weights, by_bridge) if instead else by_bridge
    if by_weights.holds and by_weights.pareto_k < HIGHEST_K and _apart(by_bridge, by_weights):
        return replace(by_bridge, holds=False, words=_disagreement(by_bridge, by_weights))
    if by_weights.pareto_k > HEAVY_K and by_bridge.overlap > MOSTLY:
        return replace(by_bridge, words=f"{by_bridge.words} {_of_tails(by_weights)}")
    return by_bridge


def _instead(by_weights: LogZ, by_bridge: LogZ) -> LogZ:
    """The weights' estimate, which says why the bridge is not used."""
    refused = by_bridge.words.removeprefix(DISTRUST)
    return replace(by_weights, words=f"{by_weights.words} No bridge to the draws of p: {refused}")


def _of_tails(by_weights: LogZ) -> str:
    return (
        f"Weights of the draws of q have k-hat {by_weights.pareto_k:.2f}, though p and q mostly "
        f"overlap: tails of p are heavier than those of q, and what no draw has met out there is "
        f"missing from log Z; transform heavy tails, or give the backbone units with power tails."
    )


def _crossed(below: Side, above: Side) -> bool:
    """Whether log Z from below exceeds that from above by more than chance and rounding allow."""
    error = hypot(below.standard_error, above.standard_error)
    return below.mean - above.mean > MOST_APART * error + 1e-6 * (1.0 + abs(above.mean))


def _crossing(below: Side, above: Side) -> str:
    return (
        f"{DISTRUST}log Z is {below.mean:.3f} ± {below.standard_error:.3f} from below and"
        f" {above.mean:.3f} ± {above.standard_error:.3f} from above; the chains have not reached p,"
        " or the draws of q are not exact."
    )


def _apart(a: LogZ, b: LogZ) -> bool:
    """Whether two estimates differ by more than chance and rounding allow."""
    error = hypot(a.standard_error, b.standard_error)
    return abs(a.mean - b.mean) > MOST_APART * error + 1e-9 * (1.0 + abs(a.mean))


def _disagreement(by_bridge: LogZ, by_weights: LogZ) -> str:
    return (
        f"{DISTRUST}bridge sampling says {by_bridge.mean:.3f} ±"
        f" {by_bridge.standard_error:.3f} and importance sampling {by_weights.mean:.3f} ±"
        f" {by_weights.standard_error:.3f}, more than {MOST_APART:.0f} joint standard errors"
        " apart; the chains have not reached p, or the draws of q are not exact."
    )
