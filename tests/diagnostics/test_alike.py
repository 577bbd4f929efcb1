"""Chains that do the same count as few; chains of their own, however slow, pass."""

import numpy as np
import pytest
from scipy.signal import lfilter

from tiltflow.diagnostics.alike import alike, most_alike
from tiltflow.diagnostics.convergence import rhat

CHAINS, DRAWS = 16, 400


def slow(seed, chains=CHAINS, memory=0.8):
    """Autoregressive chains of their own, stationary from the start."""
    noise = np.random.default_rng(seed).normal(size=(chains, DRAWS + 100))
    return lfilter([1.0], [1.0, -memory], noise, axis=1)[:, 100:]


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.95])
def test_independent_chains_pass(memory):
    for seed in range(10):
        found = alike(slow(seed, memory=memory))
        assert found.check().ok
        assert 0.2 < found.ratio < 2.0 if memory < 0.9 else found.ratio < 6.0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_chains_that_move_together_do_not_though_they_agree(share):
    """Copies of one, and chains of which half of the variance is shared."""
    together = np.sqrt(1 - share) * slow(0, 1) + np.sqrt(share) * slow(1)
    assert rhat(together) < 1.03
    found = alike(together)
    assert found.ratio == pytest.approx(CHAINS * (1 - share) + share, rel=0.3)
    assert not found.check().ok
    assert most_alike(slow(2), together) == found


def test_nothing_is_said_of_what_does_not_move_or_is_too_short():
    assert alike(np.ones((4, 50))) is None
    assert alike(slow(0)[:, :5]) is None
    assert most_alike(np.ones((4, 50))) is None
