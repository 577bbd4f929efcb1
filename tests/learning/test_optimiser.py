"""AdamW with traced settings: the same numbers as optax's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning import optimiser

PARAMETERS = {"weight": jnp.ones((3, 2)), "bias": jnp.full(2, 2.0), "frozen": None}


def loss(parameters, key):
    """Badly scaled and noisy, with gradients on both sides of the clipping norm."""
    x = jr.normal(key, (3,)) * jnp.asarray([0.1, 1.0, 3.0])
    return jnp.sum((x @ parameters["weight"] + parameters["bias"]) ** 2)


def test_twenty_steps_are_those_of_optax():
    rate, decay = 0.03, 0.5
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            rate,
            b1=0.9,
            b2=0.999,
            weight_decay=decay,
            mask={"weight": True, "bias": False, "frozen": False},
        ),
    )
    ours, expected = PARAMETERS, PARAMETERS
    our_state, their_state = optimiser.ADAM.init(ours), theirs.init(expected)
    for key in jr.split(jr.key(0), 20):
        gradient = jax.grad(loss)(ours, key)
        ours, our_state = optimiser.update(ours, gradient, our_state, rate, decay)
        updates, their_state = theirs.update(jax.grad(loss)(expected, key), their_state, expected)
        expected = optax.apply_updates(expected, updates)
    assert float(jnp.abs(ours["weight"] - 1).max()) > 0.1
    for name in ("weight", "bias"):
        np.testing.assert_allclose(ours[name], expected[name], rtol=1e-5)
    assert ours["frozen"] is None


def test_only_weights_decay():
    """Of flows side by side, whose biases have two axes, as weights do, and must not decay."""
    units = fit_units("standardise", np.random.default_rng(0).normal(size=(50, 4)), integers=False)
    flow = eqx.filter_vmap(lambda k: CouplingFlow(units, num_blocks=1, width=8, key=k))(
        jr.split(jr.key(0))
    )
    flow = jax.tree.map(lambda x: jnp.ones_like(x) if eqx.is_inexact_array(x) else x, flow)
    parameters = eqx.filter(flow.blocks, eqx.is_inexact_array)
    still = jax.tree.map(jnp.zeros_like, parameters)
    decayed, _ = optimiser.update(parameters, still, optimiser.ADAM.init(still), 0.1, 2.0)
    (block,) = decayed
    for conditioner in (block.to_first, block.to_second):
        for layer in (conditioner.hidden, conditioner.out):
            assert layer.bias.ndim == 2
            np.testing.assert_allclose(layer.weight, 0.8, rtol=1e-6)
            np.testing.assert_array_equal(layer.bias, 1.0)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 2.0), (50, 1.1), (100, 0.2), (250, 0.2)], ids=str
)
def test_the_cosine_starts_ends_and_stays(step, expected):
    rate = optimiser.cosine(jnp.asarray(step), 100, 2.0, 0.1)
    np.testing.assert_allclose(rate, expected, rtol=1e-6)


def test_the_moving_average_forgets_with_its_memory():
    average = {"w": jnp.zeros(2), "frozen": None}
    for _ in range(10):
        average = optimiser.moving_average(average, {"w": jnp.ones(2), "frozen": None}, 0.9)
    np.testing.assert_allclose(average["w"], 1 - 0.9**10, rtol=1e-5)


def test_leaves_keep_their_types_under_64_bits():
    """Some are of 32 there; a compiled loop takes no state whose types change."""
    with jax.enable_x64(True):
        mixed = {"weight": jnp.ones((3, 2), jnp.float32), "bias": jnp.ones(2)}
        state = optimiser.ADAM.init(mixed)
        rate, decay, memory = jnp.array([0.03, 0.5, 0.9])  # of 64 bits, as no constant would be
        after, _ = optimiser.update(mixed, mixed, state, rate, decay)
        average = optimiser.moving_average(mixed, after, memory)
    for tree in (after, average):
        assert {name: leaf.dtype.itemsize for name, leaf in tree.items()} == {
            "weight": 4,
            "bias": 8,
        }
