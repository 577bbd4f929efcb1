"""Particles made anew come from the whole model, whatever the old ones had lost."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError, Interrupted
from tiltflow.learning import Rows, TiltSettings, fit_tilt, population
from tiltflow.learning import renewal as of_renewal
from tiltflow.learning.fresh import look
from tiltflow.learning.keeping import KeepsNothing
from tiltflow.learning.particles import Particles, agreement
from tiltflow.learning.renewal import renew, renewed, widening
from tiltflow.learning.stages import STAGES
from tiltflow.mcmc.draws import over_chains
from tiltflow.tilts import MLPTilt

DIM, SHARE = 4, 0.25
PLACES = jnp.asarray([-3.0, 3.0])
HOW = {"replicas": 6, "chains": 32, "transitions": 400, "leapfrogs": 5}


class Parted(MLPTilt):
    """p has two narrow parts, 6 apart, a quarter and three quarters of it; log Z = 0.

    f(c) = log p(c_0) - log N(c_0): the valley between is 16 nats deep.
    """

    def __call__(self, c, key=None):
        parts = jnp.log(jnp.asarray([SHARE, 1 - SHARE])) - 2 * (c[0] - PLACES) ** 2
        return jax.nn.logsumexp(parts) + jnp.log(2.0) + 0.5 * c[0] ** 2 - self.level


@pytest.fixture(scope="module")
def backbone():
    x = np.random.default_rng(0).normal(size=(500, DIM)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))


@pytest.fixture(scope="module")
def found(backbone):
    tilt = Parted(DIM, key=jr.key(1))
    return tilt, renew(jr.key(2), backbone, tilt, 512, jnp.asarray(0.2), **HOW)


def test_both_parts_have_their_shares_and_log_z_its_value(found):
    _, renewal = found
    assert renewal.log_z.holds
    assert abs(renewal.log_z.mean) < 4 * renewal.log_z.standard_error
    assert renewal.log_z.standard_error < 0.15
    assert renewal.f.shape == (32, 300)
    share = np.mean(np.asarray(renewal.start.u[:, 0]) < 0)
    assert share == pytest.approx(SHARE, abs=0.12)


def test_chains_alone_keep_the_shares_of_the_backbone(backbone):
    """The twin: from N(0, I) half of the chains go either way, and none returns."""
    tilt = Parted(DIM, key=jr.key(1))
    u = jr.normal(jr.key(3), (400, DIM))
    y = jax.vmap(backbone.coordinates)(u)
    there = Particles(u, y, jax.vmap(tilt)(y), jnp.asarray(0.3))
    alone = look(jr.key(4), backbone, tilt, there, chains=64, transitions=40, leapfrogs=5)
    share = np.mean(np.asarray(alone.particles.u[:, 0]) < 0)
    assert share > SHARE + 0.12


def test_learners_and_witnesses_are_from_other_chains(found):
    _, renewal = found
    learners, witnesses = (
        {tuple(row) for row in np.asarray(half)} for half in np.split(renewal.start.u, 2)
    )
    assert not learners & witnesses
    assert len(renewal.start.u) == 512


def test_learners_are_from_three_quarters_of_the_chains_and_keep_their_step_size(backbone):
    """12 draws of each of 32 chains: witnesses from half of them would be up to 192 points."""
    tilt, how = Parted(DIM, key=jr.key(1)), HOW | {"transitions": 16}
    start = renew(jr.key(2), backbone, tilt, 512, jnp.asarray(0.2), **how).start
    learners, witnesses = (len(np.unique(half, axis=0)) for half in np.split(start.u, 2))
    assert 48 < witnesses <= 96
    assert learners > 1.5 * witnesses
    assert float(start.step_size) == pytest.approx(0.2)


def test_particles_that_have_lost_a_part_are_found_out(backbone, found):
    """Mean f is the same in both parts: it is their log Z that differs, and that is put right."""
    tilt, renewal = found
    u = jr.normal(jr.key(5), (512, DIM)).at[:, 0].set(3 + 0.5 * jr.normal(jr.key(6), (512,)))
    y = jax.vmap(backbone.coordinates)(u)
    lost = Particles(u, y, jax.vmap(tilt)(y), jnp.asarray(0.3))
    seen = renewed(renewal, backbone, tilt, lost)
    assert seen.log_z == renewal.log_z.mean
    assert np.mean(np.asarray(seen.particles.u[:, 0]) < 0) > 0.1
    assert abs(seen.gap) < max(1.0, 4 * seen.error)


QUICK = TiltSettings(
    steps=400, particles=128, batch_data=128, batch_particles=64, rate=2e-3, leapfrogs=4,
    share_end=0.9, judge_every=1, patience=100, bank=5_000, fresh_every=3, fresh_chains=16,
    fresh_transitions=60, fresh_replicas=3,
)  # fmt: skip


def learned(backbone, settings, keeper=None):
    """The events of a short fit to two parts, of which a quarter of the rows are in one."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(2_000, DIM)).astype(np.float32)
    x[:, 0] = np.where(generator.random(2_000) < SHARE, -1.5, 1.5) + 0.5 * x[:, 0]
    rows = Rows(jnp.asarray(x), backbone.units, integers=False)
    told = []
    _, judgement, state = fit_tilt(
        backbone, MLPTilt(DIM, width=32, key=jr.key(5)), rows, rows, settings, key=jr.key(6),
        listen=lambda phase, event, **fields: told.append((event, fields)), keeper=keeper,
    )  # fmt: skip
    return told, judgement, state


def test_learning_goes_on_from_what_replicas_have_found(backbone, monkeypatch):
    """Stages that leave all particles in one corner are put right at every look."""

    @eqx.filter_jit
    def cornered(state):
        u = 1.5 + 0.3 * jr.normal(jr.key(8), state.particles.u.shape)
        y = jax.vmap(backbone.coordinates)(u)
        there = Particles(u, y, jax.vmap(state.tilt)(y), state.particles.step_size)
        return eqx.tree_at(lambda s: s.particles, state, there)

    def stuck(state, *rest):
        new, info = population.stage(state, *rest)
        return cornered(new), info

    monkeypatch.setitem(STAGES, "population", stuck)
    told, _, _ = learned(backbone, replace(QUICK, steps=160, fresh_every=1))
    looks = [fields for event, fields in told if event == "fresh"]
    begun = [f for event, f in told if event == "health" and f["action"].startswith("begin again")]
    assert len(looks) >= 2
    assert begun


def test_a_lag_leads_to_a_look_at_once(backbone, monkeypatch):
    """No look is due by itself; stages that say their witnesses lag ask for one all the same."""

    def lagging(state, *rest):
        new, info = population.stage(state, *rest)
        return new, eqx.tree_at(lambda i: i.lag, info, jnp.asarray(9.0))

    rare = replace(QUICK, share_end=0.98, fresh_every=1_000)
    told, _, _ = learned(backbone, rare)
    assert not [fields for event, fields in told if event == "fresh"]
    monkeypatch.setitem(STAGES, "population", lagging)
    told, _, _ = learned(backbone, rare)
    events = [event for event, _ in told]
    assert "fresh" in events
    done = [fields["done"] for event, fields in told if event == "looking"]
    assert done[-1] == rare.fresh_transitions


def test_a_fit_can_be_stopped_while_chains_are_looked_at(backbone):
    class Impatient(KeepsNothing):
        def listen(self):
            raise Interrupted("Ctrl-C")

    with pytest.raises(Interrupted):
        learned(backbone, replace(QUICK, fresh_every=1), Impatient())
    learned(backbone, replace(QUICK, steps=20, fresh_every=0), Impatient())  # nobody listens


class Stops(KeepsNothing):
    """Stops at the first state after a renewal, and has it for whoever goes on."""

    def __init__(self, kept=None):
        super().__init__()
        self.kept, self.goes_on, self.wider = kept, kept is not None, []

    def last(self, stage, like):
        return self.kept

    def offer(self, stage, step, tree, plain):
        self.wider.append(plain["wider"])
        if plain["wider"] > 1 and not self.goes_on:
            self.kept = (tree, plain)
            raise Interrupted("Ctrl-C")


def test_what_goes_on_after_a_renewal_knows_how_few_its_chains_were(backbone, monkeypatch):
    monkeypatch.setattr(of_renewal, "widening", lambda f, each: 3.0)
    settings = replace(QUICK, steps=160, fresh_every=1)
    _, whole, _ = learned(backbone, settings)
    first = Stops()
    with pytest.raises(Interrupted):
        learned(backbone, settings, first)
    second = Stops(first.kept)
    _, resumed, _ = learned(backbone, settings, second)
    assert second.wider[0] == 3.0
    assert float(resumed.gain_val) == float(whole.gain_val)


def test_replicas_whose_log_z_does_not_hold_take_over_only_where_they_differ(backbone, found):
    """Then the learner's own log Z stays, and no particle is moved for minutes."""
    tilt, renewal = found
    u = jr.normal(jr.key(5), (512, DIM))
    y = jax.vmap(backbone.coordinates)(u)
    there = Particles(u, y, jax.vmap(tilt)(y), jnp.asarray(0.3))
    held = renewed(renewal, backbone, tilt, there)
    assert held.takes_over
    assert not replace(held, gap=0.0, log_z_error=0.4).against(1.0).differs  # chance alone
    assert replace(held, gap=0.0, log_z_error=0.1).against(1.0).differs
    unsure = replace(renewal.log_z, standard_error=0.6)
    assert not renewed(renewal._replace(log_z=unsure), backbone, tilt, there).takes_over
    loose = replace(held, log_z=None)
    assert not loose.takes_over
    _, _, state = learned(backbone, replace(QUICK, steps=20))
    there = eqx.tree_at(lambda s: s.tilt, state, tilt, is_leaf=lambda x: isinstance(x, MLPTilt))
    new = loose.taken_up(there, backbone, QUICK.traced(), jr.key(9))
    assert np.array_equal(new.particles.u, loose.particles.u)
    shift = float(new.tilt.level - there.tilt.level)
    assert float(new.log_z) == pytest.approx(float(there.log_z) - shift, abs=1e-4)


def test_a_fit_with_renewals_gains_what_fresh_chains_say(backbone):
    told, judgement, _ = learned(backbone, QUICK)
    looks = [fields for event, fields in told if event == "fresh" and fields["holds"]]
    assert len(looks) >= 2
    assert all(abs(f["gain_fresh"] - f["gain_val"]) < 0.3 for f in looks)
    assert float(judgement.gain_val) > 0.3


def test_a_stage_that_is_over_soon_lowers_the_rate(backbone):
    hasty = replace(QUICK, steps=60, least_steps=1_000, fresh_every=0)
    told, _, _ = learned(backbone, hasty)
    why = [fields["why"] for event, fields in told if event == "health"]
    assert any("the stage was over after" in words for words in why)
    told, _, _ = learned(backbone, replace(hasty, least_steps=0))
    assert not any("was over after" in f["why"] for event, f in told if event == "health")


def test_a_negative_part_is_refused():
    with pytest.raises(InputError, match="moved_at_once is -1; expected a number of particles"):
        TiltSettings(moved_at_once=-1).check()


def test_one_replica_is_refused():
    with pytest.raises(InputError, match="fresh_replicas is 1; expected 0, or 2"):
        TiltSettings(fresh_replicas=1).check()


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_draws_of_few_chains_have_the_error_of_few_chains(phi):
    """Learners and witnesses of 16 chains, against the spread of (mean f - mean f) over seeds."""
    rng, each, z, told = np.random.default_rng(0), 200, [], []
    for _ in range(400):
        f = autoregressive(rng, phi, chains=16, draws=300)
        learners, witnesses = (over_chains(part, each)[0] for part in np.split(f, [12]))
        z.append(float(agreement(jnp.concatenate([learners, witnesses]), each)))
        told.append(widening(f, each))
    error = 1 / np.sqrt(2 * len(z))  # of a standard deviation, relative
    assert np.std(z / np.asarray(told)) == pytest.approx(1.0, abs=4 * error + 0.1)
    alone = np.std(z) == pytest.approx(1.0, abs=4 * error + 0.1)
    assert bool(alone) is (phi == 0.0)  # power: what is not widened is wrong where chains are slow


def autoregressive(rng, phi, *, chains, draws):
    f = [rng.normal(size=chains)]
    for _ in range(draws - 1):
        f.append(phi * f[-1] + np.sqrt(1 - phi**2) * rng.normal(size=chains))
    return np.stack(f, axis=1)
