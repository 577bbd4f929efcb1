"""The noise's width: as it was under a tilt of z, narrower under one that asks for it."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_gaussian import SIGMA, Z, case, generator

from tiltflow.backbones import Prior, Pushforward
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError
from tiltflow.evaluation.noise import noise_width
from tiltflow.model.tilted import TiltedModel


def test_the_width_is_that_of_the_draws():
    width = float(np.sqrt(np.mean(SIGMA**2)))
    u = np.asarray(jr.normal(jr.key(0), (50, 200, Z + 3)))
    joint = TiltedModel(generator(), case("both").tilt)
    found = noise_width(joint, u)
    assert found.backbone == pytest.approx(width, rel=1e-5)
    assert found.tilted == pytest.approx(width, rel=0.03)
    halved = np.concatenate([u[..., :Z], 0.5 * u[..., Z:]], axis=-1)
    assert noise_width(joint, halved).tilted == pytest.approx(width / 2, rel=0.03)


def test_a_tilt_of_z_leaves_it():
    found = noise_width(TiltedModel(Prior(generator()), case("z").of(slice(Z))), np.zeros((4, Z)))
    assert found.backbone == found.tilted


def test_what_has_no_noise_is_an_input_error():
    bare = Pushforward(identity((2,)), lambda u: u, (2,))
    with pytest.raises(InputError, match="expected a generator with noise"):
        noise_width(TiltedModel(bare, jnp.sum), np.zeros((4, 2)))
