"""What a learner keeps, and what it needs for it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.units.scale import identity
from tiltflow.learning import population
from tiltflow.learning.stages import Best
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MLPTilt


def judged(gain, *, holds):
    values = (jnp.asarray(gain), jnp.asarray(holds))
    return eqx.tree_at(lambda j: (j.gain_val, j.holds), Judgement.nothing(), values)


@pytest.mark.parametrize(
    ("kept", "other", "gives_way"),
    [((1.0, True), 2.0, True), ((2.0, True), 1.0, False), ((5.0, False), 1.0, True)],
    ids=["better", "worse", "one that does not hold"],
)
def test_the_best_is_the_one_with_the_largest_gain_that_holds(kept, other, gives_way):
    """Where nothing holds from the start, a number that is too large must not stay for ever."""
    gain, holds = kept
    best = Best(MLPTilt(2, width=4, key=jr.key(0)), judged(gain, holds=holds), 1, 10)
    assert best.gives_way_to(judged(other, holds=True)) is gives_way


def test_a_jump_is_the_same_in_parts_and_takes_less_memory():
    """Parts of 32 particles; 300 are no multiple of them."""
    backbone = CouplingFlow(identity((8,)), num_blocks=2, width=256, key=jr.key(0))
    tilt = MLPTilt(8, width=256, key=jr.key(1))
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, replace_fn=jnp.ones_like)
    model, u = TiltedModel(backbone, tilt), jr.normal(jr.key(2), (300, 8))

    def compiled(at_once):
        program = jax.jit(lambda u: population._jump(jr.key(3), model, u, at_once))
        return program.lower(u).compile()

    whole, parts = compiled(300), compiled(32)
    np.testing.assert_allclose(whole(u), parts(u), rtol=1e-5, atol=1e-5)
    assert not np.allclose(whole(u), u)  # some have jumped
    memory = [program.memory_analysis().temp_size_in_bytes for program in (whole, parts)]
    assert memory[1] < memory[0] / 3
