"""Paths between images begin and end there, and stay as far out as draws of the noise are."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, Generator, Prior, fit_units
from tiltflow.evaluation.interpolation import PAIRS, TIMES, great_circle, interpolation
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import CoordinateTilt

DIM = 64
POSITIONS = np.random.default_rng(1).normal(size=(4, 30, 3)).astype(np.float32)


def straight(first, second, times):
    """Broken: the line through the middle, where no draws are."""
    t = np.linspace(0, 1, times).reshape(-1, *[1] * (first.ndim - 1))
    return (1 - t) * first[:, None] + t * second[:, None]


def check_norms(path):
    """Halfway between independent draws |u|^2 is about its mean, within 4 standard errors.

    The norm there is the mean of two: its square is less than DIM by half the variance of a norm,
    which is 1/2, so by 1/4.
    """
    first, second = np.random.default_rng(0).normal(size=(2, 500, DIM))
    middle = path(first, second, 3)[:, 1]
    squares = np.sum(middle**2, axis=1)
    assert abs(squares.mean() - (DIM - 0.25)) < 4 * squares.std() / np.sqrt(500)


def test_the_path_stays_where_draws_are():
    check_norms(great_circle)


def test_power_of_norms():
    with pytest.raises(AssertionError):
        check_norms(straight)


def test_the_path_turns_evenly():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    path = great_circle(first, 3 * second, 7)
    assert path.shape == (5, 7, 3, 4)
    np.testing.assert_allclose(path[:, 0], first)
    np.testing.assert_allclose(path[:, -1], 3 * second)
    flat = path.reshape(5, 7, -1)
    norms = np.linalg.norm(flat, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.diff(norms, 2, axis=1), 0, atol=1e-12)
    cosines = np.sum(flat[:, 1:] * flat[:, :-1] / norms[:, 1:] / norms[:, :-1], axis=-1)
    np.testing.assert_allclose(cosines, cosines[:, :1] * np.ones(6))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ends_of_one_direction_or_of_opposite_ones(sign):
    u = np.ones((1, 3), np.float32)
    path = great_circle(u, sign * u, 4)
    assert path.dtype == np.float32
    np.testing.assert_allclose(path, straight(u, sign * u, 4), atol=1e-6)


def fitted(backbone, integers):
    log_z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0)
    model = TiltedModel(backbone, CoordinateTilt(lambda c: 0.0 * c[0]))
    return FittedModel(model, None, log_z, integers, 0.3, 8)


@pytest.mark.parametrize("rows", [100, 5])
def test_between_held_out_images_of_bytes(rows):
    x = np.random.default_rng(0).integers(0, 17, (100, 8, 8)).astype(np.float32)
    units = fit_units("auto", x, integers=True, limits=(0.0, 16.0))
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    positions = np.zeros((4, 10, 64), np.float32)
    (paths,) = (found := interpolation(fitted(flow, True), positions, x[:rows])).values()
    assert list(found) == ["interpolation"]
    pairs = min(PAIRS, rows // 2)
    assert paths.shape == (pairs, TIMES, 8, 8)
    np.testing.assert_array_equal(paths[:, 0], x[0 : 2 * pairs : 2])
    np.testing.assert_array_equal(paths[:, -1], x[1 : 2 * pairs : 2])


def decoder(z):
    return jnp.tanh(jnp.outer(z, z))


@pytest.mark.parametrize("noise", [0.1, None])
def test_between_draws_where_images_have_no_latent_position(noise):
    backbone = Generator.from_function(decoder, (3,), noise=noise)
    model = fitted(Prior(backbone) if isinstance(backbone, Generator) else backbone, False)
    (paths,) = (found := interpolation(model, POSITIONS, np.zeros((20, 3, 3)))).values()
    assert list(found) == ["interpolation_draws"]
    assert paths.shape == (PAIRS, TIMES, 3, 3)
    np.testing.assert_allclose(paths[0, 0], decoder(POSITIONS[0, 0]), atol=1e-5)  # without noise
