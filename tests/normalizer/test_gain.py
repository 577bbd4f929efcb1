"""The gain's interval counts both the test set and log Z, and examples rather than draws."""

import math

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.normalizer import Interval, LogZ, gain, interval_of_nll

RUNS, N, DRAWS = 2000, 100, 5
SE_Z = 0.15


def log_z(mean=0.0, error=SE_Z, holds=True):
    half = 1.959964 * error
    return LogZ(mean, error, mean - half, mean + half, "bridge", 500.0, holds=holds)


def experiments():
    """Test sets of true mean gain 2: example spread 1.2, dequantisation spread 2 within one."""
    rng = np.random.default_rng(0)
    example = 2.0 + 1.2 * rng.standard_normal((RUNS, N, 1))
    f = example + 2.0 * rng.standard_normal((RUNS, N, DRAWS))
    return f + 7.0, 7.0 + SE_Z * rng.standard_normal(RUNS)


def share(intervals, truth=2.0):
    return np.mean([interval.low <= truth <= interval.high for interval in intervals])


def test_the_interval_covers_with_both_parts_and_only_then():
    f, z = experiments()
    found = [gain(row, log_z(mean)) for row, mean in zip(f, z, strict=True)]
    assert 0.94 < share(found) < 0.965
    # Power: without the estimator's part, or with every noise draw taken for an example.
    assert share([gain(row, log_z(m, 0.0)) for row, m in zip(f, z, strict=True)]) < 0.92
    assert share([gain(row.ravel(), log_z(m, 0.0)) for row, m in zip(f, z, strict=True)]) < 0.88
    # Power: the sign of f.
    assert share([gain(-row, log_z(m)) for row, m in zip(f[:50], z, strict=False)]) == 0.0


def test_the_parts_add_in_squares():
    f, _ = experiments()
    found = gain(f[0], log_z(7.0))
    units = f[0].mean(axis=1)
    assert found.mean == pytest.approx(units.mean() - 7.0)
    assert found.se_test == pytest.approx(units.std(ddof=1) / N**0.5)
    assert found.se_estimator == SE_Z
    assert found.standard_error == pytest.approx(math.hypot(found.se_test, SE_Z))
    assert found.high - found.mean == pytest.approx(found.mean - found.low)


def test_nll_is_the_backbones_minus_the_gain():
    f, _ = experiments()
    backbone = 90.0 + np.random.default_rng(1).standard_normal(N)
    found = interval_of_nll(backbone, f[0], log_z(7.0))
    assert found.mean == pytest.approx(backbone.mean() - gain(f[0], log_z(7.0)).mean)


def test_nll_is_paired():
    rng = np.random.default_rng(0)
    hard = 20.0 * rng.standard_normal(N)
    paired = interval_of_nll(90 + hard, hard + rng.standard_normal(N), log_z())
    shuffled = interval_of_nll(90 + hard, rng.permutation(hard), log_z())
    assert paired.se_test < 0.2 < 1.0 < shuffled.se_test


def test_a_log_z_that_does_not_hold_is_handed_on():
    assert gain(np.arange(5.0), log_z()).holds
    assert not gain(np.arange(5.0), log_z(holds=False)).holds


def test_it_is_plain_values():
    found = gain(np.arange(5.0), log_z())
    assert Interval(**found.to_dict()) == found
    assert all(type(value) in (float, bool) for value in found.to_dict().values())


def test_inputs_are_checked():
    with pytest.raises(InputError, match=r"f_data has 1 of 6 .* \[1, 2\]"):
        gain([[0.0, 0.0, 0.0], [0.0, 0.0, np.nan]], log_z())
    with pytest.raises(InputError, match="1 example"):
        gain(np.zeros((1, 9)), log_z())
    with pytest.raises(InputError, match="nll has 4 examples and f_data has 5"):
        interval_of_nll(np.zeros(4), np.zeros(5), log_z())
