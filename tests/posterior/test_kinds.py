"""Kinds of parameters: weights are log-determinants, and values go there and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow import Angle, Correlation, InputError, Interval, Ordered, Positive, Real, Simplex
from tiltflow.fitting.posterior.parameters import Parameters


def everything(value):
    return value.ravel()


def but_the_last(value):
    return value[..., :-1].ravel()


def below(value):
    return value[np.tril_indices(len(value), -1)]


CASES = {
    "real": (Real(2, 2), everything),
    "positive": (Positive(3), everything),
    "interval": (Interval(-1, 3, 2), everything),
    "simplex": (Simplex(4), but_the_last),
    "simplices": (Simplex(2, 3), but_the_last),
    "ordered": (Ordered(4), everything),
    "ordered rows": (Ordered(2, 3), everything),
    "correlation": (Correlation(4), below),
}


@pytest.fixture(autouse=True)
def in_double():
    with jax.enable_x64(True):
        yield


def gap(kind, which, weight=lambda weight: weight):
    """Between the log-weight and the log-determinant that autodiff finds."""
    u = jnp.asarray(np.random.default_rng(0).normal(size=kind.size))
    jacobian = jax.jacfwd(lambda u: which(kind.natural(u)[0]))(u)
    return abs(float(np.linalg.slogdet(np.asarray(jacobian))[1] - weight(kind.natural(u)[1])))


@pytest.mark.parametrize("name", CASES)
def test_weights_are_the_log_determinants_that_autodiff_finds(name):
    kind, which = CASES[name]
    assert gap(kind, which) < 1e-10
    if name != "real":
        assert gap(kind, which, lambda weight: 0.9 * weight) > 1e-5  # power


@pytest.mark.parametrize("name", CASES)
def test_values_are_inside_and_lead_back(name):
    kind, _ = CASES[name]
    u = np.random.default_rng(1).normal(size=(5, kind.size))
    values = np.stack([kind.natural(jnp.asarray(row))[0] for row in u])
    assert values.shape == (5, *kind.shape)
    assert kind.inside(values).all()
    np.testing.assert_allclose(kind.free(values, np.random.default_rng(0)), u, atol=1e-9)


def test_angles_have_no_wall_and_their_weight_integrates_to_one():
    kind = Angle()

    grid = np.linspace(-7, 7, 401)
    plane = jnp.asarray(np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2))
    value, weight = jax.vmap(kind.natural)(plane)
    density = np.exp(weight) * (1 + np.cos(value)) / (2 * math.pi)
    assert density.sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(1.0, abs=1e-3)
    angles = np.array([-3.1, 0.3, 3.1])
    free = kind.free(angles, np.random.default_rng(0))
    back = [float(kind.natural(jnp.asarray(row))[0]) for row in free]
    np.testing.assert_allclose(back, angles, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Interval(2, 1), "the lower one first"),
        (lambda: Interval(0, math.inf), "two finite bounds"),
        (lambda: Interval("0", 1), "from '0' to 1; expected two finite"),
        (lambda: Real(0), "positive integers"),
        (lambda: Simplex(1), "2 or more"),
        (lambda: Parameters.of({"a": 3}), "expected a name and a kind"),
        (lambda: Parameters.of("mu"), "expected a dict of kinds"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(make, words):
    with pytest.raises(InputError, match=words) as found:
        make()
    assert "\n" not in str(found.value)


def test_starts_that_cross_a_bound_or_lack_a_name_are_told():
    known = Parameters.of({"a": Positive(), "p": Interval(0, 1, 2)})
    rng, good = np.random.default_rng(0), {"a": [1.0, 2.0], "p": [[0.1, 0.2], [0.3, 0.4]]}
    assert known.free(good, rng, "start").shape == (2, 3)
    for change, words in (
        ({"a": [1.0, -2.0]}, "'a' has 1 of 2 draws outside, the first number 1"),
        ({"p": [[0.1, 0.2], [0.3, 1.4]]}, "expected numbers between the bounds"),
        ({"p": [0.1, 0.2]}, r"'p' has shape \(2,\)"),
        ({"a": [1.0]}, "as many each"),
    ):
        with pytest.raises(InputError, match=words):
            known.free(good | change, rng, "start")
    with pytest.raises(InputError, match="no 'p'"):
        known.free({"a": [1.0]}, rng, "start")
