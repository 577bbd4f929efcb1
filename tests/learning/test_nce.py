"""Contrast learns the density ratio; what cannot be learned so is said."""

from contextlib import closing
from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import Pushforward
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import Interrupted
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.learning.nce import CHUNK, fit_nce
from tiltflow.learning.particles import effective_share
from tiltflow.learning.start import begin
from tiltflow.runs import EventLog
from tiltflow.runs.checkpoint import Checkpoints
from tiltflow.tilts import MLPTilt

CENTRE = np.array([2.0, -1.0])
TRUE_GAIN = 0.5 * float(CENTRE @ CENTRE)
QUICK = TiltSettings(
    learner="nce",
    nce_steps=750,
    steps=100,
    particles=512,
    batch_data=128,
    batch_particles=128,
    rate=1e-2,
    memory=0.99,
    judge_every=2,
    bank=5_000,
    decay=0.0,
)


def data(number: int, seed: int) -> Rows:
    """N(CENTRE, I), so that log p / q over N(0, I) is linear."""
    x = CENTRE + np.random.default_rng(seed).normal(size=(number, 2))
    return Rows(jnp.asarray(x, jnp.float32), identity((2,)), integers=False)


NORMAL = Pushforward(identity((2,)), lambda u: u, (2,))


class Events(list):
    def __call__(self, phase, event, **fields):
        self.append((event, fields))

    def named(self, event):
        return [fields for name, fields in self if name == event]


@pytest.fixture(scope="module")
def contrasted():
    events = Events()
    tilt = MLPTilt(2, width=16, depth=1, key=jr.key(0))
    rows = data(4_000, 0), data(2_000, 1)
    return *fit_nce(NORMAL, tilt, *rows, QUICK, key=jr.key(1), listen=events), events


def check_ratio(tilt, centre) -> None:
    """f is the log ratio of the densities, level included, where the data are."""
    y = CENTRE + np.random.default_rng(2).normal(size=(500, 2))
    f = np.asarray(jax.vmap(tilt)(jnp.asarray(y, jnp.float32)), np.float64)
    truth = y @ centre - 0.5 * centre @ centre
    assert np.sqrt(np.mean((f - truth) ** 2)) < 0.35


def test_the_tilt_is_the_log_ratio_of_the_densities(contrasted):
    tilt, told, events = contrasted
    check_ratio(tilt, CENTRE)
    with pytest.raises(AssertionError):  # power: data and draws exchanged
        check_ratio(lambda y: -tilt(y), CENTRE)
    assert told.loss < 0.5 < np.log(2)
    assert 0.8 < told.accuracy < 0.95
    assert not told.is_degenerate
    assert not events.named("health")


def test_a_contrast_ends_when_its_time_is_over():
    events = Events()
    tilt = MLPTilt(2, width=16, depth=1, key=jr.key(0))
    fit_nce(
        NORMAL, tilt, data(4_000, 0), data(2_000, 1), QUICK, key=jr.key(1), listen=events,
        left=lambda: 0.0,
    )  # fmt: skip
    assert [fields["step"] for fields in events.named("contrast")] == [CHUNK]


def test_draws_of_the_contrasted_model_are_climbed_to(contrasted):
    """The climb's particles have the data's mean, and its log Z is that of exact draws."""
    tilt = contrasted[0]
    start = begin(jr.key(3), NORMAL, tilt, 4_096)
    u = np.asarray(start.u)
    weights = jax.vmap(tilt)(jr.normal(jr.key(4), (200_000, 2)))
    truth = float(jax.nn.logsumexp(weights)) - np.log(200_000)
    assert float(effective_share(weights)) * 200_000 > 1_000
    assert abs(float(start.log_z) - truth) < 0.1
    assert abs(truth) < 0.1  # by contrast, log Z is near 0
    assert np.max(np.abs(u.mean(axis=0) - CENTRE)) < 0.15
    exact = begin(jr.key(3), NORMAL, MLPTilt(2, width=16, key=jr.key(0)), 4_096)
    assert np.max(np.abs(np.asarray(exact.u).mean(axis=0))) < 0.1  # where f = 0 nothing moves
    assert float(exact.log_z) == 0.0


@pytest.mark.parametrize("learner", ["nce", "nce+mle"])
def test_the_gain_is_the_one_there_is(learner):
    events = Events()
    tilt = MLPTilt(2, width=16, depth=1, key=jr.key(0))
    rows = data(4_000, 0), data(2_000, 1)
    settings = replace(QUICK, learner=learner)
    _, judgement, state = fit_tilt(NORMAL, tilt, *rows, settings, key=jr.key(5), listen=events)
    assert float(judgement.gain_val) == pytest.approx(TRUE_GAIN, abs=0.15)
    assert events.named("contrast")
    assert int(state.steps) == (0 if learner == "nce" else 100)


def test_what_is_told_apart_without_error_is_degenerate():
    """Data beside a generator that draws on a line."""
    line = Pushforward(identity((2,)), lambda u: jnp.stack([u[0], 9.0 + 0 * u[0]]), (2,))
    events = Events()
    tilt = MLPTilt(2, width=16, depth=1, key=jr.key(0))
    rows = data(1_000, 0), data(1_000, 1)
    _, told = fit_nce(line, tilt, *rows, QUICK, key=jr.key(6), listen=events)
    assert told.is_degenerate
    assert "give the generator noise" in events.named("health")[0]["why"]


def test_learning_is_stopped_and_gone_on_with_bit_for_bit(tmp_path):
    """The state after every chunk is offered; what goes on from one ends in the same weights."""
    stops = iter([None, None, "Ctrl-C"])
    rows, tilt = (data(400, 0), data(200, 1)), MLPTilt(2, width=4, depth=1, key=jr.key(0))

    def fit(keeper):
        settings = replace(QUICK, nce_steps=1_000)
        how = {"key": jr.key(1), "listen": Events(), "keeper": keeper}
        return fit_nce(NORMAL, tilt, *rows, settings, **how)[0]

    with closing(EventLog(tmp_path / "events.jsonl")) as log:
        stopped = Checkpoints(tmp_path / "states", log, stop=lambda: next(stops))
        with pytest.raises(Interrupted, match="Ctrl-C"):
            fit(stopped)
        assert list((tmp_path / "states").glob("nce-*750.safetensors"))
        gone_on, whole = fit(Checkpoints(tmp_path / "states", log)), fit(None)
    for a, b in zip(jax.tree.leaves(gone_on), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
