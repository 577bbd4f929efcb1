"""A user's network as tilt: zero at the start, learned like our own, refused if it cannot be."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.tilts import NetworkTilt
from tiltflow.tilts.base import freeze

QUICK = TiltSettings(
    steps=300,
    particles=256,
    batch_data=128,
    batch_particles=128,
    rate=1e-2,
    leapfrogs=4,
    share_end=0.6,
    patience=100,
    bank=5_000,
)


class Features(eqx.Module):
    """A network that is no stack of layers: learned weights on squares, and no key."""

    weight: jax.Array
    centre: jax.Array

    def __call__(self, y):
        return jnp.tanh(self.weight @ (y - self.centre) ** 2)


def clouds(number, seed):
    rng = np.random.default_rng(seed)
    x = 2.0 * rng.choice([-1.0, 1.0], size=(number, 2)) + 0.5 * rng.normal(size=(number, 2))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def problem():
    """A Gaussian backbone of four clouds."""
    train = clouds(2_000, 0)
    units = fit_units("standardise", train, integers=False)
    backbone = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    return backbone, [Rows(jnp.asarray(x), units, False) for x in (train, clouds(1_000, 1))]


def learn(problem, tilt, steps=QUICK.steps):
    backbone, rows = problem
    how = {"key": jr.key(2), "listen": lambda *a, **fields: None}
    return fit_tilt(backbone, tilt, *rows, replace(QUICK, steps=steps), **how)


def mlp():
    return eqx.nn.MLP(2, "scalar", 32, 2, activation=jax.nn.silu, key=jr.key(1))


def check_gain(judgement):
    """More than half a nat: what MLPTilt finds here too."""
    assert bool(judgement.holds)
    assert float(judgement.gain_val) > 0.5


def test_any_network_is_zero_at_the_start():
    y = jr.normal(jr.key(3), (8, 2))
    for network in (mlp(), Features(jnp.ones(2), jnp.zeros(2)), lambda y: 1e6 * jnp.sum(y)):
        tilt = NetworkTilt(network)
        np.testing.assert_array_equal(jax.vmap(tilt)(y), 0.0)
        np.testing.assert_array_equal(jax.vmap(tilt)(y, jr.split(jr.key(4), 8)), 0.0)


@pytest.mark.slow  # the documentation's page learns one in every run
def test_a_network_of_equinox_is_learned(problem):
    tilt, judgement, _ = learn(problem, NetworkTilt(mlp()), steps=800)
    check_gain(judgement)
    assert isinstance(tilt, NetworkTilt)
    backbone, rows = problem
    draws = [jax.vmap(backbone.push)(jr.normal(jr.key(8), row.values.shape)) for row in rows]
    nothing = [eqx.tree_at(lambda r: r.values, row, x) for row, x in zip(rows, draws, strict=True)]
    with pytest.raises(AssertionError):  # power: draws of the backbone, where nothing is to gain
        check_gain(learn((backbone, nothing), NetworkTilt(mlp()))[1])


def test_dropout_acts_in_training_only():
    network = eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Linear(64, "scalar", key=jr.key(5))])
    tilt = NetworkTilt(network, gate=1.0)
    y = jnp.ones(64)
    assert float(tilt(y)) == float(tilt(y)) == float(eqx.nn.inference_mode(network)(y))
    assert float(tilt(y, jr.key(6))) != float(tilt(y, jr.key(7)))


def test_the_level_is_subtracted_and_not_learned():
    tilt = eqx.tree_at(lambda t: t.level, NetworkTilt(mlp(), gate=1.0), jnp.asarray(3.0))
    y = jnp.ones(2)
    assert float(tilt(y)) == pytest.approx(float(mlp()(y)) - 3.0)
    parameters, frozen = freeze(tilt)
    assert parameters.level is None
    assert frozen.gate is None


@pytest.mark.parametrize(
    ("tilt", "expected"),
    [
        (mlp(), "the tilt is a MLP; expected a tiltflow.tilts.Tilt: wrap a network"),
        (NetworkTilt(lambda y: jnp.zeros(())), "the tilt has no gradient in its parameters"),
        (NetworkTilt(lambda y: y), r"has shape \(2,\); expected a scalar"),
    ],
    ids=["not wrapped", "no gradient", "no scalar"],
)
def test_what_cannot_be_learned_is_an_input_error(problem, tilt, expected):
    with pytest.raises(InputError, match=expected):
        learn(problem, tilt)


def test_what_cannot_be_called_is_an_input_error():
    with pytest.raises(InputError, match="the network is a int; expected something to call"):
        NetworkTilt(3)  # pyright: ignore
