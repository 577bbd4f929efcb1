"""A judgement takes the witnesses' annealing weights into account: without them lag would lie."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning.particles import exact, log_mean_exp
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState
from tiltflow.learning.witnesses import Judge, anchored
from tiltflow.tilts import MLPTilt


@pytest.fixture(scope="module")
def lagging():
    """Witnesses that have not moved at all: draws of q under a tilt that is no longer 0."""
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    backbone = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    rows = Rows(jnp.asarray(x), units, False)
    tilt = MLPTilt(2, width=16, key=jr.key(1))
    weights = 2.0 * jr.normal(jr.key(2), tilt.layers[-1].weight.shape)
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, weights)
    particles = exact(jr.key(3), backbone, 8_192, 0.5)
    f = jax.vmap(tilt)(particles.y)
    particles = eqx.tree_at(lambda p: p.f, particles, f)
    zero = jnp.asarray(0)
    state = LearnerState(tilt, tilt, None, particles, f, *[jnp.zeros(())] * 2, zero, zero)
    judge = Judge.gather(backbone, rows, rows, 20_000, key=jr.key(4))
    return judge, tilt, state, float(log_mean_exp(jax.vmap(tilt)(judge.bank)))


def check_log_z(judgement, truth):
    assert float(judgement.log_z + judgement.level) == pytest.approx(truth, abs=0.05)


def test_weighted_witnesses_give_log_z(lagging):
    judge, tilt, state, truth = lagging
    check_log_z(judge.judge(tilt, state), truth)


def test_the_check_has_power_against_witnesses_without_their_weights(lagging):
    judge, tilt, state, truth = lagging
    forgotten = eqx.tree_at(lambda s: s.log_weights, state, jnp.zeros_like(state.log_weights))
    with pytest.raises(AssertionError):
        check_log_z(judge.judge(tilt, forgotten), truth)


def test_the_running_log_z_is_what_it_was_anchored_to(lagging):
    judge, tilt, state, truth = lagging
    judgement = judge.judge(tilt, state)
    assert float(judgement.running + judgement.level) == pytest.approx(truth, abs=0.1)
    told = judge.judge(tilt, anchored(state, judgement))
    assert float(told.running) == pytest.approx(float(judgement.log_z), abs=1e-4)
