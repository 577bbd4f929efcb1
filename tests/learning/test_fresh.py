"""Chains started afresh notice particles that are not where f is, and learning begins again."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.learning import Rows, TiltSettings, fit_tilt, population, stages
from tiltflow.learning.fresh import FreshLook, look
from tiltflow.learning.particles import Particles
from tiltflow.learning.renewal import RenewedLook
from tiltflow.learning.stages import STAGES
from tiltflow.tilts import MLPTilt

DIM, CHAINS = 4, 64
SLOPE = jnp.asarray([1.5, 0.0, 0.0, 0.0])


class Slope(MLPTilt):
    """f(c) = SLOPE . c over N(0, I): the tilted model is N(SLOPE, I), and E f = |SLOPE|^2."""

    def __call__(self, c, key=None):
        return SLOPE @ c - self.level


@pytest.fixture(scope="module")
def backbone():
    x = np.random.default_rng(0).normal(size=(500, DIM)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))


def particles(backbone, mean, number=400):
    u = mean + jr.normal(jr.key(1), (number, DIM))
    tilt = Slope(DIM, key=jr.key(2))
    y = jax.vmap(backbone.coordinates)(u)
    return tilt, Particles(u, y, jax.vmap(tilt)(y), jnp.asarray(0.3))


def seen(backbone, mean, transitions=40) -> FreshLook:
    tilt, there = particles(backbone, mean)
    return look(
        jr.key(3), backbone, tilt, there, chains=CHAINS, transitions=transitions, leapfrogs=5
    )


def test_particles_in_equilibrium_agree_with_fresh_chains_and_others_do_not(backbone):
    """An untrained coupling flow is the identity, so that latent points are coordinates."""
    there = seen(backbone, SLOPE)
    assert abs(there.gap) < 4.5 * there.error
    assert not there.differs
    behind = seen(backbone, 0.0 * SLOPE)
    assert behind.differs
    assert behind.gap == pytest.approx(float(SLOPE @ SLOPE), abs=4.5 * behind.error)
    ahead = seen(backbone, 2.0 * SLOPE)
    assert ahead.differs
    assert ahead.gap == pytest.approx(-float(SLOPE @ SLOPE), abs=4.5 * ahead.error)


def test_chains_that_still_rise_do_not_accuse_those_ahead():
    there = Particles(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros(4), jnp.asarray(0.1))
    assert not FreshLook(there, gap=-2.0, error=0.1, rise=0.8).differs
    assert FreshLook(there, gap=-2.0, error=0.1, rise=0.1).differs
    assert FreshLook(there, gap=2.0, error=0.1, rise=0.8).differs


def test_a_gain_that_replicas_do_not_confirm_differs_even_where_mean_f_agrees():
    there = Particles(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros(4), jnp.asarray(0.1))
    right = RenewedLook(there, gap=0.1, error=0.1, rise=0.0, log_z=-3.0, excess=0.2)
    assert not right.differs
    wrong = replace(right, excess=0.8)
    assert wrong.differs
    assert "a gain -0.80 nats from what learning told" in wrong.why


def test_both_halves_begin_again_from_chains_of_their_own(backbone):
    found = seen(backbone, 0.0 * SLOPE)
    new = found.instead_of(particles(backbone, SLOPE)[1])
    assert len(new.f) == 400
    learners, witnesses = (
        {tuple(row) for row in np.asarray(new.u[half])} for half in (slice(0, 200), slice(200, 400))
    )
    assert len(learners) == len(witnesses) == CHAINS // 2
    assert not learners & witnesses


QUICK = TiltSettings(  # sizes as in test_renewal.py, whose programs serve here, too
    steps=300, particles=128, batch_data=128, batch_particles=64, rate=2e-3, leapfrogs=4,
    share_end=0.98, judge_every=1, patience=100, bank=5_000, fresh_every=2, fresh_chains=32,
    fresh_transitions=20,
)  # fmt: skip


def learned(backbone):
    """The events of a short fit that begins with a steep tilt."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2_000, DIM)), jnp.float32)
    rows = Rows(x, backbone.units, integers=False)
    tilt = MLPTilt(DIM, width=32, key=jr.key(5))
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, replace_fn=lambda w: w + 0.25)
    told = []
    fit_tilt(
        backbone, tilt, rows, rows, QUICK, key=jr.key(6),
        listen=lambda phase, event, **fields: told.append((event, fields)),
    )  # fmt: skip
    looks = [fields for event, fields in told if event == "fresh"]
    begun = [f for event, f in told if event == "health" and f["action"].startswith("begin again")]
    return looks, begun


@pytest.mark.slow  # its twin: a lag leads to a look, in test_renewal.py
def test_learning_says_when_its_particles_lag_and_begins_again(backbone, monkeypatch):
    monkeypatch.setattr(stages, "FALLS", math.inf)  # there is nothing to learn: it would end
    looks, begun = learned(backbone)
    assert len(looks) >= 2
    assert not begun
    assert all(abs(f["gain_fresh"] - f["gain_val"]) < 0.5 for f in looks if f["holds"])

    @eqx.filter_jit
    def cornered(state):
        u = -1.5 + 0.3 * jr.normal(jr.key(8), state.particles.u.shape)
        y = jax.vmap(backbone.coordinates)(u)
        there = Particles(u, y, jax.vmap(state.tilt)(y), state.particles.step_size)
        return eqx.tree_at(lambda s: s.particles, state, there)

    def stuck(state, *rest):
        """A stage that learns, and leaves its particles in a corner."""
        new, info = population.stage(state, *rest)
        return cornered(new), info

    monkeypatch.setitem(STAGES, "population", stuck)
    looks, begun = learned(backbone)
    assert len(begun) >= 1
    assert "chains started afresh have a mean f" in begun[0]["why"]
    assert looks[0]["gap"] > 0.5


@pytest.mark.parametrize("wrong", [{"fresh_every": -1}, {"fresh_chains": 3}, {"fresh_chains": 2}])
def test_settings_of_the_looks_are_checked(wrong):
    with pytest.raises(InputError, match="fresh_every is"):
        replace(QUICK, **wrong).check()
