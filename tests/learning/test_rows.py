"""Rows come as coordinates, with their log-determinant, dequantised afresh."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones import fit_units
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError
from tiltflow.learning import Rows, rows


@pytest.fixture(scope="module")
def integers():
    x = np.random.default_rng(0).integers(0, 6, size=(50, 3)).astype(np.float32)
    return Rows(jnp.asarray(x), fit_units("gaussianise", x, integers=True), integers=True)


@pytest.fixture(scope="module")
def continuous():
    x = np.random.default_rng(1).normal(size=(50, 2, 2)).astype(np.float32)
    return Rows(jnp.asarray(x), fit_units("standardise", x, integers=False), integers=False)


# Compiled, because operation by operation it takes seconds.
batch, every = eqx.filter_jit(Rows.batch), Rows.every


def decoded(rows, y):
    return np.asarray(jax.jit(jax.vmap(rows.units.decode))(y.reshape(-1, y.shape[-1])))


def test_every_row_is_dequantised_as_often_as_asked(integers):
    y, log_det = every(integers, jr.key(0), 4)
    assert y.shape == (50, 4, 3)
    assert log_det.shape == (50, 4)
    x = decoded(integers, y).reshape(50, 4, 3)
    values = integers.array()
    np.testing.assert_array_equal(np.floor(x), np.repeat(values[:, None], 4, axis=1))
    assert np.all(np.std(x, axis=1) > 0)


def test_every_is_compiled_once(integers, monkeypatch):
    y, _ = every(integers, jr.key(0), 3)
    monkeypatch.setattr(rows, "dequantise", lambda *_: pytest.fail("it is traced again"))
    again, _ = every(replace(integers, values=integers.values + 0), jr.key(1), 3)
    assert again.shape == y.shape
    assert not np.any(again == y)


def test_each_is_every_one_draw_at_a_time(integers):
    y, log_det = every(integers, jr.key(0), 2)
    for draw, key in enumerate(integers.keys(jr.key(0), 2)):
        sums, weights = eqx.filter_jit(Rows.each)(integers, lambda y, w: (jnp.sum(y), w), key)
        sums, weights = sums[:50], weights[:50]
        np.testing.assert_allclose(sums, y[:, draw].sum(axis=1), atol=1e-5)
        np.testing.assert_allclose(weights, log_det[:, draw], atol=1e-5)


def test_continuous_rows_come_once_and_unchanged(continuous):
    y, log_det = every(continuous, jr.key(0), 4)
    assert y.shape == (50, 1, 4)
    assert log_det.shape == (50, 1)
    x = decoded(continuous, y)
    assert x.shape == (50, 2, 2)
    np.testing.assert_allclose(x, continuous.array(), atol=1e-5)


def test_log_determinants_are_those_of_the_units(integers):
    y, log_det = batch(integers, jr.key(1), 20)
    x = decoded(integers, y)
    expected = jax.jit(jax.vmap(integers.units.encode_and_log_det))(x)[1]
    np.testing.assert_allclose(log_det, expected, atol=1e-2)


def test_a_batch_is_drawn_and_dequantised_with_its_key(integers):
    first, again = batch(integers, jr.key(2), 20)[0], batch(integers, jr.key(2), 20)[0]
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == batch(integers, jr.key(3), 20)[0])


def test_batches_draw_all_rows_alike(continuous):
    y, _ = batch(continuous, jr.key(4), 20_000)
    rows, _ = every(continuous, jr.key(0), 1)
    counts = np.sum(np.asarray(y)[:, None, 0] == np.asarray(rows)[None, :, 0, 0], axis=0)
    assert counts.sum() == 20_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_flips_mirror_half_of_the_images_left_to_right():
    x = np.arange(24.0, dtype=np.float32).reshape(1, 4, 3, 2)
    rows = Rows(jnp.asarray(x), identity((4, 3, 2)), integers=False, flips=True)
    y = np.asarray(batch(rows, jr.key(6), 2_000)[0]).reshape(-1, 4, 3, 2)
    mirrored = np.all(y == x[0, :, ::-1], axis=(1, 2, 3))
    assert np.all(mirrored | np.all(y == x[0], axis=(1, 2, 3)))
    assert abs(mirrored.mean() - 0.5) < 4 * np.sqrt(0.25 / 2_000)
    np.testing.assert_array_equal(every(rows, jr.key(0), 1)[0].reshape(x.shape), x)


def test_only_images_can_be_flipped():
    with pytest.raises(InputError, match="are to be flipped; expected images"):
        Rows(jnp.zeros((5, 3)), identity((3,)), integers=False, flips=True)
