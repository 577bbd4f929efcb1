"""Jumps leave a density as it is, and stay less often than a choice among all by weight."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.fitting.posterior.jumps import landing

CHAINS = 40_000
LOG_RATIO = math.log(0.8), 1 / 0.8**2  # q is normal, p normal of deviation 0.8


def log_weight(x):
    return -LOG_RATIO[0] - 0.5 * (LOG_RATIO[1] - 1.0) * x**2


@pytest.mark.parametrize("draws", [1, 3])
def test_jumps_leave_the_density_as_it_is(draws):
    rng = np.random.default_rng(draws)
    x, fresh = 0.8 * rng.normal(size=CHAINS), rng.normal(size=(CHAINS, draws))
    gumbel = rng.gumbel(size=(CHAINS, 1 + draws))

    def second_moment(winner):
        among = np.concatenate([x[:, None], fresh], axis=1)
        return among[np.arange(CHAINS), winner] ** 2 / 0.64

    weights = log_weight(jnp.asarray(x)), log_weight(jnp.asarray(fresh))
    winner = np.asarray(jax.jit(landing)(*weights, jnp.asarray(gumbel)))
    found = second_moment(winner)
    assert abs(found.mean() - 1) < 4 * found.std() / math.sqrt(CHAINS)
    # Of all by weight more stay: Peskun's order.
    by_weight = np.argmax(np.column_stack([*weights]) + gumbel, axis=1)
    assert np.mean(winner == 0) < np.mean(by_weight == 0) - 0.05
    # Power: the best of the others is always taken.
    always = second_moment(1 + np.argmax(np.asarray(weights[1]) + gumbel[:, 1:], axis=1))
    assert abs(always.mean() - 1) > 5 * always.std() / math.sqrt(CHAINS)


def test_draws_without_mass_are_no_place_to_go():
    fresh, gumbel = jnp.full((5, 3), -jnp.inf), jnp.zeros((5, 4))
    assert (np.asarray(landing(jnp.zeros(5), fresh, gumbel)) == 0).all()
    assert (np.asarray(landing(jnp.zeros(5), fresh.at[:, 1].set(50.0), gumbel)) == 2).all()
