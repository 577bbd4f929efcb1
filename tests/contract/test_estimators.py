"""The contract that every estimator of log Z from values of f goes through.

An estimator takes f at draws of a closed-form problem and returns a `LogZ`. Its 95% interval has
to cover the truth about that often, over seeds, and hold; a constant added to f is added to log Z
and to nothing else; values that are not finite are named; and it survives being written down.
Broken ones fail: an error of half its size, an f of the wrong sign, draws that are not p's.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.normalizer import LogZ, bridge, from_values, importance
from tiltflow.normalizer.from_replicas import from_replicas

SEEDS = 60
BETAS = np.array([0.0, 0.3, 0.6, 1.0])
A, B = np.full(4, 0.8), np.linspace(0.6, -0.1, 4)  # f(u) = a.u - u.(b u)/2 over u ~ N(0, I)
LOG_Z = float(np.sum(A**2 / (1 + B) - np.log(1 + B)) / 2)
CHAINS, DRAWS = 16, 40


class Values(NamedTuple):
    """f at draws of q, `[n]`; of p, `[chains, draws]`; at all rungs, `[chains, draws, rungs]`."""

    q: np.ndarray
    p: np.ndarray
    rungs: np.ndarray


def values(seed: int, last: float = 1.0) -> Values:
    """f at exact draws of every rung; those of p are in truth draws of beta = `last`."""
    rng = np.random.default_rng(seed)

    def at(beta, *shape):
        noise = rng.standard_normal((*shape, len(A)))
        u = beta * A / (1 + beta * B) + noise / np.sqrt(1 + beta * B)
        return u @ A - (u * u) @ B / 2

    rungs = [at(beta, CHAINS, DRAWS) for beta in (*BETAS[:-1], last)]
    return Values(at(0.0, 800), rungs[-1], np.stack(rungs, axis=-1))


ESTIMATORS = {
    "importance": lambda f: importance(f.q),
    "bridge": lambda f: bridge(f.q, f.p),
    "from values": lambda f: from_values(f.q, f.p),
    "from replicas": lambda f: from_replicas(BETAS, f.rungs),
}
every = pytest.mark.parametrize("name", ESTIMATORS)
of_p = pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "importance"])


def check_covers(estimates: list[LogZ]) -> None:
    """Of 60 intervals of 95%, 52 to 60 cover: fewer have a probability below 0.5%."""
    assert sum(found.low <= LOG_Z <= found.high for found in estimates) >= 52
    assert sum(found.holds for found in estimates) >= 50
    assert abs(np.mean([found.mean for found in estimates]) - LOG_Z) < 0.05


@every
def test_intervals_cover_the_truth_and_broken_ones_do_not(name):
    estimates = [ESTIMATORS[name](values(seed)) for seed in range(SEEDS)]
    check_covers(estimates)
    # And they are not wide for nothing: half of the width would not cover.
    halved = [
        replace(found, low=(found.low + found.mean) / 2, high=(found.high + found.mean) / 2)
        for found in estimates
    ]
    with pytest.raises(AssertionError):
        check_covers(halved)
    wrong_sign = [ESTIMATORS[name](Values(*(-f for f in values(seed)))) for seed in range(20)]
    with pytest.raises(AssertionError):
        check_covers(wrong_sign * 3)


@of_p
def test_draws_that_are_not_of_p_do_not_hold_or_do_not_cover(name):
    lagging = [ESTIMATORS[name](values(seed, last=0.4)) for seed in range(20)]
    with pytest.raises(AssertionError):
        check_covers(lagging * 3)


@every
@pytest.mark.parametrize("constant", [-1e4, 1e4])
def test_a_constant_in_f_is_one_in_log_z(name, constant):
    f = values(0)
    plain = ESTIMATORS[name](f)
    shifted = ESTIMATORS[name](Values(*(array + constant for array in f)))
    assert shifted.mean - plain.mean == pytest.approx(constant, abs=1e-4)
    assert shifted.standard_error == pytest.approx(plain.standard_error, rel=1e-3)
    assert shifted.holds == plain.holds


@every
def test_values_that_are_not_finite_are_named(name):
    f = values(0)
    for array in f:
        array.flat[3] = np.nan
    with pytest.raises(InputError, match="nan"):
        ESTIMATORS[name](f)


@every
def test_an_estimate_can_be_written_down(name):
    found = ESTIMATORS[name](values(1))
    assert LogZ.from_dict(found.to_dict()).to_dict() == found.to_dict()
    assert found.words
