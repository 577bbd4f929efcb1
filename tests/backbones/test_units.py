"""Units are fitted to training data: bins, margins, edges, and what cannot be fitted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones import dequantise, fit_units
from tiltflow.backbones.units.bijections import TAIL, Units
from tiltflow.backbones.units.censored import CUT, WIDTH
from tiltflow.backbones.units.fitting import KINDS
from tiltflow.backbones.units.scale import fit_scale
from tiltflow.errors import InputError
from tiltflow.fitting.recipes import units_for
from tiltflow.fitting.settings import ModelSettings

NUMBER = 20_000


@pytest.fixture(scope="module")
def integers():
    """Skewed, bounded and bimodal columns, from -2 on."""
    rng = np.random.default_rng(0)
    columns = [
        rng.poisson(1.5, NUMBER).clip(0, 12),
        rng.integers(0, 10, NUMBER),
        np.where(rng.random(NUMBER) < 0.7, 1, 9),
    ]
    return np.stack(columns, axis=1).astype(float) - 2


def encoded(units, x):
    return np.asarray(jax.jit(jax.vmap(units.encode))(x))


def decoded(units, y):
    return np.asarray(jax.jit(jax.vmap(units.decode))(y))


def test_atoms_come_out_as_normal_tails():
    """And all levels between them evenly; the twin leaves the noise a box, as one scale does."""
    units = fit_units("censored", np.arange(256.0)[:, None], integers=True)
    noisy = dequantise(jr.key(3), jnp.repeat(jnp.asarray([0.0, 255.0]), NUMBER)[:, None])
    h = encoded(units, noisy)[:, 0] * float(units.scale) + float(units.mean)
    below, above = h[:NUMBER] + CUT, WIDTH - h[NUMBER:] + CUT
    tail = stats.truncnorm(-4, CUT).cdf
    for one in (below, above):
        assert stats.kstest(one, tail).pvalue > 1e-3
    box = np.asarray(noisy[:NUMBER, 0])
    assert stats.kstest((box - 0.5) * np.sqrt(12), tail).pvalue < 1e-3
    steps = np.diff(encoded(units, np.arange(1.0, 256)[:, None])[:, 0])
    np.testing.assert_allclose(steps, WIDTH / 254 / float(units.scale), rtol=1e-3)


def test_images_with_atoms_are_censored_before_a_glow():
    """Of few levels there is nothing between the ends."""
    x, model = np.random.default_rng(0).integers(0, 256, (50, 4, 4)), ModelSettings(backbone="glow")
    for values, kind in ((x, "Logit"), (np.where(x < 60, 0, x), "Censored"), (x % 2, "Logit")):
        limits = float(values.min()), float(values.max())
        found = units_for(model, values, integers=True, limits=limits)
        assert type(found).__name__ == kind


@pytest.mark.parametrize("largest", [1, 255, 65_535, 1_000_000])
def test_dequantised_integers_stay_in_their_bins(largest):
    """Also where float32 is too coarse for the noise: rounding must not reach the next bin."""
    x = jnp.asarray([0.0, largest - 1.0, -float(largest)])[:, None] + jnp.zeros(50_000)
    np.testing.assert_array_equal(jnp.floor(dequantise(jr.key(0), x)), x)


def test_dequantised_zeros_are_uniform():
    noise = np.asarray(dequantise(jr.key(1), jnp.zeros(NUMBER)))
    assert stats.kstest(noise, "uniform").pvalue > 1e-3
    assert stats.kstest(noise**1.05, "uniform").pvalue < 1e-3  # power


def check_standard_normal(y):
    """Mean, variance and quantiles of a column within 4 standard errors."""
    assert abs(y.mean()) < 4 / np.sqrt(len(y))
    assert abs(y.var() - 1) < 4 * np.sqrt(2 / len(y))
    for p in (0.01, 0.1, 0.5, 0.9, 0.99):
        error = np.sqrt(p * (1 - p) / len(y))
        assert abs(np.mean(y < stats.norm.ppf(p)) - p) < 4 * error


def test_gaussianised_training_columns_are_standard_normal(integers):
    units = fit_units("gaussianise", integers, integers=True)
    y = encoded(units, dequantise(jr.key(2), jnp.asarray(integers)))
    for column in y.T:
        check_standard_normal(column)
    standardised = encoded(fit_units("standardise", integers, integers=True), integers)
    for column in standardised.T:  # power: right moments, wrong quantiles
        with pytest.raises(AssertionError):
            check_standard_normal(column)


def test_whitened_columns_have_nearly_the_identity_as_covariance():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(NUMBER, 3)) @ np.array([[2.0, 0, 0], [1, 1.5, 0], [0, 0.3, 1]]).T + 5
    whitened = encoded(fit_units("whiten", x, integers=False), x)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.1)  # shrunk by 2%
    standardised = encoded(fit_units("standardise", x, integers=False), x)
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=1e-3)


def test_a_bin_holds_its_share_of_a_column(integers):
    """F is linear inside a bin, so that y at its edges are quantiles of the histogram."""
    units = fit_units("gaussianise", integers, integers=True)
    edges = jnp.arange(units.levels + 1.0)[:, None] + units.low + jnp.zeros(3)
    cdf = stats.norm.cdf(encoded(units, edges).astype(np.float64))
    np.testing.assert_allclose(np.diff(cdf, axis=0), np.asarray(units.mass).T, atol=1e-6)
    np.testing.assert_allclose(cdf[0], TAIL, rtol=1e-3)
    np.testing.assert_allclose(1 - cdf[-1], TAIL, rtol=1e-3)


UNITS = {
    "censored": lambda x: fit_units("censored", x, integers=True),
    "gaussianise": lambda x: fit_units("gaussianise", x, integers=True),
    "histogram": lambda x: fit_units("histogram", x + 0.1 * np.sin(x), integers=False),
    "logit": lambda x: fit_units("logit", x, integers=True),
    "whiten": lambda x: fit_units("whiten", x, integers=True),
    "one scale": lambda x: fit_scale(x, integers=True),
}


class Forgetful(NamedTuple):
    """Broken: the first column is left out of the log-determinant."""

    units: Units

    def encode(self, x):
        return self.units.encode(x)

    def encode_and_log_det(self, x):
        y, log_det = self.units.encode_and_log_det(x)
        return y, log_det - jnp.log(jax.jacfwd(self.units.encode)(x)[0, 0])


def check_log_det(units, x):
    """What is told of each row is log|det dy/dx| as autodiff has it."""

    def both(x):
        return units.encode_and_log_det(x)[1], jnp.linalg.slogdet(jax.jacfwd(units.encode)(x))[1]

    told, expected = jax.jit(jax.vmap(both))(x)
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", UNITS)
def test_log_determinants_are_those_that_autodiff_finds(integers, kind):
    units, x = UNITS[kind](integers), jnp.asarray(integers[:50] + 0.3, jnp.float32)
    check_log_det(units, x)
    slopes = np.asarray(jax.jit(jax.jacfwd(units.encode))(x[0]))
    assert kind == "whiten" or np.all(np.diag(slopes) > 0)
    assert kind == "whiten" or np.all(slopes == np.diag(np.diag(slopes)))  # number by number
    with pytest.raises(AssertionError):
        check_log_det(Forgetful(units), x)


@pytest.mark.parametrize("kind", ["censored", "gaussianise", "standardise", "whiten"])
def test_round_trips_at_the_edges_of_bins_and_beyond_the_range(integers, kind):
    units = fit_units(kind, integers, integers=True)
    low, high = integers.min(), integers.max() + 1
    x = np.concatenate([np.arange(low, high + 1), [low - 100, low - 1, high + 1, high + 100]])
    x = np.stack([x, x[::-1], x], axis=1)
    back = decoded(units, encoded(units, x))
    np.testing.assert_allclose(back, x, atol=2e-3)
    y = np.linspace(-40, 40, 81)[:, None] + np.zeros(3)
    np.testing.assert_allclose(encoded(units, decoded(units, y)), y, atol=0.05)


def test_logit_round_trips_in_its_interval(integers):
    units = fit_units("logit", integers, integers=True)
    x = np.linspace(integers.min(), integers.max() + 1, 41)[:, None] + np.zeros(3)
    back = decoded(units, encoded(units, x))
    np.testing.assert_allclose(back, x, atol=1e-4)


@pytest.mark.parametrize("kind", ["censored", "gaussianise", "standardise", "whiten"])
def test_units_are_increasing_and_continuous_across_the_range(integers, kind):
    """No jump at an edge of a bin or of the range: y changes as little as its slope says."""
    units = fit_units(kind, integers[:, :1], integers=True)
    edges = np.arange(integers.min(), integers.max() + 2)
    below, above = encoded(units, edges[:, None] - 2e-4), encoded(units, edges[:, None] + 2e-4)
    assert np.all(above > below)
    assert np.all(above - below < 0.3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("histogram", "tails")])
def test_a_constant_column_of_integers_is_fine(kind):
    x = np.stack([np.full(100, 3.0), np.arange(100.0) % 4], axis=1)
    units = fit_units(kind, x, integers=True)
    dequantised = dequantise(jr.key(4), jnp.asarray(x))
    y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(dequantised)
    assert np.all(np.isfinite(y))
    assert np.all(np.isfinite(log_det))
    np.testing.assert_allclose(decoded(units, y), dequantised, atol=1e-3)


@pytest.mark.parametrize("kind", ["standardise", "whiten", "histogram", "tails"])
def test_units_do_not_depend_on_the_unit_of_the_data(kind):
    """Picofarads are as good as farads: coordinates are the same, and so are the densities."""
    x = np.random.default_rng(8).lognormal(size=(2_000, 2)).astype(np.float32)
    y, log_det = jax.jit(jax.vmap(fit_units(kind, x, integers=False).encode_and_log_det))(x)
    for scale in (1e-12, 1e9):
        units = fit_units(kind, scale * x, integers=False)
        scaled, again = jax.jit(jax.vmap(units.encode_and_log_det))(scale * x)
        np.testing.assert_allclose(scaled, y, atol=2e-3)
        np.testing.assert_allclose(again + 2 * np.log(scale), log_det, atol=1e-2)


def test_auto_suits_the_columns(integers):
    rng = np.random.default_rng(5)

    def kind(x, integers):
        return type(fit_units("auto", x, integers=integers)).__name__

    assert kind(integers, True) == "HeavyTailed"
    images = integers[:900].reshape(-1, 3, integers.shape[1])
    assert kind(images, True) == "Gaussianise"
    assert kind(rng.normal(size=(2_000, 3)), False) == "Affine"
    assert kind(rng.gamma(3.0, size=(2_000, 3)), False) == "Histogram"
    far = rng.normal(size=(2_000, 3))
    far[0, 0] = 100.0  # a row that would carry the scale
    assert kind(far, False) == "HeavyTailed"
    assert kind(rng.normal(size=(40, 3)), False) == "Affine"
    assert kind(1000 * integers, True) == "Affine"


@pytest.mark.parametrize(
    ("kind", "scale", "are_integers", "expected"),
    [
        (
            "gauss",
            1,
            True,
            ["'gauss'", "censored, gaussianise, histogram, logit, standardise, tails, whiten"],
        ),
        ("histogram", 1, True, ["'histogram'", "integers", "gaussianise"]),
        ("gaussianise", 0.1, False, ["'gaussianise'", "continuous", "standardise"]),
        ("logit", 0.1, False, ["'logit'", "continuous", "standardise"]),
        ("gaussianise", 1000, True, ["levels", "1,024", "standardise"]),
        ("censored", 0, True, ["fewer than three levels", "gaussianise"]),
    ],
)
def test_errors_say_what_to_do_in_one_line(integers, kind, scale, are_integers, expected):
    with pytest.raises(InputError) as error:
        fit_units(kind, scale * integers, integers=are_integers)
    message = str(error.value)
    assert "\n" not in message
    for words in expected:
        assert words in message


@pytest.mark.parametrize("kind", ["censored", "gaussianise", "logit", "standardise", "whiten"])
def test_integers_with_a_constant_column_have_coordinates_of_unit_size(kind):
    rng = np.random.default_rng(0)
    x = np.c_[rng.integers(0, 17, (400, 3)), np.zeros((400, 1))].astype(np.float32)
    units = fit_units(kind, x, integers=True)
    y = encoded(units, dequantise(jr.key(0), jnp.asarray(x)))
    assert np.abs(y).max() < 12
    if kind in ("standardise", "whiten"):
        np.testing.assert_allclose(y.mean(0), 0.0, atol=0.15)
        np.testing.assert_allclose(y.std(0), 1.0, atol=0.1)


def test_logit_takes_integers_that_training_has_not_seen():
    x = np.arange(5, dtype=np.float32).repeat(20)[:, None]
    units = fit_units("logit", x, integers=True, limits=(-1.0, 6.0))
    y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(np.float32([[-0.5], [6.9]]))
    assert bool(jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(log_det)))


def test_units_are_chosen_for_all_columns_together():
    """Two skewed columns whose ratio is nearly constant: each bent alone, they lose nats."""
    rng = np.random.default_rng(0)
    t = rng.gamma(6.0, size=3_000)
    x = np.stack([t + 0.01 * rng.normal(size=t.size), 2 * t], axis=1)
    x[:, 1] += 0.01 * rng.normal(size=t.size)
    assert type(fit_units("auto", x, integers=False)).__name__ == "Affine"
    independent = np.stack([rng.permutation(column) for column in x.T], axis=1)
    assert type(fit_units("auto", independent, integers=False)).__name__ == "Histogram"  # power
