"""A density in, draws, evidence and verdict out: closed forms, and twins that must not be ok."""

import json
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import tiltflow
from tiltflow import InputError, Interval, Positive, Real
from tiltflow.fitting.posterior import improvement
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.normalizer.mean_error import of_chains

LOG_2PI = math.log(2 * math.pi)


def curved(x, data):
    """A bent normal density in the plane, with a constant that is an argument."""
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - 0.5 * x[0] ** 2) / 0.5) ** 2 - data


EVIDENCE = math.log(2 * math.pi * 0.5)


def run(function, parameters, start=None, **settings):
    quick = {
        "draws": 2_000,
        "log_z_within": 0.05,
        "evaluations": 250_000,
        "tell": lambda line: None,
    }
    return tiltflow.posterior(function, parameters, start=start, **quick | settings)


@pytest.fixture(scope="module")
def bent():
    return run(curved, 2, data=0.0)


def test_a_curved_density_without_a_start(bent):
    z = bent.log_z
    assert bent.verdict.status == "ok", str(bent)
    assert abs(z.mean - EVIDENCE) < 4 * z.standard_error
    assert z.standard_error < 0.03
    assert z.lower < EVIDENCE < z.upper
    x = bent.draws["x"]
    assert x.shape[2:] == (2,)
    assert x.shape[:2] == bent.log_density.shape
    for moment, truth in ((x[..., 0] ** 2, 1.0), (x[..., 1], 0.5)):
        error = 4 * moment.std() / math.sqrt(bent.worst["ess_bulk"])
        assert abs(moment.mean() - truth) < error
    assert bent.budget.used <= 1.1 * 250_000
    assert str(bent).startswith("ok")
    assert "all modes" not in str(bent)


def test_log_prob_is_the_normalised_density(bent):
    x = np.array([[0.0, 0.0], [1.0, 0.2]])
    want = [float(curved(jnp.asarray(row), 0.0)) - bent.log_z.mean for row in x]
    np.testing.assert_allclose(bent.log_prob(x), want, atol=1e-3)
    of_draws = bent.draws["x"].reshape(-1, 2)[:7]
    told = bent.log_density.reshape(-1)[:7] - bent.log_z.mean
    np.testing.assert_allclose(bent.log_prob(of_draws), told, atol=1e-3)
    assert bent.sample(11)["x"].shape == (11, 2)


def test_a_constant_of_a_billion_changes_nothing(bent):
    far = run(curved, 2, data=np.float64(1e9))
    assert far.verdict.status == "ok", str(far)
    assert abs(far.log_z.mean + 1e9 - EVIDENCE) < 4 * far.log_z.standard_error + 1e-6
    assert far.target.precise
    assert not bent.target.precise


def test_a_density_that_rounds_by_itself_is_not_ok():
    """The power twin: what float32 has lost inside of the function no one brings back."""
    lost = run(lambda x: jnp.float32(-0.5 * jnp.sum(x**2)) - jnp.float32(1e8), 2)
    assert lost.verdict.status == "failed"
    assert "rounding" in [check.name for check in lost.verdict.broken]


@pytest.fixture
def slow_clock(monkeypatch):
    """Seconds that pass with evaluations, 25,000 of them a second, and with nothing else."""
    now, spend = [0.0], Budget.spend
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def spending(self, stage, evaluations, words="", units=None):
        now[0] += evaluations / 25_000
        spend(self, stage, evaluations, words, units)

    monkeypatch.setattr(Budget, "spend", spending)


@pytest.mark.usefixtures("slow_clock")
def test_seconds_are_kept_and_a_clock_that_is_not_looked_at_keeps_none(monkeypatch):
    asked = {"data": 0.0, "log_z_within": 1e-5, "evaluations": 250_000}
    assert_within(run(curved, 2, **asked, seconds=4.0).budget.elapsed, 4.0)
    # The power twin: seconds are not asked for.
    left = Budget.left
    monkeypatch.setattr(Budget, "left", lambda self: (math.inf, left(self)[1]))
    with pytest.raises(AssertionError):
        assert_within(run(curved, 2, **asked, seconds=4.0).budget.elapsed, 4.0)


@pytest.mark.slow
def test_seconds_of_the_wall_are_kept(bent):
    """Programs are compiled by now; what is asked for would take many times as long."""
    begun = time.monotonic()
    run(curved, 2, data=0.0, log_z_within=1e-5, seconds=8.0)
    assert_within(time.monotonic() - begun, 8.0)


def assert_within(spent, limit):
    assert spent <= 1.1 * limit


def test_a_budget_of_evaluations_that_is_not_asked_spends_more(bent, monkeypatch):
    """What a run without a start keeps is not kept where nobody asks what is left."""
    assert_within(bent.budget.used, 250_000)
    monkeypatch.setattr(Budget, "left", lambda self: (math.inf, math.inf))
    monkeypatch.setattr(improvement, "MOST_DRAWS", 80_000)
    ignored = run(curved, 2, data=0.0, log_z_within=1e-5)
    with pytest.raises(AssertionError):
        assert_within(ignored.budget.used, 250_000)


@pytest.mark.slow
@pytest.mark.parametrize("evaluations", [20_000, 100_000, 1_000_000])
def test_evaluations_are_kept(evaluations):
    post = run(curved, 2, data=0.0, log_z_within=1e-5, seconds=None, evaluations=evaluations)
    assert_within(post.budget.used, evaluations)


MEANS = np.array([[-4.0, 0.0, 0.0], [4.0, 1.0, 0.0]])


def two_modes(x):
    each = -0.5 * jnp.sum((x - MEANS) ** 2, axis=-1) + jnp.log(jnp.array([0.3, 0.7]))
    return jax.nn.logsumexp(each) - 1.5 * LOG_2PI


@pytest.fixture(scope="module")
def of_two():
    rng = np.random.default_rng(0)
    return run(two_modes, 3, 6 * rng.standard_normal((500, 3)), seed=3)


def assert_two_modes(shares, errors):
    """Two modes are found, of .7 and .3 of the mass."""
    assert len(shares) == 2
    for share, error, truth in zip(shares, errors, (0.7, 0.3), strict=True):
        assert abs(share - truth) < 4 * error
        assert error < 0.05


def test_two_modes_are_weighed(of_two):
    post = of_two
    assert post.verdict.status == "ok", str(post)
    assert abs(post.log_z.mean) < 4 * post.log_z.standard_error
    assert_two_modes([mode.share for mode in post.modes], [mode.error for mode in post.modes])
    inside = (post.draws["x"][..., 0] < 0).astype(float)
    assert abs(inside.mean() - 0.3) < 5 * of_chains(inside).variance ** 0.5
    assert np.mean((post.labels == 1) == (inside == 1)) > 0.999
    assert all(mode.found_by == 2 for mode in post.modes)
    assert sum(mode.share for mode in post.modes) == pytest.approx(1.0)


def test_labels_by_overlap_of_components_would_join_them(of_two):
    """The power twin: where components are joined as soon as a third one lies over both."""
    y = of_two.positions.reshape(-1, 3).astype(np.float64)
    z = of_two.proposal.noise(of_two.target, y)
    shares = np.exp(of_two.proposal.base.joint(z))
    shares /= shares.sum(axis=1, keepdims=True)
    joined = (shares.T @ shares > 1e-12).all()  # the component around all is one of them
    labels = np.zeros(len(y), int) if joined else np.argmax(shares, axis=1)
    with pytest.raises(AssertionError):
        assert_two_modes(np.bincount(labels) / len(y), [0.01])


def beta_and_gamma(p, rate):
    return jnp.log(p) + 3 * jnp.log1p(-p) + 2 * jnp.log(rate) - 1.5 * rate


def test_bounded_parameters_by_name_from_a_prior(tmp_path):
    """Beta(2, 4) and Gamma(3, 1.5), started from distributions of SciPy."""
    kinds = {"p": Interval(0, 1), "rate": Positive()}
    prior = {"p": stats.uniform(), "rate": stats.expon(scale=3)}
    post = run(beta_and_gamma, kinds, prior, out=tmp_path / "run")
    truth = math.lgamma(2) + math.lgamma(4) - math.lgamma(6) + math.lgamma(3) - 3 * math.log(1.5)
    assert post.verdict.status == "ok", str(post)
    assert abs(post.log_z.mean - truth) < 4 * post.log_z.standard_error
    assert stats.kstest(post.sample(400, seed=1)["p"], stats.beta(2, 4).cdf).pvalue > 1e-3
    assert (
        stats.kstest(post.sample(400, seed=2)["rate"], stats.gamma(3, scale=1 / 1.5).cdf).pvalue
        > 1e-3
    )
    saved = json.loads((tmp_path / "run" / "posterior.json").read_text())
    assert saved["verdict"]["status"] == "ok"
    with np.load(tmp_path / "run" / "draws.npz") as arrays:
        np.testing.assert_array_equal(arrays["rate"], post.draws["rate"])
    factor = post.compare(post)
    assert factor.mean == 0
    assert factor.low < 0 < factor.high
    assert factor.holds


@pytest.mark.parametrize(
    ("function", "parameters", "settings", "words"),
    [
        (lambda x: x, 2, {}, r"returned shape \(2,\) for one example .*expected a scalar"),
        (lambda x: jnp.sum(x > 0), 2, {}, "returned int32; expected a real number"),
        (lambda x: x["mu"], {"nu": Real()}, {}, "failed on one example .*KeyError"),
        (
            lambda x: -float(x[0]),
            2,
            {},
            "wants the values themselves, .* expected a function in JAX",
        ),
        (lambda x: np.linalg.norm(np.asarray(x)), 2, {}, "wants the values themselves"),
        (lambda x: jnp.nan * jnp.sum(x), 2, {}, "NaN at all 64 draws of the start, such as x ="),
        (lambda x: jnp.inf + jnp.sum(x), 2, {}, r"\+inf at draw 0"),
        ("density", 2, {}, "expected a function"),
        (lambda x: -jnp.sum(x**2), 2, {"seconds": -1.0}, "seconds is -1.0"),
        (lambda x: -jnp.sum(x**2), 2, {"draws": 3}, "draws is 3"),
        (lambda x: -jnp.sum(x**2), 2, {"log_z_within": 0.0}, "log_z_within is 0.0"),
        # A density of a batch that adds it up, where one example is meant.
        (lambda x: -jnp.sum(x**2, axis=1), Real(), {}, r"failed on one example \(x \(\)\)"),
        (lambda x: x.astype(jnp.complex64).sum(), 2, {}, "returned complex64"),
        (lambda mu: -(mu**2), {"mu": Real()}, {"start": {"nu": np.zeros(9)}}, "no 'mu'"),
        (lambda p: -p, {"p": Interval(0, 1)}, {"start": {"p": [0.5, 2.0]}}, "'p' has 1 of 2 draws"),
        (lambda p: -p, {"p": Interval(0, 1)}, {"start": {"p": ["a"]}}, "'p' does not hold numbers"),
        (lambda t: -t, {"t": Positive()}, {"start": {"t": stats.norm(-9, 1)}}, "'t' has 2000 of"),
        (lambda t: jnp.log(-t), {"t": Positive()}, {}, "NaN at all .* draws of the start, .* t ="),
        (lambda x: -jnp.sum(x**2), 2, {"ess": 1e9}, "ess is 1000000000.0"),
        (lambda x: -jnp.sum(x**2), 2, {"rhat": 0.9}, "rhat is 0.9"),
        (lambda x: -jnp.sum(x**2), 2, {"start": np.zeros((9, 3))}, r"has shape \(9, 3\)"),
        (lambda x: -jnp.sum(x**2), 2, {"start": np.zeros((9, 2))}, r"draws of 'x\[0\]' in the"),
        (lambda x: -jnp.sum(x**2), 2, {"start": np.ones((3, 2))}, "start has 3 draws; expected 8"),
        (lambda x: -jnp.sum(x**2), 2, {"start": np.ones((0, 2))}, "'x' has no draws"),
        (lambda x: -jnp.sum(x**2), 2, {"seconds": "60"}, "seconds is '60'"),
        (lambda x: -jnp.sum(x**2), 2, {"evaluations": "1e5"}, "evaluations is '1e5'"),
        (lambda x: -jnp.sum(x**2), 2, {"log_z_within": "a"}, "log_z_within is 'a'"),
        (lambda x: -jnp.sum(x**2), 2, {"seed": "a"}, "the seed is 'a'"),
        (lambda x: -jnp.sum(x**2), 2, {"data": "abc"}, "data is 'abc'; expected arrays"),
        (lambda x: "high", 2, {}, "it returned a str; expected a number"),
        (lambda a, c: a + c, {"a": Real(), "b": Real()}, {}, "takes a, c, and .* name them alike"),
        (lambda a, b: a + b, {"a": Real()}, {}, "its argument 'b' is no parameter: add it there"),
        (lambda a: -(a**2), {"a": Real()}, {"data": 1.0}, "give it an argument for it"),
        (lambda a: -a, {"a": Real(), "b": Real()}, {}, "it gets a dict of a, b, unless"),
        (lambda a, b: -a, 2, {}, "it takes a, b, but gets one array"),
        (lambda a: -a, {"a": Real()}, {"start": {"a": np.ones(9), "b": [1]}}, "'b', which is no"),
    ],
)
def test_bad_input_is_one_line(function, parameters, settings, words):
    with pytest.raises(InputError, match=words) as found:
        run(function, parameters, **settings)
    assert "\n" not in str(found.value)


def test_a_density_of_a_batch_is_found_out():
    from tiltflow.fitting.posterior.parameters import Parameters
    from tiltflow.fitting.posterior.probe import probed

    known = Parameters.of(3)
    assert probed(lambda x: -jnp.sum(x**2, axis=1), known, None).batched
    assert not probed(lambda x: -jnp.sum(x**2, axis=-1), known, None).batched


@pytest.mark.slow
def test_improper_densities_and_heavy_tails_are_not_ok():
    """Twins of what is right above: nothing here has the evidence that it seems to have."""
    rng = np.random.default_rng(0)
    flat = run(lambda x: -0.5 * jnp.sum(x[:-1] ** 2), 3, 3 * rng.standard_normal((500, 3)))
    assert flat.verdict.status in ("caution", "failed"), str(flat)
    cauchy = run(lambda x: -jnp.sum(jnp.log1p(x**2)), 3, 3 * rng.standard_normal((500, 3)))
    truth = 3 * math.log(math.pi)
    z = cauchy.log_z
    right = abs(z.mean - truth) < 2.5 * z.standard_error and z.lower < truth < z.upper
    assert right or cauchy.verdict.status != "ok", str(cauchy)


@pytest.mark.slow
def test_a_region_where_it_is_not_a_number_is_named():
    def cut(a, b):
        return jnp.log(a + 0.5) - 0.5 * a**2 - 0.5 * b**2

    rng = np.random.default_rng(0)
    start = {"a": rng.standard_normal(500), "b": rng.standard_normal(500)}
    post = run(cut, {"a": Real(), "b": Real()}, start)
    assert post.verdict.status == "caution", str(post)
    assert any(check.name == "not a number near a" for check in post.verdict.broken)
