"""Densities that are not JAX: what they are given, what is counted, and moves without gradients."""

import math
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

import tiltflow
from tiltflow import InputError, Positive, Real
from tiltflow.fitting.posterior import free_moves
from tiltflow.fitting.posterior.foreign import Foreign
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.probe import probed
from tiltflow.fitting.posterior.tailed import NORMAL, Tailed
from tiltflow.fitting.posterior.target import gradients_at, values_at
from tiltflow.normalizer.mean_error import of_chains

SEEN = np.array([1.2, -0.3, 0.8, 2.1, 0.4, 1.7, 0.9, -0.6])
KINDS = {"mu": Real(), "s2": Positive()}


def in_scipy(mu, s2):
    """Normal data; mu given s2 is normal, 1 / s2 is of a gamma density."""
    scale = math.sqrt(s2)
    data = stats.norm.logpdf(SEEN, mu, scale).sum()
    return data + stats.norm.logpdf(mu, 0, 2 * scale) + stats.invgamma.logpdf(s2, 2, scale=1.0)


def evidence():
    """In closed form: Murphy 2007, "Conjugate Bayesian analysis of the Gaussian", section 6.3."""
    n, total = len(SEEN), SEEN.sum()
    precision, shape = 0.25 + n, 2 + n / 2
    rate = 1 + 0.5 * (SEEN @ SEEN - total**2 / precision)
    ratio = math.lgamma(shape) - math.lgamma(2) - shape * math.log(rate)
    return ratio + 0.5 * math.log(0.25 / precision) - n / 2 * math.log(2 * math.pi)


def run_without_gradient(seed):
    calls = []

    def counted(mu, s2):
        calls.append(mu)
        return in_scipy(mu, s2)

    post = tiltflow.posterior(
        counted, KINDS, gradient=None, evaluations=20_000, seconds=None, draws=500,
        log_z_within=0.2, tell=lambda line: None, seed=seed,
    )  # fmt: skip
    return post, len(calls)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_density_of_scipy_has_its_evidence_in_so_many_calls(seed):
    post, calls = run_without_gradient(seed)
    z = post.log_z
    assert post.verdict.status in ("ok", "draw more"), str(post)
    assert abs(z.mean - evidence()) < 4 * z.standard_error
    assert z.standard_error < 0.03
    variance = post.draws["s2"]
    rate = 1 + 0.5 * (SEEN @ SEEN - SEEN.sum() ** 2 / (0.25 + len(SEEN)))
    below = (variance < stats.invgamma(6, scale=rate).median()).astype(float)
    assert abs(below.mean() - 0.5) < 4 * of_chains(below).variance ** 0.5
    assert abs(calls - post.budget.used) < 20  # nothing is evaluated that is not counted
    assert calls <= 1.1 * 20_000
    assert "flux" not in [check.name for check in post.verdict.reasons]


BASE = Tailed(
    np.log([0.5, 0.3, 0.2]),
    np.array([[-1.0, 0.0], [1.5, 1.0], [0.0, 0.0]]),
    np.array([[[1.0, 0], [0.3, 0.8]], [[0.6, 0], [0, 1.0]], [[2.0, 0], [0, 2.0]]]),
    np.array([NORMAL, NORMAL, 3.0]),
)


def over_base(z):
    """A bent density over that of the mixture."""
    near = BASE.compiled()
    bent = -0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1] - 0.5 * z[:, 0] ** 2) / 0.7) ** 2
    return bent - jax.vmap(near)(z)


def errors_after_moves(lowered):
    """Standard errors of moments from their truths, after moves whose levels are lowered."""

    @jax.jit
    def moved(z, lowered):
        def one(carry, key):
            z, value = carry
            new = free_moves.move(key, z, value - lowered, over_base, BASE.compiled(), 6)
            value = jnp.where(new.is_accepted, new.value, value)
            return (new.position, value), None

        return jax.lax.scan(one, (z, over_base(z)), jr.split(jr.key(1), 40))[0][0]

    z = np.asarray(moved(jr.normal(jr.key(0), (4_000, 2)), lowered), np.float64)
    rest = (z[:, 1] - 0.5 * z[:, 0] ** 2) / 0.7
    seen = np.column_stack([z[:, 0], z[:, 0] ** 2 - 1, rest, rest**2 - 1, rest * z[:, 0]])
    return np.abs(seen.mean(axis=0)) / (seen.std(axis=0) / math.sqrt(len(seen)))


def test_moves_without_gradients_leave_a_density_as_it_is():
    assert errors_after_moves(0.0).max() < 4.5
    assert errors_after_moves(1.0).max() > 6  # power: levels that are too low


def both(mu, tau):
    return -0.5 * np.sum(mu**2, axis=-1) / tau**2 - tau


def slopes_of_both(mu, tau):
    return {"mu": -mu / tau**2, "tau": np.sum(mu**2) / tau**3 - 1}


def in_jax(mu, tau):
    return -0.5 * jnp.sum(mu**2, axis=-1) / tau**2 - tau


def test_a_gradient_of_the_users_is_that_of_the_same_density_in_jax():
    known = Parameters.of({"mu": Real(3), "tau": Positive()})
    y = np.random.default_rng(0).normal(size=(5, 4))
    want = gradients_at(probed(in_jax, known, None), y)
    target = probed(both, known, None, slopes_of_both)
    found = gradients_at(target, y)
    for one, other in zip(found, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert target.differentiable
    assert not probed(both, known, None, None).differentiable
    wrong = probed(both, known, None, lambda mu, tau: {"mu": mu, "tau": tau})
    assert np.abs(gradients_at(wrong, y)[1] - want[1]).max() > 0.1  # power


def test_batches_are_found_out_and_only_rows_that_are_numbers_are_evaluated():
    known = Parameters.of({"mu": Real(3), "tau": Positive()})
    taken = []

    def many(mu, tau):
        taken.append(np.shape(tau))
        return both(mu, tau)

    batched = Foreign(many, None, known, None, None)
    assert batched.function.batched
    single = Foreign(lambda mu, tau: float(both(mu, tau)), None, known, None, None)
    assert not single.function.batched
    target, y = probed(many, known, None, None), np.random.default_rng(0).normal(size=(5, 4))
    taken.clear()
    before = target.foreign.count
    value = values_at(target, y)
    assert np.isfinite(value).all()
    assert taken == [(5,)]
    assert target.foreign.count - before == 5
    # One that adds up over the batch is no batched one.
    assert not Foreign(lambda x: -np.sum(x**2), None, Parameters.of(2), None, None).function.batched


def test_a_pool_maps_and_gives_the_same():
    known, y = Parameters.of(2), np.random.default_rng(0).normal(size=(7, 2))

    def alone(x, data):
        return -float(np.sum((x - data) ** 2))

    plain = values_at(probed(alone, known, 1.5, None), y)
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(values_at(probed(alone, known, 1.5, None, pool), y), plain)
    np.testing.assert_allclose(plain, -np.sum((y - 1.5) ** 2, axis=1), rtol=1e-6)


def far_is_an_error(x):
    if x[0] > 0.5:
        raise ValueError(f"no table\nbeyond {x[0]:.0f}")
    return -float(np.sum(x**2))


@pytest.mark.parametrize(
    ("function", "settings", "words"),
    [
        (lambda x: x, {"gradient": None}, r"returned shape \(2,\) for one example"),
        (lambda x: x["mu"], {"gradient": None}, "failed on one example .*IndexError"),
        (lambda x: 3, {"gradient": None}, "returned int64; expected a real number"),
        (lambda x: 1j * x[0], {"gradient": None}, "returned complex128; expected a real number"),
        (far_is_an_error, {"gradient": None}, "failed: ValueError: no table beyond"),
        (both, {"gradient": "numpy"}, "gradient is 'numpy'; expected 'jax', a function, or None"),
        (lambda x: -jnp.sum(x**2), {"pool": map}, "pool is given, but the log-density is in JAX"),
        (lambda x: -np.sum(x**2), {"gradient": None, "pool": 3}, "pool is 3; expected an object"),
        (lambda x: -np.sum(x**2), {"gradient": lambda x: x[:1]}, r"has shape \(1,\); expected"),
        (lambda x: -np.sum(x**2), {"gradient": lambda x: {}}, "the gradient has no 'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_a_line(function, settings, words):
    with pytest.raises(InputError, match=words) as found:
        tiltflow.posterior(
            function, 2, evaluations=20_000, tell=lambda line: None,
            start=np.random.default_rng(0).normal(size=(50, 2)), **settings,
        )  # fmt: skip
    assert "\n" not in str(found.value)
