"""The backbone, by maximum likelihood: it learns, it keeps the best, it repeats itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_moons

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.learning import BackboneSettings, Rows, fit_backbone

SETTINGS = BackboneSettings(steps=2_500, batch=128, rate=5e-3, decay=0.1)


def moons(number, seed):
    return make_moons(number, noise=0.08, random_state=seed)[0].astype(np.float32)


def problem(train, val):
    """A fresh flow, and both sets as rows."""
    units = fit_units("standardise", train, integers=False)
    flow = CouplingFlow(units, num_blocks=3, width=24, key=jr.key(0))
    as_rows = [Rows(jnp.asarray(x), units, integers=False) for x in (train, val)]
    return flow, *as_rows


class Events(list):
    """A listener that remembers; `told(event)` are its fields."""

    def __call__(self, phase, event, **fields):
        assert phase == "backbone"
        self.append((event, fields))

    def told(self, event):
        return [fields for name, fields in self if name == event]


@pytest.fixture(scope="module")
def fitted():
    train, val = moons(1_000, 0), moons(500, 1)
    flow, *rows = problem(train, val)
    events = Events()
    return *fit_backbone(flow, *rows, SETTINGS, key=jr.key(1), listen=events), events, flow, rows


def test_it_beats_a_gaussian_by_half_a_nat(fitted):
    _, nll, *_ = fitted
    train, val = moons(1_000, 0), moons(500, 1)
    gaussian = stats.multivariate_normal(train.mean(axis=0), np.cov(train.T))
    assert nll < -gaussian.logpdf(val).mean() - 0.5


def test_its_score_is_that_of_the_flow_it_returns(fitted):
    flow, nll, *_ = fitted
    scored = -jnp.mean(jax.jit(jax.vmap(flow.log_prob))(jnp.asarray(moons(500, 1))))
    np.testing.assert_allclose(nll, scored, atol=1e-4)


def test_it_tells_its_progress_and_leaves_the_units_alone(fitted):
    flow, nll, events, start, _ = fitted
    progress = events.told("progress")
    assert [p["step"] for p in progress] == list(range(250, 2_501, 250))
    assert all(p["steps"] == 2_500 for p in progress)
    assert events.told("kept") == [
        {"step": min(progress, key=lambda p: p["nll_val"])["step"], "nll_val": nll}
    ]
    assert eqx.tree_equal(flow.units, start.units)
    assert not eqx.tree_equal(flow.blocks, start.blocks)


def test_the_same_seed_gives_the_same_numbers(fitted):
    flow, nll, events, start, rows = fitted
    again = Events()
    same, same_nll = fit_backbone(start, *rows, SETTINGS, key=jr.key(1), listen=again)
    assert same_nll == nll
    assert again == events
    assert eqx.tree_equal(same, flow)


def test_early_stopping_keeps_the_best_of_an_overfit():
    """40 rows, no decay: validation turns long before the steps are used up."""
    val = moons(500, 1)
    flow, *rows = problem(moons(40, 2), val)
    settings = BackboneSettings(steps=5_000, batch=128, rate=5e-3, decay=0.0, patience=2)
    events = Events()
    kept, nll = fit_backbone(flow, *rows, settings, key=jr.key(3), listen=events)
    progress = events.told("progress")
    scores = [p["nll_val"] for p in progress]
    best = int(np.argmin(scores))
    assert len(scores) == best + 1 + settings.patience < 20
    assert nll == scores[best] < scores[-1]
    assert events.told("kept") == [{"step": progress[best]["step"], "nll_val": nll}]
    scored = -jnp.mean(jax.vmap(kept.log_prob)(jnp.asarray(val)))
    np.testing.assert_allclose(nll, scored, atol=1e-3)


def test_a_likelihood_that_is_never_finite_is_an_input_error():
    val = moons(500, 1)
    val[7] = np.nan
    flow, *rows = problem(moons(1_000, 0), val)
    settings = BackboneSettings(steps=250, batch=128)
    with pytest.raises(InputError, match=r"never finite at rate 0\.002: lower the rate"):
        fit_backbone(flow, *rows, settings, key=jr.key(4), listen=Events())
