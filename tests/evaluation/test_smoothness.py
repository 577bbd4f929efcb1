"""A step's error falls with its third power for smooth tilts, and is seen where it does not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.evaluation.smoothness import order_of, smoothness
from tiltflow.tilts import NetworkTilt

C = np.random.default_rng(0).normal(size=(2_048, 3)).astype(np.float32)


def of(activation, *, stops=False):
    """The check, for a random network with these activations."""
    network = eqx.nn.MLP(3, "scalar", 16, 1, activation=activation, key=jr.key(1))

    def f(c):
        wrong = jax.lax.stop_gradient(jnp.sin(c[0])) if stops else 0.0
        return 3.0 * network(c) + wrong

    (check,) = smoothness(NetworkTilt(f, gate=1.0), C, jr.key(2))
    assert check.part == "tilt"
    return check


@pytest.mark.parametrize("activation", [jax.nn.silu, jnp.tanh, jax.nn.softplus])
def test_smooth_tilts_pass(activation):
    check = of(activation)
    assert check.ok
    assert check.value == pytest.approx(3.0, abs=0.2)


def test_kinks_jumps_and_wrong_gradients_are_told_by_their_order():
    kinks = of(jax.nn.relu)
    assert not kinks.ok
    assert 1.4 < kinks.value < 2.1  # 2 for one kink, 3/2 for as many as a step can meet
    assert "ReLU" in kinks.means
    for broken in (of(jnp.tanh, stops=True), of(lambda x: jnp.round(2 * jnp.tanh(x)))):
        assert not broken.ok
        assert broken.value == pytest.approx(1.0, abs=0.3)
        assert "ReLU" not in broken.means


def test_an_error_that_is_rounding_says_nothing():
    assert order_of(1e-7, 1e-7, rounding=1e-7) == 3.0
    assert order_of(1e-2, 1e-2, rounding=1e-7) == 0.0
