"""The objective: its gradient is that of the likelihood, and no witness has a part in it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from exact_particles import exact

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.units.scale import identity
from tiltflow.learning import Rows, TiltSettings, optimiser, persistent, population
from tiltflow.learning.objective import contrast
from tiltflow.learning.state import Course, LearnerState
from tiltflow.tilts import MLPTilt
from tiltflow.tilts.base import freeze


def linear(weight):
    """f(y) = w . y: its gradient is y."""
    tilt = MLPTilt(2, depth=0, key=jr.key(0))
    return eqx.tree_at(lambda t: t.layers[-1].weight, tilt, weight[None])


def check_gradient(objective) -> None:
    """E_p y of the weighted particles, less the mean of the data."""
    y_data, y_model = jr.normal(jr.key(1), (7, 2)) + 1.0, jr.normal(jr.key(2), (5, 2))
    weights = jax.nn.softmax(2.0 * jnp.arange(5.0) / 5)
    gradient = jax.jit(
        jax.grad(lambda w: objective(linear(w), y_data, y_model, weights, jr.key(3)))
    )
    found = gradient(jnp.asarray([0.3, -0.2]))
    expected = jnp.sum(weights[:, None] * y_model, axis=0) - jnp.mean(y_data, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_its_gradient_is_the_models_mean_less_that_of_the_data():
    check_gradient(contrast)
    with pytest.raises(AssertionError):  # power: the sign
        check_gradient(lambda *given: -contrast(*given))
    with pytest.raises(AssertionError):  # power: the weights forgotten
        check_gradient(lambda t, y, z, w, k: contrast(t, y, z, jnp.full(len(w), 1 / len(w)), k))


QUICK = TiltSettings(
    steps=2, particles=32, batch_data=8, batch_particles=16, leapfrogs=1, check_every=2,
    iterations=1, transitions=1, share_end=0.01,
)  # fmt: skip


def population_learns(state, backbone, rows):
    learn = eqx.filter_jit(population._learn)
    return learn(state, rows, QUICK.traced(), Course(jnp.ones(()), jnp.ones((), int)), jr.key(5))


def persistent_learns(state, backbone, rows):
    course = Course(jnp.ones(()), jnp.ones((), int))
    return persistent.stage(state, backbone, rows, QUICK.traced(), course, jr.key(5))


@pytest.mark.parametrize(
    "learns", [population_learns, persistent_learns], ids=["population", "persistent"]
)
def test_witnesses_have_no_part_in_what_is_learned(learns):
    """Witnesses elsewhere: the same weights after a step. Power: learners elsewhere, others."""
    backbone = CouplingFlow(identity((2,)), num_blocks=1, width=4, key=jr.key(0))
    tilt = MLPTilt(2, width=4, depth=1, key=jr.key(1))
    rows = Rows(jr.normal(jr.key(2), (50, 2)) + 1.0, backbone.units, integers=False)
    particles = exact(jr.key(3), backbone, QUICK.particles, 0.3)
    adam, zero = optimiser.ADAM.init(freeze(tilt)[0]), jnp.asarray(0)
    weights = jnp.zeros(QUICK.particles)
    state = LearnerState(
        tilt, tilt, adam, particles, weights, jnp.zeros(()), jnp.zeros(()), zero, zero
    )

    def learned(moved=None):
        there = state
        if moved is not None:
            y = particles.y.at[moved].add(1.0)
            there = eqx.tree_at(lambda s: s.particles.y, state, y)
        return jax.tree.leaves(freeze(learns(there, backbone, rows)[0].tilt)[0])

    before, of_witnesses = learned(), learned(particles.witnesses)
    for one, other in zip(before, of_witnesses, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not all(map(np.array_equal, before, learned(particles.learners)))
