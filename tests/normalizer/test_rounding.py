"""Intervals know in what steps f was told."""

import numpy as np

from tiltflow.normalizer.from_values import from_values
from tiltflow.normalizer.rounding import COARSE, step_of


def found(constant, kind):
    """log Z of f = u - 1/2 + `constant` over N(0, 1), which is `constant`, in a float type."""
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=20_000), 1 + rng.normal(size=(4, 2_000))
    return from_values(*((u - 0.5 + constant).astype(kind) for u in (q, p)))


def test_small_values_are_told_as_before():
    plain, wide = found(0.0, np.float32), found(0.0, np.float64)
    assert plain.holds
    assert abs(plain.mean - wide.mean) < 1e-5
    assert plain.high - plain.low < 1.01 * (wide.high - wide.low)


def test_steps_of_a_hundredth_widen_the_interval():
    constant = 1e5
    there = found(constant, np.float32)
    step = step_of(np.float32(constant))
    assert 0.005 < step < COARSE
    assert there.holds
    assert there.high - there.low > step
    assert there.low < constant < there.high


def test_a_constant_of_millions_does_not_hold():
    there = found(3e6, np.float32)
    assert not there.holds
    assert "in steps of 0.25 nats; subtract a constant" in there.words
    assert there.low < 3e6 < there.high


def test_of_doubles_it_does():
    """Power: it is the type that tells, not the size."""
    there = found(3e6, np.float64)
    assert there.holds
    assert there.low < 3e6 < there.high
    assert there.high - there.low < 0.1


def test_steps_are_those_of_the_largest_value():
    assert step_of(np.float32([1.0, -3e6]), np.float32(1.0)) == 0.25
    assert step_of(np.array([10**9])) == 0.0
    assert step_of([]) == 0.0
