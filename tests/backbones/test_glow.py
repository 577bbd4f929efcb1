"""Glow beyond the contract: its noise, its start, its sizes, its memory and its precision."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import Glow, GlowSizes
from tiltflow.backbones.glow import initialised
from tiltflow.backbones.glow_step import Mixing, Normalisation
from tiltflow.backbones.units.scale import fit_logit_scale, identity
from tiltflow.errors import InputError

SMALL = GlowSizes(steps=1, width=8)
SHAPE = (4, 4, 2)


@eqx.filter_jit
def begun(sizes: GlowSizes) -> Glow:
    return Glow(identity(SHAPE), sizes, key=jr.key(0))


def shaken(glow: Glow, size: float = 0.2) -> Glow:
    """`glow` with noise on all that is learned."""
    leaves, tree = jax.tree.flatten(eqx.filter(glow.scales, eqx.is_inexact_array))
    keys = jr.split(jr.key(1), len(leaves))
    moved = [leaf + size * jr.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    rest = eqx.filter(glow.scales, eqx.is_inexact_array, inverse=True)
    return eqx.tree_at(lambda g: g.scales, glow, eqx.combine(jax.tree.unflatten(tree, moved), rest))


@pytest.fixture(scope="module")
def glow():
    return shaken(begun(SMALL))


@eqx.filter_jit
def both_ways(glow, u):
    y = glow.coordinates(u)
    return y, *glow.inverse(y)


@eqx.filter_jit
def densities(glow, y):
    return jax.vmap(glow.log_prob_coordinates)(y)


def test_a_batch_is_its_examples_one_by_one(glow):
    u = jr.normal(jr.key(2), (5, *glow.latent_shape))
    one_by_one = eqx.filter_jit(lambda g, u: jax.vmap(lambda u: both_ways(g, u))(u))(glow, u)
    for alone, batch in zip(one_by_one, both_ways(glow, u), strict=True):
        np.testing.assert_allclose(alone, batch, atol=1e-5)
    y, _, log_det = both_ways(glow, u)
    batch = eqx.filter_jit(lambda g, y: g.training_log_probs(y, jr.key(0)))(glow, y)
    np.testing.assert_allclose(batch, densities(glow, y), atol=1e-4)
    assert log_det.shape == (5,)


def test_gradients_are_finite_where_only_a_stray_chain_goes(glow):
    u = jr.normal(jr.key(3), (8, *glow.latent_shape))
    u = 50 * u / jnp.linalg.norm(u, axis=1, keepdims=True)
    y, back, log_det = both_ways(glow, u)
    assert jnp.all(jnp.isfinite(y))
    assert jnp.all(jnp.isfinite(log_det))
    np.testing.assert_allclose(back, u, atol=1e-2)
    for function in (lambda u: jnp.sum(glow.coordinates(u) ** 2), glow.log_prob_coordinates):
        gradients = jax.jit(jax.vmap(jax.grad(function)))
        assert jnp.all(jnp.isfinite(gradients(u)))
        assert jnp.all(jnp.isfinite(gradients(50 * u)))


def test_it_starts_with_normal_activations_whatever_a_wild_row_says():
    """Normal noise comes out of the first batch: mean 0 and deviation 1; plain moments fail."""
    y = 5 + 3 * jr.normal(jr.key(4), (300, int(np.prod(SHAPE))))
    wild = y.at[0].set(1e6)
    start = initialised(begun(SMALL), wild)
    u = np.asarray(eqx.filter_jit(lambda g, y: g.inverse(y)[0])(start, y))
    assert abs(u.mean()) < 0.1
    assert 0.9 < u.std() < 1.2
    plain = Normalisation(1)
    z = wild.reshape(300, 4, 4, 2)[..., :1]
    plain = eqx.tree_at(lambda n: n.log_scale, plain, jnp.log(jnp.std(z))[None])
    assert np.std(plain.inverse(z[1:])[0]) < 0.1
    constant = Normalisation(2).initialised(jnp.ones((5, 2, 2, 2)))
    np.testing.assert_allclose(constant.log_scale, np.log(0.05), rtol=1e-5)


def test_mixing_starts_as_a_rotation():
    mixing = eqx.filter_jit(lambda: Mixing(6, key=jr.key(5)))()
    z = jr.normal(jr.key(6), (3, 2, 6))
    mixed, log_det = mixing.inverse(z)
    np.testing.assert_allclose(jnp.sum(mixed**2, -1), jnp.sum(z**2, -1), rtol=1e-4)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-4)
    np.testing.assert_allclose(mixing.forward(mixed), z, atol=1e-5)


def test_networks_may_be_bfloat16_while_densities_agree(glow):
    """What rounds is the networks alone: maps and densities are float32, and nearly the same."""
    coarse = shaken(begun(replace(SMALL, precision="bfloat16")))
    y, *_ = both_ways(glow, jr.normal(jr.key(7), (64, *glow.latent_shape)))
    fine, rough = densities(glow, y), densities(coarse, y)
    assert rough.dtype == jnp.float32
    assert 1e-5 < jnp.sqrt(jnp.mean((fine - rough) ** 2)) < 0.04 * jnp.std(fine)
    u = jr.normal(jr.key(8), (16, *coarse.latent_shape))
    y, back, log_det = both_ways(coarse, u)
    assert {y.dtype, back.dtype, log_det.dtype} == {jnp.dtype("float32")}
    np.testing.assert_allclose(back, u, atol=0.1)


def test_rematerialisation_changes_no_number():
    glows = [shaken(begun(replace(SMALL, remat=remat))) for remat in (False, True)]
    y = jr.normal(jr.key(8), (4, *glows[0].latent_shape))
    gradients = [
        eqx.filter_jit(eqx.filter_grad(lambda g: jnp.mean(g.training_log_probs(y, jr.key(0)))))(g)
        for g in glows
    ]
    for plain, again in zip(*(jax.tree.leaves(g) for g in gradients), strict=True):
        np.testing.assert_allclose(plain, again, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "sizes", "words"),
    [
        ((5,), SMALL, r"data of shape \(5,\); expected images"),
        ((7, 8), SMALL, "images of 7 x 8 pixels; expected even sides: add a row or a column"),
        ((28, 28), replace(SMALL, scales=3), "scales is 3; expected at most 2 for images of 28"),
        ((8, 8), replace(SMALL, scales=-1), "scales is -1; expected 1 or more, or 0"),
        ((8, 8), replace(SMALL, precision="float16"), "precision 'float16'; expected float32 or"),
        ((8, 8), replace(SMALL, steps=0), "steps is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(shape, sizes, words):
    with pytest.raises(InputError, match=words):
        Glow(identity(shape), sizes, key=jr.key(0))


def test_images_are_halved_as_often_as_they_allow():
    def number(shape):
        return len(
            eqx.filter_eval_shape(lambda: Glow(identity(shape), SMALL, key=jr.key(0))).scales
        )

    assert [number(shape) for shape in ((28, 28), (32, 32, 3), (6, 4), (64, 64))] == [2, 3, 1, 3]


def test_the_units_of_images_are_one_scale_for_all_pixels():
    x = np.random.default_rng(0).integers(0, 256, (50, 4, 4)) * (np.arange(16) > 3).reshape(4, 4)
    units = fit_logit_scale(x, limits=(0, 255))
    y = np.asarray(jax.vmap(units.encode)(jnp.asarray(x + 0.5, jnp.float32)))
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    assert np.ptp(units.scale) == np.ptp(units.mean) == 0
    np.testing.assert_allclose(jax.vmap(units.decode)(y), x + 0.5, atol=2e-3)
