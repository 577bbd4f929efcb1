"""Convolutional tilts: zero at the start, learned everywhere, held to a slope, saved by a spec."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.tilts import ConvSizes, ConvTilt
from tiltflow.tilts.conv import spectral_norm

SHAPE = (6, 4, 2)
DIM = 48
KINDS = {
    "plain": ConvSizes(channels=3, width=5),
    "residual": ConvSizes(channels=3, width=5, residual=True, dropout=0.5),
}


def tilted(sizes: ConvSizes, shape=SHAPE) -> ConvTilt:
    """A tilt whose last layer is not zero any more."""
    tilt = ConvTilt(shape, sizes, key=jr.key(0))
    return eqx.tree_at(lambda t: t.last.weight, tilt, replace_fn=lambda w: w + 1.0)


@eqx.filter_jit
def values(tilt, c, key=None):
    return jax.vmap(lambda c: tilt(c, key))(c)


@pytest.fixture(scope="module")
def images():
    return jr.normal(jr.key(1), (10, DIM))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_zero_at_the_start_and_everything_can_be_learned(kind, images):
    start = ConvTilt(SHAPE, KINDS[kind], key=jr.key(0))
    assert not jnp.any(values(start, images))
    tilt = tilted(KINDS[kind])
    assert jnp.ptp(values(tilt, images)) > 0
    gradient = eqx.filter_jit(eqx.filter_grad(lambda t, c: jnp.sum(jax.vmap(t)(c) ** 2)))(
        tilt, images
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert jnp.any(leaf) or "level" in jax.tree_util.keystr(path), path


def test_the_level_is_subtracted_and_dropout_needs_a_key(images):
    tilt = tilted(KINDS["residual"])
    lower = eqx.tree_at(lambda t: t.level, tilt, jnp.asarray(3.0))
    np.testing.assert_allclose(values(lower, images), values(tilt, images) - 3.0, rtol=1e-5)
    assert jnp.any(values(tilt, images, jr.key(2)) != values(tilt, images))
    np.testing.assert_array_equal(values(tilt, images), values(tilt, images))


def test_it_knows_the_shape_of_the_image():
    """What lies three pixels down is another picture than what lies three pixels to the right."""
    tilt = tilted(ConvSizes(channels=3, width=5), (8, 8))
    picture = jnp.zeros((8, 8)).at[2, 3].set(2.0)
    f = values(tilt, jnp.stack([picture.ravel(), picture.T.ravel()]))
    assert abs(f[0] - f[1]) > 1e-4


def test_the_spectral_norm_is_the_largest_singular_value():
    matrix = jr.normal(jr.key(3), (20, 6))
    np.testing.assert_allclose(spectral_norm(matrix), np.linalg.norm(matrix, 2), rtol=0.02)


def test_spectral_normalisation_bounds_the_slope(images):
    """Without it the same weights are steeper."""
    steep = eqx.tree_at(
        lambda t: (t.hidden.weight, t.stages[0].down.weight),
        tilted(ConvSizes(channels=3, width=5)),
        replace_fn=lambda w: 10 * w,
    )
    held = eqx.tree_at(
        lambda t: (t.hidden.weight, t.stages[0].down.weight),
        tilted(ConvSizes(channels=3, width=5, spectral=1.0)),
        replace_fn=lambda w: 10 * w,
    )
    slope = eqx.filter_jit(lambda t, c: jnp.linalg.norm(jax.vmap(jax.grad(t))(c), axis=1))
    # 9 neighbours and a SiLU of slope 1.1 at each layer; the last one has norm sqrt(5).
    bound = 9 * 1.1**2 * np.sqrt(5)
    assert jnp.max(slope(held, images)) < bound < jnp.max(slope(steep, images))


@pytest.mark.parametrize(
    ("shape", "sizes", "words"),
    [
        ((5,), ConvSizes(), r"data of shape \(5,\); expected images"),
        ((4, 4), ConvSizes(dropout=1.0), r"dropout is 1.0; expected \[0, 1\)"),
        ((4, 4), ConvSizes(spectral=-1.0), "spectral is -1.0; expected a norm, or 0 for any"),
        ((4, 4), ConvSizes(channels=0), "channels is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(shape, sizes, words):
    with pytest.raises(InputError, match=words):
        ConvTilt(shape, sizes, key=jr.key(0))
