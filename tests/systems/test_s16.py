"""i-SIR draws the target where its weights are exp(l - log q), and only there."""

import numpy as np
import pytest

from tiltflow.mcmc import ISIR
from tiltflow.model.tilted import TiltedModel

DIM, DRAWS = 4, 300


@pytest.mark.parametrize("forgets_q", [False, True])
def test_isir_over_the_exact_flow(recipe, forgets_q):
    s16 = recipe("s16")
    covariance, exact = s16.target(DIM)
    model = s16.model_of(exact, covariance)
    if forgets_q:  # the twin: weights exp(l), so that what is drawn is exp(l) q
        model = TiltedModel(model.backbone, model.tilt.log_density)
    x = s16.drawn(model, exact, ISIR(proposals=8), DRAWS, seed=0)
    independent = np.random.default_rng(0).standard_normal((32 * DRAWS, DIM)) @ exact.T
    floor = s16.distance(independent, covariance)[0]
    assert (s16.distance(x, covariance)[0] < 2 * floor) != forgets_q


def test_the_distance_sees_a_wrong_covariance(recipe):
    s16 = recipe("s16")
    covariance, exact = s16.target(DIM)
    x = np.random.default_rng(1).standard_normal((10_000, DIM)) @ exact.T
    assert s16.distance(x, covariance)[0] < 0.02
    ks, spread = s16.distance(1.2 * x, covariance)
    assert ks > 0.03
    assert abs(spread - 2 * np.log(1.2)) < 0.05
    assert np.isclose(np.trace(covariance), np.geomspace(0.1, 10, 4).sum())


@pytest.mark.slow
def test_both_halves(recipe):
    ks, floor = recipe("s16").linear(16, (0.5, 0.2), 400, seed=0)
    assert ks["isir", 0.5] < 1.5 * floor
    assert ks["isir", 0.2] > 3 * ks["hmc", 0.2]
    assert ks["mixture", 0.2] < 2 * ks["hmc", 0.2]
