"""Chains against weighted draws, log Z against its two sides: right ones pass, wrong ones do not.

The tilt is a slope over N(0, I): the model is N(SLOPE, I), and log Z is |SLOPE|^2 / 2.
"""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.evaluation.cross_checks import against_weighted, between_sides
from tiltflow.normalizer import from_values

SLOPE = np.array([0.6, -0.3, 0.0])
LOG_Z = 0.5 * float(SLOPE @ SLOPE)


class Found:
    """As much of draws as is looked at."""

    def __init__(self, positions):
        self.positions = positions.astype(np.float32)


def draws(seed, chains=16, number=500):
    return SLOPE + np.random.default_rng(seed).normal(size=(chains, number, 3))


def weighted(seed, slope=SLOPE):
    """Exact draws of the backbone, and f there."""
    u = np.random.default_rng(seed + 50).normal(size=(4_096, 3))
    return u, u @ slope


def test_chains_that_draw_the_model_agree_with_weighted_draws():
    for seed in range(5):
        (check,) = against_weighted(Found(draws(seed)), *weighted(seed))
        assert check.ok
        assert check.part == "chains"


@pytest.mark.parametrize(
    "wrong",
    [lambda u: 1.1 * u, lambda u: np.minimum(u, 1.5), lambda u: u - 0.5 * SLOPE],
    ids=["too wide", "a part left out", "not there yet"],
)
def test_chains_that_draw_something_else_do_not(wrong):
    (check,) = against_weighted(Found(wrong(draws(0))), *weighted(0))
    assert not check.ok


def test_nothing_is_said_where_no_draw_reaches_the_model():
    assert against_weighted(Found(draws(0)), *weighted(0, 15 * SLOPE)) == []


def sides(seed):
    f_q = np.random.default_rng(seed).normal(size=(20_000, 3)) @ SLOPE
    return f_q, draws(seed + 100) @ SLOPE


def test_an_estimate_between_its_sides_passes_and_one_that_is_shifted_does_not():
    for seed in range(5):
        f_q, f_p = sides(seed)
        found = from_values(f_q, f_p)
        assert found.mean == pytest.approx(LOG_Z, abs=5 * found.standard_error)
        (check,) = between_sides(found, f_q, f_p)
        assert check.ok
        for shift in (0.3, -0.3):
            (check,) = between_sides(replace(found, mean=found.mean + shift), f_q, f_p)
            assert not check.ok
            assert check.severity == "failed"
