"""The better of two estimates is taken, and their disagreement is said."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from closed_forms import Quadratic, calibrated, tilt
from scipy import stats

from tiltflow.errors import InputError
from tiltflow.normalizer import LogZ, from_values, importance

SEEDS, N = 200, 1000
NEAR, FAR = tilt(8, 1.2, 0.3, 0.1), tilt(64, 3.0, 0.5, 0.3)


@pytest.mark.parametrize("problem", [NEAR, FAR], ids=["near", "far"])
def test_the_chosen_interval_covers_the_truth(problem):
    rng = np.random.default_rng(0)
    f_q, f_p = problem.f_q(rng, SEEDS, N), problem.f_p(rng, SEEDS, 4, 250)
    found = [from_values(q, p) for q, p in zip(f_q, f_p, strict=True)]
    assert calibrated(found, problem.log_z)
    assert {estimate.method for estimate in found} == {"bridge"}
    wrong = [from_values(-q, -p) for q, p in zip(f_q[:20], f_p[:20], strict=True)]
    assert not calibrated(wrong, problem.log_z)
    assert not any(estimate.holds for estimate in wrong)


def test_draws_of_q_alone_are_importance_sampling():
    f_q = NEAR.f_q(np.random.default_rng(0), N)
    assert replace(from_values(f_q), lower=math.nan).to_dict() == importance(f_q).to_dict()
    assert from_values(f_q).holds
    assert not from_values(FAR.f_q(np.random.default_rng(0), N)).holds


def test_too_few_draws_of_p_leave_the_weights():
    rng = np.random.default_rng(0)
    found = from_values(NEAR.f_q(rng, N), NEAR.f_p(rng, 4, 3))
    assert (found.method, found.holds) == ("importance", True)
    assert "No bridge to the draws of p" in found.words


def test_where_nothing_holds_it_says_what_to_do():
    beyond = tilt(64, 8.0, 0.5, 0.3)
    rng = np.random.default_rng(0)
    found = from_values(beyond.f_q(rng, N), beyond.f_p(rng, 4, 250))
    assert not found.holds
    assert found.words.startswith("Do not trust this interval")
    assert "take more draws" in found.words


def test_estimates_that_disagree_do_not_hold(monkeypatch):
    """Chains of p that lag a little are seen by the bridge, and, were it blind, by the weights."""
    near = tilt(8, 1.2, 0.3)
    rng = np.random.default_rng(0)
    behind = Quadratic(0.8 * near.a, 0.8 * near.b)
    u = rng.standard_normal((4, 5000, 8)) / (1 + behind.b) ** 0.5 + behind.a / (1 + behind.b)
    f_q, f_p = near.f_q(rng, 20_000), near.f(u)
    found = from_values(f_q, f_p)
    assert not found.holds
    assert "slope" in found.words
    monkeypatch.setattr(sys.modules["tiltflow.normalizer.bridge"], "MOST_SLOPE", np.inf)
    found = from_values(f_q, f_p)
    assert not found.holds
    assert "joint standard errors apart" in found.words
    assert from_values(f_q, near.f_p(rng, 4, 5000)).holds  # power: without the lag
    # Nor would both be needed: chains that lag put log Z from above below that from below.
    monkeypatch.setattr(sys.modules["tiltflow.normalizer.from_values"], "HIGHEST_K", -np.inf)
    found = from_values(f_q, f_p)
    assert not found.holds
    assert "from below" in found.words
    assert found.lower > found.upper
    assert from_values(f_q, near.f_p(rng, 4, 5000)).holds


def test_it_goes_through_json():
    rng = np.random.default_rng(0)
    for found in (from_values(NEAR.f_q(rng, N)), from_values(np.zeros(10))):
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert json.loads(text)["ess_p"] is None
        assert LogZ.from_dict(json.loads(text)).to_dict() == found.to_dict()


def test_values_that_are_not_finite_are_named():
    with pytest.raises(InputError, match="f_p has 4 of 20"):
        from_values(np.zeros(20), np.where(np.arange(20) < 4, np.nan, 0.0).reshape(4, 5))


def test_f_of_minus_infinity_is_the_nothing_that_it_is():
    """Half of a normal, tilted: log Z = log E[exp(0.3 u); u > 0]."""
    rng, slope = np.random.default_rng(6), 0.3
    u = rng.standard_normal((40, 4_000))
    f_q = np.where(u > 0, slope * u, -np.inf).astype(np.float32)
    truth = 0.5 * slope**2 + math.log(0.5 * math.erfc(-slope / math.sqrt(2)))
    inside = rng.standard_normal((40, 4, 4_000)) + slope
    f_p = [slope * row[row > 0][:8_000].reshape(4, -1) for row in inside]
    for found in (
        [from_values(q, p) for q, p in zip(f_q, f_p, strict=True)],
        [importance(q) for q in f_q],
    ):
        assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.85
        assert all(one.holds for one in found)
    dropped = [importance(q[np.isfinite(q)]) for q in f_q]  # power
    assert not any(one.low <= truth <= one.high for one in dropped)
    with pytest.raises(InputError, match="f_q is -inf at all 10 draws of q"):
        importance(np.full(10, -np.inf))
    with pytest.raises(InputError, match="not finite"):
        importance(np.array([0.0, np.nan, -np.inf]))


def test_tails_that_are_heavier_than_those_of_q_are_told():
    """A Student t with 2 degrees over a normal density; and power: the other way about."""
    rng = np.random.default_rng(7)
    normal, heavy = rng.standard_normal(20_000), rng.standard_t(2, size=(8, 2_500))

    def f(x):
        return stats.t.logpdf(x, 2) - stats.norm.logpdf(x)

    assert "tails of p are heavier" in from_values(f(normal), f(heavy)).words
    light = from_values(-f(heavy.ravel()), -f(normal.reshape(8, -1)))
    assert light.holds
    assert "tails" not in light.words
    f_q, f_p = NEAR.f_q(rng, 5_000), NEAR.f_p(rng, 4, 2_000)
    assert "tails" not in from_values(f_q, f_p).words
