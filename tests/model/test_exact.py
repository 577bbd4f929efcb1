"""Exact draws on the host, and the chains whose proposals they are, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, Ensemble, MixtureDensity, fit_units
from tiltflow.errors import InputError
from tiltflow.evaluation import likelihood
from tiltflow.evaluation.chains import SamplingSettings, moved_by
from tiltflow.evaluation.likelihood import score
from tiltflow.learning import Rows
from tiltflow.learning.bank import Bank
from tiltflow.mcmc.draws import joined
from tiltflow.model import independent as module
from tiltflow.model import latent_chains, log_normalizer
from tiltflow.model.exact import exact
from tiltflow.model.independent import MOST_TRIES, independent_chains, tries_of
from tiltflow.model.kernels import kernel_of
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.tilts import Tilt

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([0.0, 4.0, -3.0])  # of the first column: the transport's, the members'
SLOPE = 0.4


class Line(Tilt):
    """f = SLOPE c[0]: of a mixture of normal densities all is known."""

    level: jax.Array = eqx.field(default_factory=lambda: jnp.zeros(()))

    def __call__(self, y, key=None):
        return SLOPE * y[0]


@pytest.fixture(scope="module")
def ensemble():
    """Three normal densities of two columns, with unit variance: one of them the transport."""
    x = np.random.default_rng(0).normal(size=(500, 2))
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))  # starts at N(0, I)
    members = tuple(
        eqx.tree_at(lambda m: m.means, MixtureDensity.standard(1, 2), jnp.asarray([[mean, 0.0]]))
        for mean in MEANS[1:]
    )
    return Ensemble(flow, members, jnp.log(jnp.asarray(WEIGHTS, jnp.float32)))


def test_exact_draws_have_the_members_shares(ensemble):
    made = exact(ensemble, jr.key(1), 20_000)
    assert made.u.shape == made.c.shape == (20_000, 2)
    back = jax.vmap(ensemble.coordinates)(jnp.asarray(made.u[:500]))
    assert np.abs(np.asarray(back) - made.c[:500]).max() < 1e-3
    log_q = np.asarray(jax.vmap(ensemble.log_prob_coordinates)(jnp.asarray(made.c)))
    in_program = jax.vmap(ensemble.coordinates)(ensemble.draws(jr.key(2), 20_000))
    other = np.asarray(jax.vmap(ensemble.log_prob_coordinates)(in_program))
    for name, values, others in (
        ("first column", made.c[:, 0], np.asarray(in_program)[:, 0]),
        ("log q", log_q, other),
    ):
        error = np.hypot(values.std(), others.std()) / np.sqrt(20_000)
        assert abs(values.mean() - others.mean()) < 4 * error, name
    # Power: even weights would be seen.
    even = eqx.tree_at(lambda e: e.log_weights, ensemble, jnp.log(jnp.full(3, 1 / 3)))
    wrong = exact(even, jr.key(1), 20_000).c[:, 0]
    assert abs(wrong.mean() - np.asarray(in_program)[:, 0].mean()) > 20 * error


def mean_f_of(model):
    """E_p f, by weights of many exact draws; and its standard error."""
    f = f_of(model.tilt, exact(model.backbone, jr.key(5), 200_000).c).astype(np.float64)
    w = np.exp(f - f.max())
    mean = float(np.sum(w * f) / w.sum())
    return mean, float(np.sqrt(np.sum((w * (f - mean)) ** 2)) / w.sum())


def error_of(f):
    """Of the mean over chains, which are independent."""
    return f.mean(axis=1).std(ddof=1) / np.sqrt(len(f))


def test_chains_of_exact_draws_have_the_models_mean(ensemble, monkeypatch):
    model = TiltedModel(ensemble, Line())
    truth, error = mean_f_of(model)
    draws = independent_chains(model, jr.key(3), chains=64, draws=300, warmup=50)
    f = np.asarray(draws.summaries["f"], np.float64)
    assert draws.positions.shape == (64, 300, 2)
    assert abs(f.mean() - truth) < 4 * np.hypot(error, error_of(f))
    c = np.asarray(jax.vmap(ensemble.coordinates)(jnp.asarray(draws.positions[:, 7])))
    assert np.allclose(SLOPE * c[:, 0], f[:, 7], atol=1e-3)
    assert 0.3 < draws.acceptance < 0.99

    def all_alike(f_now, f, uniform):  # power: chains that accept all they are told
        return accepted(np.zeros_like(f_now), np.zeros_like(f), uniform)

    accepted = module._accepted
    monkeypatch.setattr(module, "_accepted", all_alike)
    wrong = independent_chains(model, jr.key(3), chains=64, draws=300, warmup=50).summaries["f"]
    assert abs(wrong.mean() - truth) > 8 * np.hypot(error, error_of(wrong))


@pytest.mark.parametrize("tries", [1, 3, 16])
def test_however_many_tries_chains_have_the_weights_of_their_draws(tries, monkeypatch):
    """Draws are five values, all as likely: what chains are at is so by exp f."""
    f = np.array([0.0, -1.0, 2.0, 1.0, -np.inf])
    rng = np.random.default_rng(0)
    which = rng.integers(len(f), size=(400, 300, tries))
    uniform = rng.random((400, 300, 2))

    def error_of_shares() -> float:
        at, _ = module._accepted(np.zeros(400), f[which], uniform)
        values = np.concatenate([np.zeros((400, 1), int), which.reshape(400, -1)], axis=1)
        seen = values[np.arange(400)[:, None], at[:, 100:]]
        each = (seen[..., None] == np.arange(len(f))).mean(axis=1)
        errors = each.std(axis=0, ddof=1) / np.sqrt(len(each))
        truth = np.exp(f) / np.exp(f).sum()
        return np.max(np.abs(each.mean(axis=0) - truth)[:4] / errors[:4])

    assert error_of_shares() < 4
    monkeypatch.setattr(module, "_probability", lambda whole, picked, own: np.ones_like(whole))
    assert error_of_shares() > 8  # power: what is picked is always accepted


def test_a_proposal_that_is_no_number_is_never_accepted():
    uniform = np.full((1, 2, 2), 0.5)
    broken = np.array([[[np.nan, np.inf], [np.nan, 0.3]]])
    at, probability = module._accepted(np.zeros(1), broken, uniform)
    assert at.tolist() == [[0, 4]]
    assert probability[0, 0] == 0


def test_tries_are_as_many_as_there_are_draws_to_an_effective_one():
    assert tries_of(np.zeros((8, 100))) == 1
    assert tries_of(np.array([0.0, *[-800.0] * 7, 0.0])) == 4  # of 4.5
    assert tries_of(np.array([50.0, *[0.0] * 999])) == MOST_TRIES
    assert tries_of(np.full(10, np.nan)) == 1


def test_what_moves_chains_is_said(ensemble):
    model = TiltedModel(ensemble, Line())
    assert moved_by(model, SamplingSettings()) == "independence"
    assert moved_by(model, SamplingSettings(kernel="hmc")) == "hmc"
    assert moved_by(TiltedModel(ensemble.transport, Line()), SamplingSettings()) == "hmc"


def test_the_kernel_on_the_host_streams_thins_and_goes_on_where_it_was(ensemble, tmp_path):
    model = TiltedModel(ensemble, Line())
    truth, error = mean_f_of(model)
    kernel = kernel_of(model, None, 8)
    how = {"kernel": kernel, "step_size": 0.1, "seed": 3, "chunk": 20, "thin": 2}
    x, whole = latent_chains.run(model, lambda u: u, 64, 60, **how)
    f = np.asarray(whole.summaries["f"], np.float64)
    assert whole.positions.shape == (64, 60, 2)
    assert whole.transitions == 120
    assert abs(f.mean() - truth) < 4 * np.hypot(error, error_of(f))
    c = np.asarray(jax.vmap(ensemble.coordinates)(jnp.asarray(x[:, 31])))
    assert np.allclose(SLOPE * c[:, 0], f[:, 31], atol=1e-3)
    stay = np.all(whole.positions[:, 1:] == whole.positions[:, :-1], axis=2)
    assert 0 < stay.mean() < 0.5

    part, _ = latent_chains.run(model, lambda u: u, 64, 20, folder=tmp_path / "d", **how)
    both, _ = latent_chains.run(
        model, lambda u: u, 64, 60, folder=tmp_path / "d", resume=True, **how
    )
    np.testing.assert_array_equal(part, x[:, :20])
    np.testing.assert_array_equal(both, x)
    with pytest.raises(InputError, match="keep is False with a kernel on the host"):
        latent_chains.run(model, lambda u: u, 4, 4, keep=False, **how)


def test_chains_that_go_on_begin_where_they_ended(ensemble):
    model = TiltedModel(ensemble, Line())
    first = independent_chains(model, jr.key(3), chains=16, draws=40)
    more = independent_chains(model, jr.key(4), chains=16, draws=40, former=first)
    both = joined(first, more)
    assert both.positions.shape == (16, 80, 2)
    stay = np.all(both.positions[:, 1:] == both.positions[:, :-1], axis=2)
    assert 0 < stay[:, 39].mean() < 1  # some have refused the first proposal of the second part
    f = both.summaries["f"]
    c = np.asarray(jax.vmap(ensemble.coordinates)(jnp.asarray(both.positions[:, 40])))
    assert np.allclose(SLOPE * c[:, 0], f[:, 40], atol=1e-3)


def test_learners_and_witnesses_have_no_draw_in_common(ensemble):
    bank = Bank.of(ensemble, jr.key(6), 400)
    u, c = bank.drawn(jr.key(7), 300)
    rows = {tuple(row) for row in np.asarray(bank.u[:200])}
    assert all(tuple(row) in rows for row in np.asarray(u[:150]))
    assert not any(tuple(row) in rows for row in np.asarray(u[150:]))
    assert np.allclose(np.asarray(jax.vmap(bank.coordinates)(u)), np.asarray(c), atol=1e-3)


def test_log_z_of_an_ensemble_is_told_by_its_draws_and_not_by_a_ladder(ensemble, monkeypatch):
    model = TiltedModel(ensemble, Line())
    draws = independent_chains(model, jr.key(3), chains=16, draws=300, warmup=50).positions
    monkeypatch.setattr(log_normalizer, "annealed", None)

    def found(tolerance):
        return log_normalizer.log_normalizer(
            model,
            key=jr.key(4),
            draws=draws,
            exact_draws=20_000,
            settings=LadderSettings(tolerance=tolerance),
        )

    truth = np.log(WEIGHTS @ np.exp(SLOPE * MEANS + SLOPE**2 / 2))
    told = found(0.1)
    assert told.holds
    assert abs(told.mean - truth) < 4 * told.standard_error < 0.1
    with pytest.raises(TypeError):  # power: where the interval is too wide it is climbed
        found(1e-4)


def test_scores_of_an_ensemble_are_those_of_its_own_program(ensemble):
    """f, log q and the volumes of cells: integers are spread afresh for each draw."""
    model = TiltedModel(ensemble, Line())
    rows = Rows(np.arange(-3, 4)[:, None], ensemble.units, integers=True)
    found = score(model, rows, jr.key(5), draws=3)
    whole = rows.through(ensemble)
    scored = likelihood._score(model, whole, whole.keys(jr.key(5), 3))
    f, log_q, log_weight = (np.asarray(x, np.float64)[:, : len(rows)].T for x in scored)
    np.testing.assert_allclose(found.f, f, atol=1e-5)
    np.testing.assert_allclose(found.log_q, log_q + log_weight, atol=1e-5)
    assert np.ptp(found.f, axis=1).min() > 0.01
    assert np.abs(log_weight).max() > 0.04  # power: they are not there for nothing
