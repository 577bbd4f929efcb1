"""Completion where the answer is known: models that are one normal density, or two."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal, truncnorm

from tiltflow.backbones import CouplingFlow, Ensemble, Generator, fit_units
from tiltflow.backbones.density import MixtureDensity
from tiltflow.errors import InputError
from tiltflow.model.completion import resampled, verdict_on
from tiltflow.model.completion.boxed import boxed
from tiltflow.model.completion.islands import Islands
from tiltflow.model.completion.rough import Mixture, given
from tiltflow.model.completion.rows import Seen
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import ReadsCoordinates

DIM, DRAWS = 3, 1_200
LOG_Z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0)
NAN = np.nan
ROWS = np.array(
    [[1.5, NAN, NAN], [NAN, -2.0, 0.5], [0.3, 1.0, -1.0], [2.0, NAN, 1.0], [NAN, NAN, NAN]]
)  # one pattern each; one is whole


class Quadratic(ReadsCoordinates):
    """f(c) = s.c - c' B c / 2."""

    s: jnp.ndarray
    b: jnp.ndarray

    def __call__(self, c):
        return self.s @ c - 0.5 * c @ self.b @ c


def flow_on(units):
    """It begins as the identity: what is left of it is its units."""
    return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))


@pytest.fixture(scope="module")
def normal():
    """A model that is N(mean, covariance): a linear flow and a quadratic tilt."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, DIM)) @ np.array([[1.0, 0.8, 0.0], [0.0, 0.9, -0.7], [0.0, 0.0, 1.2]])
    units = fit_units("whiten", x + 1.0, integers=False)
    root = 0.7 * rng.normal(size=(DIM, DIM))
    tilt = Quadratic(jnp.asarray([0.6, -0.4, 0.8]), jnp.asarray(root @ root.T, jnp.float32))
    precision = np.eye(DIM) + root @ root.T
    of_c = np.linalg.solve(precision, [0.6, -0.4, 0.8]), np.linalg.inv(precision)
    back = np.asarray(units.inverse, np.float64)
    truth = back @ of_c[0] + np.asarray(units.mean), back @ of_c[1] @ back.T
    return FittedModel(TiltedModel(flow_on(units), tilt), None, LOG_Z, False, 0.3, 8), truth


def conditional(mean, covariance, row):
    """Mean and covariance of the columns that are NaN, given the others; which they are."""
    m, s = np.flatnonzero(np.isnan(row)), np.flatnonzero(~np.isnan(row))
    slopes = covariance[np.ix_(m, s)] @ np.linalg.inv(covariance[np.ix_(s, s)])
    left = covariance[np.ix_(m, m)] - slopes @ covariance[np.ix_(s, m)]
    return mean[m] + slopes @ (row[s] - mean[s]), left, m


def check_moments(completed, truth):
    """Means and second moments of each row's draws within 4.5 standard errors."""
    for row, x, ess in zip(ROWS, completed.values, completed.ess, strict=True):
        if not np.isnan(row).any():
            continue
        mean, covariance, missing = conditional(*truth, row)
        away = x[:, missing] - mean
        second = away[:, :, None] * away[:, None, :]
        number = min(ess, len(x))
        for found, expected in ((away, 0 * mean), (second, covariance)):
            error = found.std(axis=0) / np.sqrt(number)
            assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * error)


@pytest.fixture(scope="module")
def completed(normal):
    return normal[0].complete(ROWS, draws=DRAWS)


@pytest.fixture(scope="module")
def by_chains(normal):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampled, "highest_trusted_k", lambda number: -1.0)
        return normal[0].complete(ROWS, draws=DRAWS)


def test_chains_draw_the_same(normal, completed, by_chains):
    check_moments(by_chains, normal[1])
    assert by_chains.verdict["status"] == "ok", by_chains.verdict
    assert np.isnan(by_chains.pareto_k).all()
    assert np.all(by_chains.rhat[[0, 1, 3, 4]] < 1.02)
    assert not np.array_equal(by_chains.values[0], completed.values[0])


def test_draws_are_those_of_the_conditional_normal(normal, completed):
    check_moments(completed, normal[1])
    assert completed.verdict["status"] == "ok", completed.verdict
    there = ~np.isnan(ROWS)
    for row, x, seen in zip(ROWS, completed.values, there, strict=True):
        np.testing.assert_array_equal(x[:, seen], np.broadcast_to(row[seen], (DRAWS, seen.sum())))
    assert np.isfinite(completed.values).all()
    assert np.isnan(completed.ess[2])
    assert np.all(completed.pareto_k[[0, 1, 3]] < 0.5)


@pytest.mark.parametrize("how", ["completed", "by_chains"])
@pytest.mark.parametrize("broken", ["the tilt is forgotten", "the covariance is the marginal one"])
def test_power_of_the_moments(normal, how, broken, request):
    completed = request.getfixturevalue(how)
    fitted, (mean, covariance) = normal
    if broken == "the tilt is forgotten":
        units = fitted.model.backbone.units
        back = np.asarray(units.inverse, np.float64)
        wrong = np.asarray(units.mean, np.float64), back @ back.T
    else:
        wrong = mean, np.diag(np.diagonal(covariance))
    with pytest.raises(AssertionError):
        check_moments(completed, wrong)


def check_mean_of(x, expected, number):
    """The mean of draws, and of a sample that is large, within 4.5 standard errors."""
    error = np.sqrt(x.var() / number + expected.var() / len(expected))
    assert abs(x.mean() - expected.mean()) < 4.5 * error


@pytest.fixture(scope="module", params=["weights", "chains"])
def cells(request, normal):
    """The same model of integers, with wide cells; what 2 in the first column says of the last."""
    fitted, (mean, covariance) = normal
    integers = FittedModel(fitted.model, None, LOG_Z, True, 0.3, 8)
    rng, scale = np.random.default_rng(5), np.sqrt(covariance[0, 0])
    low, high = (2 - mean[0]) / scale, (3 - mean[0]) / scale
    in_cell = truncnorm(low, high).rvs(200_000, random_state=rng) * scale + mean[0]

    def others(first):
        slopes = covariance[0, 1:] / covariance[0, 0]
        centre = mean[1:] + (first - mean[0])[:, None] * slopes
        left = covariance[1:, 1:] - np.outer(slopes, slopes) * covariance[0, 0]
        return np.floor(centre + rng.multivariate_normal([0, 0], left, size=len(first)))

    rows = np.array([[2.0, NAN, NAN]] * 3)  # as many as elsewhere: the same program
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "chains":
            patch.setattr(resampled, "highest_trusted_k", lambda number: -1.0)
        return integers.complete(rows, draws=DRAWS, seed=1), others(in_cell), others


def test_an_integer_that_is_there_is_all_of_its_cell(cells):
    completed, expected, others = cells
    x = completed.values[..., 1:].reshape(-1, 2)
    np.testing.assert_array_equal(x, np.floor(x))
    assert np.all(completed.values[..., 0] == 2.0)
    number = np.minimum(completed.ess, DRAWS).sum()
    for column in (0, 1):
        check_mean_of(x[:, column], expected[:, column], number)
    at_its_low_end = others(np.full(200_000, 2.0))
    with pytest.raises(AssertionError):  # power
        check_mean_of(x[:, 0], at_its_low_end[:, 0], number)


SHIFT, BEND = np.array([0.3, 0.8, -0.5]), np.diag([0.2, 1.5, 0.7])
BEND[1, 2] = BEND[2, 1] = 0.5


class TwoNormals:
    """An ensemble of one mixture of two narrow normals, tilted; and the same in closed form.

    In data units; `given` and `draws` are of the tilted one.
    """

    def __init__(self, shift, bend):
        units = fit_units(
            "standardise", np.random.default_rng(2).normal(size=(400, DIM)), integers=False
        )
        means = np.array([[0.0, 1.5, 1.0], [0.4, -1.5, -1.0]])
        scales = np.array([[1.0, 0.4, 0.5], [1.0, 0.5, 0.4]])
        whiteners = np.stack([np.diag(-np.log(s)) for s in scales])
        member = MixtureDensity(
            *(jnp.asarray(a, float) for a in (np.log([0.7, 0.3]), means, whiteners))
        )
        q = Ensemble(flow_on(units), (member,), jnp.log(jnp.asarray([1e-6, 1 - 1e-6])))
        tilt = Quadratic(jnp.asarray(shift, jnp.float32), jnp.asarray(bend, jnp.float32))
        self.model = TiltedModel(q, tilt)
        self.fitted = FittedModel(self.model, None, LOG_Z, False, 0.3, 8)
        back = np.diagonal(np.asarray(units.inverse, np.float64))
        self.log_weights, self.means, self.covariances = [], [], []
        for weight, mean, scale in zip([0.7, 0.3], means, scales, strict=True):
            precision = np.diag(scale**-2.0)
            after, pull = precision + bend, precision @ mean + shift
            centre = np.linalg.solve(after, pull)
            level = 0.5 * pull @ centre - 0.5 * mean @ precision @ mean
            level += 0.5 * np.log(np.linalg.det(precision) / np.linalg.det(after))
            self.log_weights.append(np.log(weight) + level)
            self.means.append(centre * back + np.asarray(units.mean))
            self.covariances.append(np.linalg.inv(after) * np.outer(back, back))

    def draws(self, number, rng):
        weights = np.exp(np.asarray(self.log_weights) - np.logaddexp(*self.log_weights))
        which = rng.random(number) < weights[0]
        first, second = (
            rng.multivariate_normal(mean, covariance, size=number)
            for mean, covariance in zip(self.means, self.covariances, strict=True)
        )
        return np.where(which[:, None], first, second)

    def given(self, row):
        """Mean and second moments of what is missing, and the weight of the first normal."""
        log_w, parts = [], []
        for level, mean, covariance in zip(
            self.log_weights, self.means, self.covariances, strict=True
        ):
            centre, left, missing = conditional(mean, covariance, row)
            s = np.setdiff1d(np.arange(DIM), missing)
            own = multivariate_normal(mean[s], covariance[np.ix_(s, s)])
            log_w.append(level + own.logpdf(row[s]))
            parts.append((centre, left + np.outer(centre, centre)))
        odds = np.exp(log_w[0] - np.logaddexp(*log_w))
        first, second = (odds * a + (1 - odds) * b for a, b in zip(*parts, strict=True))
        return first, second, odds


ROWS_OF_TWO = np.column_stack([[1.0, -1.0, 0.2, 2.5], *[np.full(4, NAN)] * 2])


@pytest.fixture(scope="module", params=["weights", "particles"])
def how(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "particles":
            patch.setattr(resampled, "highest_trusted_k", lambda number: -1.0)
        yield request.param


@pytest.fixture(scope="module")
def of_two(how):
    two = TwoNormals(SHIFT, BEND)
    return two, two.fitted.complete(ROWS_OF_TWO, draws=DRAWS, seed=3)


def check_two(two, found):
    """Means and second moments of each row's draws within 4.5 standard errors."""
    for row, x, ess in zip(ROWS_OF_TWO, found.values[..., 1:], found.ess, strict=True):
        mean, second, _ = two.given(row)
        squares = x[:, :, None] * x[:, None, :]
        for seen, expected in ((x, mean), (squares, second)):
            error = seen.std(axis=0) / np.sqrt(min(ess, len(x)))
            assert np.all(np.abs(seen.mean(axis=0) - expected) < 4.5 * error)


def test_draws_of_an_ensemble_are_those_of_the_conditional_mixture(of_two, how):
    two, found = of_two
    check_two(two, found)
    assert found.verdict["status"] == "ok", found.verdict
    assert np.isnan(found.pareto_k).all() == (how == "particles")
    assert np.isnan(found.rhat).all()


def test_power_of_the_conditional_mixture(of_two):
    untilted = TwoNormals(0 * SHIFT, 0 * BEND)
    with pytest.raises(AssertionError):
        check_two(untilted, of_two[1])


def test_an_integer_under_an_ensemble_is_all_of_its_cell(of_two, how):
    """Against draws of the closed form that fall into the cells."""
    two, _ = of_two
    integers = FittedModel(two.model, None, LOG_Z, True, 0.3, 8)
    rows = np.array([[1.0, NAN, NAN], [NAN, 0.0, NAN], [NAN, 1.0, -1.0], [-1.0, -1.0, NAN]])
    draws = 400  # with so many no other program than before
    found = integers.complete(rows, draws=draws, seed=1)
    assert found.verdict["status"] == "ok", found.verdict
    truth = two.draws(400_000, np.random.default_rng(4))
    for row, x, ess in zip(rows, found.values, found.ess, strict=True):
        there = ~np.isnan(row)
        inside = np.floor(truth[np.all(np.floor(truth[:, there]) == row[there], axis=1)])
        assert len(inside) > 500
        for column in np.flatnonzero(~there):
            check_mean_of(x[:, column], inside[:, column], min(ess, draws))
            check_mean_of(x[:, column] ** 2, inside[:, column] ** 2, min(ess, draws))
    at_all = np.floor(truth)
    with pytest.raises(AssertionError):  # power: what is there is forgotten
        check_mean_of(found.values[3][:, 2], at_all[:, 2], min(found.ess[3], draws))


def test_a_normal_density_in_boxes_is_drawn_with_its_density_and_mass():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 4, 4))
    of = Mixture(
        np.log([0.4, 0.6]), rng.normal(size=(2, 4)), root @ root.swapaxes(1, 2) + np.eye(4)
    )
    low = np.array([[-0.3, 1.0, 0.0, 0.2]])
    width = np.array([[0.8, 0.0, 0.0, 1.5]])  # one in a box, one as it is, one missing, one boxed
    missing = np.array([False, False, True, False])
    (one,) = boxed(of, Seen(low, low + width / 2, width, np.zeros(1, bool)), missing, rng)
    assert one.order.tolist() == [0, 3, 2]
    k = one.picked(20_000, rng)
    noise = rng.standard_normal((20_000, 3))
    values = one.at(k, noise)
    np.testing.assert_allclose(one.noise_of(k, values), noise, atol=1e-6)
    assert np.all((values[:, :2] >= low[0, [0, 3]]) & (values[:, :2] <= (low + width)[0, [0, 3]]))
    left = given(of, low, np.array([True, False, True, True]))  # exactly, of numpy and scipy
    order = np.ix_([0, 2, 1], [0, 2, 1])
    density, mass = 0.0, 0.0
    for weight, mean, covariance in zip(
        np.exp(left.log_weights[0]), left.means[0], left.covariances, strict=True
    ):
        mean, covariance = mean[[0, 2, 1]], covariance[order]
        density = density + weight * multivariate_normal(mean, covariance).pdf(values)
        boxes = multivariate_normal(mean[:2], covariance[:2, :2])
        top, bottom = one.high, one.low
        mass += weight * boxes.cdf(top, lower_limit=bottom)
    weights = density / np.exp(np.logaddexp.reduce(one.each(values), axis=0))
    error = weights.std() / np.sqrt(len(weights))
    assert abs(weights.mean() - mass) < 4.5 * error
    assert weights.std() < 0.5 * mass
    without = density / np.exp(one.each(values)[0])  # power: one component alone
    assert abs(without.mean() - mass) > 4.5 * error


def test_islands_that_disagree_are_worth_few_draws():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 32, 3))
    even = Islands(values, values[..., 0], np.zeros(8))
    assert 120 < even.ess(0) <= 256
    apart = Islands(values + 2 * np.arange(8)[:, None, None], values[..., 0], np.zeros(8))
    assert apart.ess(0) < 20
    assert Islands(values, values[..., 0], np.arange(8) * 5.0).ess(0) < 33
    assert set(map(tuple, even.drawn(256, rng))) <= set(map(tuple, values.reshape(-1, 3)))


def test_a_row_without_a_density_stays_as_it_is_and_is_told(normal):
    rows = ROWS.copy()
    rows[0, 0] = 3e38
    found = normal[0].complete(rows, draws=DRAWS)
    assert np.isnan(found.values[0, :, 1:]).all()
    assert np.isfinite(found.values[1:]).all()
    assert found.verdict["status"] == "failed"
    assert found.verdict["parts"]["data"] == "failed"


@pytest.mark.parametrize(
    ("rows", "how", "words"),
    [
        (np.zeros((2, DIM)), {}, "none of 2 rows has a gap; expected NaN"),
        (np.full((2, 2), NAN), {}, r"rows of shape \(2,\); expected \(3,\)"),
        (np.array([[NAN, 1, 0], [NAN, np.inf, 0]]), {}, "row 1, column 1: inf; expected a finite"),
        (ROWS, {"draws": 0}, "draws is 0; expected a whole number, 1 to 10,000"),
        (ROWS, {"seed": -1}, "the seed is -1"),
    ],
)
def test_what_cannot_be_completed_is_an_input_error(normal, rows, how, words):
    with pytest.raises(InputError, match=words):
        normal[0].complete(rows, **how)


def test_what_is_there_has_to_be_on_the_grid(normal):
    integers = FittedModel(normal[0].model, None, LOG_Z, True, 0.3, 8)
    with pytest.raises(InputError, match=r"row 0, column 0: 1.5; expected an integer"):
        integers.complete(ROWS)


def test_a_generator_has_no_exact_density():
    generator = Generator.from_function(lambda z: z, (DIM,), noise=0.1)
    fitted = FittedModel(TiltedModel(generator, lambda x: 0.0 * x[0]), None, LOG_Z, False, 0.3, 8)
    with pytest.raises(InputError, match=r"a Generator, .* expected a flow or an ensemble"):
        fitted.complete(ROWS)


def test_rows_whose_chains_disagree_fail_the_verdict():
    fine, poor = np.full(40, 1.0), np.full(40, 500.0)
    assert verdict_on(fine, poor, fine < 0, 0.0)["status"] == "ok"
    apart, few = fine.copy(), poor.copy()
    apart[0], few[1] = 1.06, 99.0
    assert verdict_on(apart, few, fine < 0, 0.0)["status"] == "caution"
    apart[:3] = np.inf
    assert verdict_on(apart, poor, fine < 0, 0.0)["status"] == "failed"
    assert verdict_on(fine, poor, fine < 0, 0.02)["status"] == "failed"
