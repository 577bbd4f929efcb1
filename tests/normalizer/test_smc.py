"""A ladder in parts is the same in less memory; how many particles fit is found by tracing."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.mcmc.batch import half_square
from tiltflow.normalizer import smc

PARTICLES, PART, DIM, WIDTH = 300, 32, 20, 400  # 300 are no multiple of 32
WEIGHTS = jr.normal(jr.key(0), (DIM, WIDTH)) / 22


def log_density(u):
    return -jnp.sum(jnp.log(jnp.cosh(u @ WEIGHTS)), axis=1) - half_square(u)


def wide(u):
    return -0.6 * jnp.sum(u**2, axis=1)


def temporary(program):
    return program.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def u():
    return jr.normal(jr.key(1), (PARTICLES, DIM))


@pytest.mark.parametrize("base", [None, wide])
def test_densities_in_parts_are_the_same(u, base):
    whole, parts = (smc._Path(log_density, base, at_once) for at_once in (0, PART))
    np.testing.assert_allclose(whole.tilt(u), parts.tilt(u), rtol=1e-5, atol=1e-4)
    evaluated = (path.value_and_gradient(jnp.asarray(0.3))(u) for path in (whole, parts))
    for a, b in zip(*evaluated, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("number", "at_once", "size"), [(300, 32, 30), (300, 299, 150), (7, 4, 4), (7, 1, 1), (5, 5, 5)]
)
def test_parts_are_even_and_none_is_lost(number, at_once, size):
    sizes, rows = [], jnp.arange(3.0 * number).reshape(number, 3)

    def doubled(rows):
        sizes.append(len(rows))
        return 2 * rows

    np.testing.assert_array_equal(smc.in_parts(doubled, rows, at_once), 2 * rows)
    assert set(sizes) == {size}


def test_a_plan_in_parts_is_the_same_in_less_memory(u):
    def compiled(at_once):
        plan = jax.jit(lambda u: smc.plan(log_density, jr.key(2), u, 0.4, None, at_once))
        return plan.lower(u).compile()

    whole, parts = compiled(0), compiled(PART)
    ladders = whole(u), parts(u)
    assert ladders[0].steps == ladders[1].steps > 1
    # A proposal at the edge may be accepted in one of them only.
    np.testing.assert_allclose(ladders[0].betas, ladders[1].betas, atol=0.02)
    assert temporary(parts) < temporary(whole) / 3


def test_a_passage_in_parts_is_the_same_in_less_memory(u):
    betas = jnp.minimum(jnp.arange(smc.MOST_RUNGS + 1) / 3, 1.0)
    ladder = smc.Ladder(betas, 0 * betas + 0.3, jnp.asarray(3), jnp.ones(()))
    groups = u.reshape(4, -1, DIM)

    def compiled(at_once):
        travel = jax.jit(lambda u: smc.travel(log_density, jr.key(3), ladder, u, None, at_once))
        return travel.lower(groups).compile()

    whole, parts = compiled(0), compiled(PART)
    found = whole(groups), parts(groups)
    assert found[0].f.shape == found[1].f.shape == (smc.MOST_RUNGS + 1, 4, PARTICLES // 4)
    np.testing.assert_allclose(found[0].log_ratio, found[1].log_ratio, atol=0.05)
    assert temporary(parts) < temporary(whole) / 3


def scaled(u):
    """A density that makes more of its weights than of a particle."""
    return log_density(u @ (1.1 * WEIGHTS) @ WEIGHTS.T)


def in_a_loop(u):
    return jax.lax.scan(lambda v, _: (v, log_density(v)), u, length=5)[1].sum(axis=0)


def forgetful(u):
    return jax.checkpoint(log_density)(u)


def test_what_fits_is_what_an_evaluation_makes(u):
    """Of each hidden unit some numbers of 4 bytes; what is made of the weights is no particle's."""
    each = 2**24 // smc.that_fit(log_density, u, 2**24)
    assert 2 * 4 * WIDTH <= each <= 20 * 4 * WIDTH
    assert smc.that_fit(log_density, u, 2**26) == pytest.approx(2**26 / each, rel=0.01)
    assert smc.that_fit(scaled, u, 2**24) == pytest.approx(2**24 / (each + 4 * WIDTH), rel=0.02)
    assert smc.that_fit(in_a_loop, u, 2**24) == pytest.approx(2**24 / (5 * each), rel=0.02)
    assert smc.that_fit(forgetful, u, 2**24) == smc.that_fit(log_density, u, 2**24)
    assert smc.that_fit(log_density, u, 1) == 1
    assert smc.that_fit(wide, u) > 100_000


def test_as_many_as_fit_unless_told(u):
    assert smc._path(log_density, None, None, u).at_once == smc.that_fit(log_density, u)
    assert smc._path(log_density, None, 7, u).at_once == 7
