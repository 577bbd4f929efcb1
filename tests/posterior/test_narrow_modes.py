"""What finds narrow modes, and trajectories in whose programs the density stands once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.fitting.posterior import starts, trajectory
from tiltflow.fitting.posterior.judgement import _apart
from tiltflow.fitting.posterior.modes import lost_by_all_but_one
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.probe import probed
from tiltflow.fitting.posterior.tempering import Population
from tiltflow.mcmc import hmc
from tiltflow.mcmc.trajectory import LEAPFROG, follow

NARROW = 1 / 12


def needle(x):
    """Two modes of the same mass; that at 3 attracts what is nearer than 1.07."""
    sds, at = jnp.array([1.0, NARROW]), jnp.array([[-3.0] * 4, [3.0] * 4])
    each = -0.5 * jnp.sum((x - at) ** 2, axis=-1) / sds**2 - 4 * jnp.log(sds)
    return jax.nn.logsumexp(each)


def test_a_race_meets_a_mode_that_one_start_in_ten_thousand_leads_to():
    start = 5 * np.random.default_rng(1).standard_normal((2_000, 4))
    target = starts.located(probed(needle, Parameters.of(4), None), start)
    bases = starts.from_draws(target, start, 1)
    place = target.from_free(np.full((1, 4), 3.0))

    def met(y, first):
        ends, _ = starts.ascents(target, y, first)
        return np.linalg.norm(ends - place, axis=1).min() < NARROW

    among = starts.raced(target, bases, starts.RACED, 1)
    assert met(among, starts.CAREFUL)
    assert not met(starts.scattered_starts(bases, 1_024, 1), starts.FIRST)


def test_particles_of_a_mode_that_the_other_population_lost():
    both = np.repeat([0, 1, 0, 1, 1], [600, 400, 700, 300, 50])
    assert not lost_by_all_but_one(both, [1_000, 1_000])
    lost = np.repeat([0, 1, 0, 1, 1], [600, 400, 990, 10, 500])
    assert lost_by_all_but_one(lost, [1_000, 1_000])
    few = np.repeat([0, 1, 0], [960, 40, 1_000])
    assert not lost_by_all_but_one(few, [1_000, 1_000])


def test_a_tempering_that_says_less_than_exact_draws_have_proven_is_no_alarm():
    few = Population("t", np.zeros((9, 1)), np.arange(9), -5.0, 0.1, 3, 0.0, True)
    assert _apart([few], -2.0, proven=False) == pytest.approx(2.6)
    assert _apart([few], -2.0, proven=True) == 0.0
    assert _apart([few], -8.0, proven=True) == pytest.approx(2.6)


def curved(y):
    return -0.5 * y[:, 0] ** 2 - 2 * (y[:, 1] - y[:, 0] ** 2) ** 2, (2 * y,)


@pytest.fixture(scope="module")
def moved():
    rng = np.random.default_rng(2)
    y, momentum = (jnp.asarray(rng.standard_normal((400, 2)), jnp.float32) for _ in range(2))
    uniform = jnp.asarray(rng.random(400), jnp.float32)
    steps = jnp.asarray(rng.uniform(0.05, 0.3, 400), jnp.float32)
    nothing = trajectory.nothing_known(curved, y)

    @jax.jit
    def both(is_known):
        return trajectory.followed(curved, y, nothing, is_known, momentum, uniform, steps, 5)

    return y, momentum, uniform, steps, both


def test_a_trajectory_from_an_unknown_start_is_that_of_leapfrogs(moved):
    y, momentum, uniform, steps, both = moved
    value_and_grad = hmc.value_and_gradient(lambda y: curved(y)[0])
    state = hmc.init(y, value_and_grad)
    end = follow(state, momentum, value_and_grad, steps[:, None], 5, LEAPFROG)
    energy = 0.5 * jnp.sum(end.momentum**2 - momentum**2, axis=1)
    chance = np.minimum(1, np.exp(end.end.log_density - state.log_density - energy))
    found = both(False)
    np.testing.assert_allclose(found.chance, chance, atol=2e-4)
    taken = np.asarray(uniform) < chance
    assert 0.2 < taken.mean() < 0.98
    where = np.where(taken[:, None], end.end.position, y)
    np.testing.assert_allclose(found.position, where, atol=1e-4)
    np.testing.assert_allclose(found.known.more[0], 2 * where, atol=2e-4)
    np.testing.assert_allclose(found.known.value, curved(where)[0], atol=2e-3)
    # A start that is taken for known, though it is not, has another chance.
    assert np.abs(both(True).chance - chance).max() > 0.1
