"""Both learners repair a weak backbone, and what their witnesses say is true.

The data are four clouds, the backbone is a Gaussian (an untrained flow with standardising units),
so that all that is learned is the tilt's; in the plane its log Z is a sum over a grid.
"""

from contextlib import nullcontext
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from optimised import optimised

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.learning import Rows, TiltSettings, fit_tilt, persistent, population
from tiltflow.learning.health import Monitor
from tiltflow.tilts import MLPTilt

STAGES = {"population": population, "persistent": persistent}
QUICK = TiltSettings(
    steps=280,
    particles=256,
    batch_data=128,
    batch_particles=128,
    rate=1.5e-2,
    leapfrogs=4,
    share_end=0.6,
    judge_every=1,
    patience=100,
    bank=5_000,
)
both = pytest.mark.parametrize("learner", sorted(STAGES))


def clouds(number, seed):
    rng = np.random.default_rng(seed)
    x = 2.0 * rng.choice([-1.0, 1.0], size=(number, 2)) + 0.5 * rng.normal(size=(number, 2))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def problem():
    """A Gaussian backbone, a zero tilt, training and validation rows."""
    train = clouds(2_000, 0)
    units = fit_units("standardise", train, integers=False)
    backbone = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    tilt = MLPTilt(2, width=32, key=jr.key(1))
    as_rows = [Rows(jnp.asarray(x), units, integers=False) for x in (train, clouds(1_000, 1))]
    return backbone, tilt, *as_rows


class Events(list):
    """A listener that remembers; `told(event)` are its fields."""

    def __call__(self, phase, event, **fields):
        assert phase == "tilt"
        fields.pop("seconds", None)  # the clock's, not the seed's
        self.append((event, fields))

    def told(self, event):
        return [fields for name, fields in self if name == event]


def learn(problem, settings, seed=2, compiled=optimised):
    """Learn; the tilt, the judgement, the last state and the events.

    The paper's learner moves its particles at every step, and is worth to be compiled well.
    """
    events = Events()
    with compiled() if settings.learner == "persistent" else nullcontext():
        return *fit_tilt(*problem, settings, key=jr.key(seed), listen=events), events


class OnceAsked(dict):
    """What is made when it is first asked for, so that no test waits for what it does not need."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, name):
        self[name] = self.make(name)
        return self[name]


@pytest.fixture(scope="module")
def traced():
    """The learners of which a stage was compiled, one for each time; none is from before."""
    jax.clear_caches()
    found = []

    def counted(name, gradient):
        def count(*args):
            found.append(name)
            return gradient(*args)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for name, module in STAGES.items():
            patch.setattr(module, "gradient", counted(name, module.gradient))
        yield found


@pytest.fixture(scope="module")
def learned(problem, traced):
    """Both learners' results, by name."""
    return OnceAsked(lambda name: learn(problem, replace(QUICK, learner=name)))


@eqx.filter_jit
def values(backbone, tilt, u):
    return jax.vmap(lambda u: tilt(backbone.coordinates(u)))(u)


def exact_log_z(backbone, tilt):
    """log E_{u ~ N(0, I)} exp f(g(u)), by the trapezoidal rule in the latent plane."""
    axis = np.linspace(-7, 7, 281)
    u = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    f = values(backbone, tilt, jnp.asarray(u, jnp.float32))
    log_mass = np.asarray(f, np.float64) - 0.5 * np.sum(u**2, axis=1) - np.log(2 * np.pi)
    return np.logaddexp.reduce(log_mass) + 2 * np.log(axis[1] - axis[0])


def exact_gain(problem, tilt):
    """Mean log p - log q over the validation rows."""
    backbone, _, _, val = problem
    y, _ = val.every(jr.key(0), 1)
    return float(jnp.mean(jax.vmap(tilt)(y[:, 0]))) - exact_log_z(backbone, tilt)


@both
def test_the_gain_is_large_and_what_the_witnesses_say_it_is(problem, learned, learner):
    tilt, judgement, _, _ = learned[learner]
    truth = exact_gain(problem, tilt)
    assert truth > 0.3
    assert abs(float(judgement.gain_val) - truth) < 0.1
    assert abs(float(judgement.log_z) - exact_log_z(problem[0], tilt)) < 0.1


@both
def test_the_running_log_z_is_that_of_the_last_tilt(problem, learned, learner):
    """Summed over stages by the witnesses' weights alone, within 4 standard errors.

    At `QUICK`'s rate the paper's learner uses up most of 128 weights within a stage.
    """
    _, _, state, events = learned[learner]
    if learner == "persistent":
        _, _, state, events = learn(problem, replace(QUICK, learner=learner, rate=3e-3))
    stages = events.told("stage")
    # A mean of n weights of effective share s is off by sqrt((1/s - 1)/n), stage by stage.
    error = np.sqrt(sum(1 / stage["share"] - 1 for stage in stages) / (QUICK.particles // 2))
    running = stages[-1]["log_z_running"]
    truth = exact_log_z(problem[0], state.tilt)
    assert abs(truth) > 0.1
    assert abs(running - truth) < 4 * error + 0.05


@both
def test_learners_witnesses_and_data_agree_at_the_end(learned, learner):
    _, judgement, state, events = learned[learner]
    last = events.told("stage")[-1]
    assert abs(last["agreement"]) < 4
    assert last["acceptance"] > 0.5
    assert last["step"] == QUICK.steps == int(state.steps)
    kept = events.told("kept")[0]
    assert kept["gain_val"] == float(judgement.gain_val)
    mended = {fields["stage"] for fields in events.told("health")}
    sound = [s for s in events.told("stage") if s["holds"] and s["stage"] not in mended]
    assert kept["gain_val"] == max(stage["gain_val"] for stage in sound)


@both
def test_the_gauge_is_kept(learned, learner):
    """f has mean 0 on the witnesses, and its stored values are the tilt's."""
    _, _, state, _ = learned[learner]
    particles = state.particles
    assert abs(float(jnp.mean(particles.f[particles.witnesses]))) < 1e-3
    np.testing.assert_allclose(jax.vmap(state.tilt)(particles.y), particles.f, atol=1e-3)


@both
def test_the_same_seed_gives_the_same_numbers(problem, learned, learner):
    tilt, judgement, state, events = learn(problem, replace(QUICK, learner=learner))
    assert events == learned[learner][3]
    assert eqx.tree_equal((tilt, judgement, state), learned[learner][:3])


@both
def test_one_compilation_serves_all_rates_and_lengths(problem, learned, traced, learner):
    assert learned[learner]  # so that the program is there
    assert traced.count(learner) == 1  # power, and all stages of a run are one program
    settings = replace(QUICK, learner=learner, steps=40)
    others = [{"rate": 2e-3, "decay": 0.5}, {"steps": 60}, {"most_transitions": 4}]
    others += [{"judge_every": 2, "patience": 3, "watch": False}]  # the loop's, not a stage's
    for other in others:
        learn(problem, replace(settings, **other))
    assert traced.count(learner) == 1


@both
def test_the_wrong_sign_gains_nothing(problem, monkeypatch, learner):
    """Power: with every step's sign flipped the same run finds no gain, and keeps f = 0.

    A rate below zero is no other program; without decay it is the contrast's sign.
    """
    right = Monitor.course
    monkeypatch.setattr(
        Monitor, "course", lambda self: right(self)._replace(rate_scale=jnp.asarray(-1.0))
    )
    tilt, judgement, _, _ = learn(problem, replace(QUICK, learner=learner, decay=0.0))
    assert float(judgement.gain_val) < 0.05
    assert exact_gain(problem, tilt) < 0.05


@pytest.fixture(scope="module")
def runaways(problem):
    """Two results of each learner at an absurd rate, by name."""
    absurd = replace(QUICK, steps=160, rate=10.0)
    return OnceAsked(
        lambda name: [learn(problem, replace(absurd, learner=name), seed) for seed in (2, 3)]
    )


@both
def test_an_absurd_rate_ends_with_events_and_a_finite_tilt(runaways, learner):
    for tilt, judgement, _, events in runaways[learner]:
        assert events.told("health")
        leaves = jax.tree.leaves(eqx.filter((tilt, judgement), eqx.is_array))
        assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
        assert float(judgement.gain_val) >= 0.0


@both
def test_a_runaway_is_not_kept_for_a_gain_that_it_does_not_have(problem, runaways, learner):
    for tilt, judgement, *_ in runaways[learner]:
        # Without the judge's checks it vouched for 26 nats; what is left is 128 witnesses' noise.
        assert float(judgement.gain_val) - exact_gain(problem, tilt) < 1.0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"learner": "gibbs"}, "learner 'gibbs'; expected one of linear, nce"),
        ({"particles": 255}, "255 particles; expected an even number"),
        ({"particles": 16}, "16 particles; expected an even number of at least 40"),
        ({"bank": 8}, "bank is 8; expected at least 20"),
        ({"fresh_replicas": 3, "fresh_transitions": 4}, "at least 8 with replicas"),
    ],
    ids=["learner", "odd", "few", "bank", "replicas"],
)
def test_settings_that_cannot_work_are_input_errors(problem, wrong, expected):
    with pytest.raises(InputError, match=expected):
        learn(problem, replace(QUICK, **wrong))


def test_learning_goes_on_from_a_tilt_that_is_not_zero(problem, learned):
    """Its particles are climbed to, and the first judgement is of it."""
    backbone, _, *rows = problem
    tilt, judgement = learned["population"][:2]
    settings = replace(QUICK, steps=20, rate=1e-6)  # not another program of a stage
    _, again, _, events = learn((backbone, tilt, *rows), settings)
    first = events.told("stage")[0]
    assert first["gain_val"] == pytest.approx(float(judgement.gain_val), abs=0.25)
    # The level that was folded into the tilt is that of 128 witnesses, and noisy: so is its log Z.
    assert float(again.log_z + again.level) == pytest.approx(float(judgement.log_z), abs=0.4)
    assert float(judgement.gain_val) > 0.3  # power: that of f = 0 is 0


def test_where_nothing_is_to_be_gained_learning_ends_soon(problem):
    """A few rows of the backbone itself: f learns them by heart. Twin: nobody watches."""
    backbone, tilt, _, val = problem
    x = np.asarray(jax.vmap(backbone.push)(jr.normal(jr.key(5), (1_012, 2))))
    few, others = (replace_rows(val, rows) for rows in (x[:12], x[12:]))
    settings = replace(QUICK, decay=0.0)
    *_, kept, events = learn((backbone, tilt, few, others), settings)
    assert "falls" in events.told("stopped")[0]["why"]
    assert int(kept.steps) < 0.7 * QUICK.steps
    assert events.told("kept")[0]["gain_val"] > -0.02
    *_, events = learn((backbone, tilt, few, others), replace(settings, watch=False))
    assert not events.told("stopped")


def replace_rows(rows, values):
    return Rows(jnp.asarray(values), rows.units, integers=False)
