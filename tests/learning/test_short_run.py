"""A short run learns the law after k transitions, in closed form, and no density."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from test_recovery import FLOW, ZERO, Squares

from tiltflow.backbones import Pushforward
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError
from tiltflow.evaluation.drift import drift_of, trained_short
from tiltflow.learning import Rows, fit_tilt
from tiltflow.learning.short_run import ShortRun
from tiltflow.model.short_run import Protocol, latent_of
from tiltflow.model.tilted import TiltedModel

STEP, K = 0.2, 10
VARIANCES = np.array([0.5, 3.0])  # the second is above 1 + 2 h k = 1.4


def variance_after(k, precision):
    """Of k unadjusted transitions from N(0, 1)."""
    r = 1 - STEP**2 / 2 * precision
    return r ** (2 * k) + STEP**2 * (1 - r ** (2 * k)) / (1 - r**2)


@pytest.mark.parametrize("precision", [4.0, 1.01, -0.7])
@pytest.mark.parametrize("wrong", [False, True])
def test_the_law_after_k_transitions(precision, wrong):
    tilt = Squares(jnp.full(2, 1 - precision), jnp.zeros(()))
    k = K + 5 * wrong  # the twin: a run that is half as long again
    u = jr.normal(jr.key(0), (40_000, 2))
    ends = Protocol(k, STEP).run(TiltedModel(FLOW, tilt), u, jr.key(1))
    apart = np.asarray(ends).var() / variance_after(K, precision) - 1
    error = np.sqrt(2 / ends.size)
    assert (abs(apart) < 4 * error) != (wrong and precision != 1.01)


def test_what_is_learned_is_right_after_k_and_is_no_density():
    x = np.random.default_rng(0).standard_normal((4_000, 2))
    x = (x - x.mean(axis=0)) / x.std(axis=0) * np.sqrt(VARIANCES)
    rows = Rows(x.astype("f4"), identity((2,)), False)
    short = ShortRun(Protocol(K, STEP))
    settings = replace(
        short.settings, steps=400, iterations=200, particles=1_024, batch_data=512, rate=0.1,
        final_rate=0.02, decay=0.0, memory=0.98, judge_every=100, bank=1_000,
    )  # fmt: skip
    tilt, *_ = fit_tilt(FLOW, ZERO, rows, rows, settings, key=jr.key(0), stage=short.stage)
    assert isinstance(tilt, Squares)
    precision = 1 - np.asarray(tilt.a)
    assert precision[1] < 0  # exp(f) q has no integral
    assert np.allclose(variance_after(K, precision), VARIANCES, rtol=0.1)
    assert not np.allclose(1 / precision, VARIANCES, rtol=0.1)  # what equilibrium would have


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"transitions": 0, "step_size": 0.1}, "0 transitions"),
        ({"transitions": 5, "step_size": 0.0}, "step_size"),
        ({"transitions": 5, "step_size": 0.1, "start": "somewhere"}, "noise, data, uniform"),
    ],
)
def test_protocols_that_cannot_be_run(values, words):
    with pytest.raises(InputError, match=words):
        Protocol(**values)


def test_starts():
    y = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert np.allclose(Protocol(1, 1.0, "data").starts(FLOW, jr.key(0), y), y)
    wide = Protocol(1, 1.0, "uniform").starts(FLOW, jr.key(0), jnp.zeros((1_000, 2)))
    assert 2.9 < float(jnp.abs(wide).max()) <= 3
    assert Protocol.from_dict(Protocol(3, 0.5, "data").to_dict()) == Protocol(3, 0.5, "data")
    with pytest.raises(InputError, match="Pushforward"):
        latent_of(Pushforward(identity((2,)), lambda u: u, (2,)), y)


def test_drift_names_chains_that_go_past_the_data_and_no_others():
    rng = np.random.default_rng(0)
    t, data = np.arange(1, 101), rng.standard_normal(1_000)
    noise = rng.standard_normal((64, 100))
    short, right, slow = 3 * t / 10 - 3, -3 * np.exp(-t / 5), t / 100 - 3
    found = [drift_of(curve + noise, noise**2, data) for curve in (short, right, slow)]
    assert [one.passes for one in found] == [True, False, False]
    assert found[0].nearest == 10
    assert found[0].words.startswith("Drift: ")
    assert found[1].words.startswith("No drift: ")
    assert "below" in found[2].words
    assert list(found[0].transitions) == [1, 2, 5, 10, 20, 50, 100]
    broken = drift_of(np.full((8, 10), np.nan), noise[:8, :10], data)
    assert broken.passes


def test_no_verdict_on_a_short_run_is_ok():
    assert trained_short(None) == []
    (check,) = trained_short(Protocol(5, 0.1))
    assert not check.ok
    assert "5 unadjusted transitions from noise" in check.means
