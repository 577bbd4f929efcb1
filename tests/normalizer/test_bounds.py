"""Bounds from either side bound with the confidence that they have, in closed form."""

import numpy as np
import pytest

from tiltflow.normalizer.bounds import Side, dealt, from_above, from_below

SEEDS, GROUPS, SPREAD = 400, 16, 0.5


def sides() -> list[tuple[Side, Side]]:
    """Estimates exp(N(-s^2 / 2, s^2)) of Z = 1 and of 1 / Z, 20 in each of 16 groups."""
    logs = np.random.default_rng(0).normal(size=(SEEDS, 2, GROUPS, 20)) * SPREAD - SPREAD**2 / 2
    return [(from_below(below), from_above(above)) for below, above in logs]


def check_bounds(found: list[tuple[Side, Side]]) -> None:
    """Each misses log Z = 0 in at most 2.5%, within 4 standard errors, and lies near it."""
    for signed in (
        np.array([below.bound for below, _ in found]),
        -np.array([above.bound for _, above in found]),
    ):
        assert np.mean(signed > 0) < 0.025 + 4 * np.sqrt(0.025 * 0.975 / SEEDS)
        assert -0.2 < signed.mean() < 0.0


def test_bounds_bound_with_the_confidence_that_they_have():
    found = sides()
    check_bounds(found)
    with pytest.raises(AssertionError):  # power: the two exchanged
        check_bounds([(above, below) for below, above in found])
    inside = [(b._replace(bound=b.mean + b.standard_error), a) for b, a in found]
    with pytest.raises(AssertionError):  # power: moved inwards
        check_bounds(inside)


def test_means_and_errors_are_those_of_the_estimates():
    for which in (0, 1):
        means = np.array([pair[which].mean for pair in sides()])
        told = np.mean([pair[which].standard_error for pair in sides()])
        assert abs(means.mean()) < 4 * means.std() / np.sqrt(SEEDS) + told**2
        assert told / means.std() == pytest.approx(1.0, abs=0.15)


def test_what_is_not_finite_bounds_nothing():
    logs = np.zeros((4, 5))
    logs[1, 2] = np.nan
    assert np.isnan(from_above(logs)).all()
    assert dealt(np.arange(10.0), 4).shape == (4, 2)
