"""The compiled bridge agrees with the other one, in float32, with weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_forms import Quadratic, tilt

from tiltflow.normalizer import bridge
from tiltflow.normalizer.running import bridge_jax

N = 2000
PROBLEM = tilt(8, 3.0, 2.0, 0.4)


def running(f_q, f_p, log_w=None):
    log_w = np.zeros(len(f_p)) if log_w is None else log_w
    arrays = (jnp.asarray(values, jnp.float32) for values in (f_q, f_p, log_w))
    return [float(value) for value in jax.jit(bridge_jax)(*arrays)]


def draws():
    rng = np.random.default_rng(0)
    return PROBLEM.f_q(rng, N), PROBLEM.f_p(rng, N)


def test_it_is_the_bridge():
    f_q, f_p = draws()
    log_z, ess_q, ess_p = running(f_q, f_p)
    reference = bridge(f_q, f_p[:, None])
    assert log_z == pytest.approx(reference.mean, abs=1e-4)
    assert ess_q == pytest.approx(reference.ess_q, rel=1e-3)
    assert ess_p == pytest.approx(reference.ess_p, rel=1e-2)
    assert abs(log_z - PROBLEM.log_z) < 3 * reference.standard_error
    # Power: the sign of f, and swapped arguments (with as many draws each, a bridge is symmetric).
    assert abs(running(-f_q, -f_p)[0] - PROBLEM.log_z) > 10 * reference.standard_error
    assert abs(running(f_p[:200], f_q)[0] - PROBLEM.log_z) > 10 * reference.standard_error


def test_weights_correct_draws_of_another_tilt():
    behind = Quadratic(0.8 * PROBLEM.a, 0.8 * PROBLEM.b)
    rng = np.random.default_rng(0)
    u = rng.standard_normal((N, 8)) / (1 + behind.b) ** 0.5 + behind.a / (1 + behind.b)
    f_q, f_p, log_w = PROBLEM.f_q(rng, N), PROBLEM.f(u), PROBLEM.f(u) - behind.f(u)
    weighted = running(f_q, f_p, log_w)
    error = bridge(f_q, f_p[:, None]).standard_error
    assert abs(weighted[0] - PROBLEM.log_z) < 4 * error
    assert abs(running(f_q, f_p)[0] - PROBLEM.log_z) > 8 * error  # power: weights forgotten
    assert weighted[0] == pytest.approx(running(f_q, f_p, log_w - 500.0)[0], abs=1e-3)


def test_a_draw_of_no_weight_is_no_draw():
    f_q, f_p = draws()
    log_w = np.where(np.arange(N) < N // 2, 0.0, -np.inf)
    assert running(f_q, f_p, log_w) == pytest.approx(running(f_q, f_p[: N // 2]), rel=1e-4)


@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_the_level_costs_only_float32s_own_rounding(level):
    f_q, f_p = draws()
    shifted = running(f_q + level, f_p + level)
    assert shifted[0] - level == pytest.approx(running(f_q, f_p)[0], abs=3e-3)


def test_no_tilt_and_no_overlap_are_finite():
    assert running(np.full(N, 3.5), np.full(N, 3.5)) == pytest.approx([3.5, N, N], rel=1e-5)
    rng = np.random.default_rng(0)
    apart = running(rng.normal(-1e4, 30, N), rng.normal(1e4, 30, N))
    assert np.isfinite(apart).all()
    assert max(apart[1:]) < 5


def test_nan_in_is_nan_out():
    f_q, f_p = draws()
    f_q[3] = np.nan
    assert np.isnan(running(f_q, f_p)[0])
