"""A judgement takes the witnesses' annealing weights into account: without them lag would lie."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from exact_particles import exact

from tiltflow.backbones import CouplingFlow, Pushforward, fit_units
from tiltflow.backbones.units.scale import identity
from tiltflow.learning.particles import log_mean_exp
from tiltflow.learning.rows import Rows
from tiltflow.learning.start import Start, as_particles
from tiltflow.learning.state import LearnerState, TiltSettings, banked
from tiltflow.learning.witnesses import Judge, anchored, moved_on
from tiltflow.tilts import MLPTilt

SETTINGS = TiltSettings(bank=20_000)


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
    judge = Judge.gather(backbone, rows, rows, SETTINGS, tilt, particles, key=jr.key(4))
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


def along(length):
    """f(y) = a.y with |a| = `length`, over N(0, I): log Z is half its square."""
    weight = jnp.asarray([length, 0.0])
    tilt = MLPTilt(2, width=2, depth=0, key=jr.key(5))
    return eqx.tree_at(lambda t: t.layers[-1].weight, tilt, weight[None])


def state_at(length: float) -> LearnerState:
    """A learner whose 4,096 particles are exact draws of its tilted normal distribution."""
    normal = Pushforward(identity((2,)), lambda u: u, (2,))
    tilt = along(length)
    u = jr.normal(jr.key(int(length)), (4_096, 2)) + jnp.asarray([length, 0.0])
    particles = as_particles(Start(u, jnp.zeros(()), jnp.asarray(0.5)), normal, tilt)
    zero = jnp.asarray(0)
    log_weights = jnp.zeros(len(u))
    return LearnerState(tilt, tilt, None, particles, log_weights, zero, zero, zero, zero)


def gains_along_the_way(moving: bool) -> np.ndarray:
    """log Z as judged at |a| = 1, 2, ..., 9, from 2,048 exact witnesses at each."""
    normal = Pushforward(identity((2,)), lambda u: u, (2,))
    rows = Rows(jnp.zeros((4, 2)), normal.units, False)
    first = state_at(0.0).particles
    judge = Judge.gather(normal, rows, rows, SETTINGS, along(0.0), first, key=jr.key(6))
    found = []
    for length in range(1, 10):
        state = state_at(float(length))
        judgement = judge.judge(state.tilt, state)
        found.append(float(judgement.log_z + judgement.level))
        judge = moved_on(judge, state, judgement) if moving else judge
    return np.asarray(found)


def test_gains_of_many_nats_are_followed_by_anchors_that_move():
    """To 40 nats; from the backbone alone the bridge ends far short."""
    truth = 0.5 * np.arange(1, 10) ** 2
    np.testing.assert_allclose(gains_along_the_way(moving=True), truth, atol=0.4)
    assert np.max(np.abs(gains_along_the_way(moving=False) - truth)) > 0.5  # power


def test_an_anchor_that_tells_log_z_wrong_is_found_out_by_the_bank():
    """At |a| = 6 the bank is out of reach, and E_q f = 0 still bounds log Z = 18 from below."""
    normal = Pushforward(identity((2,)), lambda u: u, (2,))
    rows = Rows(jnp.zeros((4, 2)), normal.units, False)
    near, here = state_at(5.0), state_at(6.0)
    judge = Judge.gather(normal, rows, rows, SETTINGS, here.tilt, here.particles, key=jr.key(6))
    right = judge.at(near.tilt, near.particles, jnp.asarray(12.5))
    wrong = judge.at(near.tilt, near.particles, jnp.asarray(12.5 - 26.0))
    assert bool(right.judge(here.tilt, here).holds)
    assert not bool(wrong.judge(here.tilt, here).holds)


def test_weights_that_are_given_up_stay_in_the_running_log_z(lagging):
    """New particles carry none: what the old ones told of log Z is put into it first."""
    judge, tilt, state, truth = lagging

    def running(state):
        judgement = judge.judge(tilt, state)
        return float(judgement.running + judgement.level)

    kept = banked(state)
    assert not np.any(kept.log_weights)
    assert running(kept) == pytest.approx(running(state), abs=1e-4)
    lost = eqx.tree_at(lambda s: s.log_weights, state, jnp.zeros_like(state.log_weights))
    assert abs(running(lost) - truth) > 0.2  # power
