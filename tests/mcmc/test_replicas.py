"""What f at all replicas tells, against a model whose every rung is known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.diagnostics.convergence import convergence
from tiltflow.errors import InputError
from tiltflow.mcmc import ReplicaExchange, sample
from tiltflow.mcmc.replicas import barrier, evened, refusals
from tiltflow.mcmc.tempering import rising
from tiltflow.normalizer.from_replicas import from_replicas

SLOPE = 3.0
LOG_Z = SLOPE**2 / 2


def exact(betas, chains=64, draws=400, seed=0):
    """f = SLOPE u at independent draws of exp(beta f - u^2 / 2), N(beta SLOPE, 1)."""
    noise = np.random.default_rng(seed).normal(size=(chains, draws, len(betas)))
    return SLOPE * (noise + SLOPE * np.asarray(betas))


def test_betas_are_moved_to_where_exchanges_are_refused_equally_often():
    uneven = np.array([0.0, 0.05, 0.1, 0.4, 1.0])
    before = refusals(uneven, exact(uneven))
    assert before.max() > 4 * before.min()
    betas = evened(uneven, exact(uneven))
    for _ in range(3):
        betas = evened(betas, exact(betas))
    after = refusals(betas, exact(betas))
    assert after.max() < 1.15 * after.min()
    assert len(evened(uneven, exact(uneven), 9)) == 9
    # f varies alike at all betas: even betas are the even ones.
    np.testing.assert_allclose(betas, np.linspace(0, 1, 5), atol=0.02)


def test_the_barrier_belongs_to_the_model_and_not_to_its_ladder():
    """For normal f of deviation s, E |f - f'| / 2 = s / sqrt(pi), at every beta."""
    fine, finer = (barrier(b, exact(b)) for b in (np.linspace(0, 1, 17), np.linspace(0, 1, 33)))
    assert fine == pytest.approx(SLOPE / np.sqrt(np.pi), rel=0.05)
    assert finer == pytest.approx(fine, rel=0.05)


def test_log_z_from_replicas_covers_the_truth_and_a_drifting_ladder_is_refused():
    betas = rising(5)
    estimates = [from_replicas(betas, exact(betas, 16, 200, seed)) for seed in range(40)]
    assert all(found.holds for found in estimates)
    z = [(found.mean - LOG_Z) / found.standard_error for found in estimates]
    assert np.mean(np.abs(z) < 2.2) > 0.8
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z))
    drifting = exact(betas, 16, 200)
    drifting[:, :, 1:] -= np.linspace(4.0, 0.0, 200)[:, None]
    found = from_replicas(betas, drifting)
    assert not found.holds
    assert "second half" in found.words


def test_a_gap_in_the_ladder_is_refused():
    betas = np.array([0.0, 1.0])
    f = exact(betas, 16, 200) + 30 * np.array([-1.0, 1.0])
    found = from_replicas(betas, f)
    assert not found.holds
    assert "more replicas" in found.words


def test_sampled_replicas_tell_log_z():
    """Two modes 8 apart, of which one weighs three times as much as the other."""
    places, weights = jnp.asarray([-4.0, 4.0]), jnp.asarray([0.75, 0.25])

    def log_density(u):
        log_p = jax.nn.logsumexp(jnp.log(weights) - 2 * (u[:, :1] - places) ** 2, axis=1)
        return log_p + jnp.log(2.0) - 0.5 * jnp.sum(u[:, 1:] ** 2, axis=1)

    kernel = ReplicaExchange(rising(8), num_leapfrogs=5)
    draws = sample(
        jr.key(0), log_density, jr.normal(jr.key(1), (64, 2)), num_draws=600, num_warmup=150,
        kernel=kernel, step_size=0.2,
    )  # fmt: skip
    assert draws.replicas.shape == (64, 600, 8)
    assert "replicas" not in draws.summaries
    np.testing.assert_allclose(
        draws.replicas[..., -1][:, -1],
        draws.final.log_density + 0.5 * jnp.sum(draws.final.position**2, axis=1),
        rtol=1e-4,
    )
    found = from_replicas(rising(8), draws.replicas)
    assert found.holds
    assert abs(found.mean) < 4 * found.standard_error  # exp f q is a density: Z = 1
    assert found.standard_error < 0.1
    by_chain = (draws.positions[..., 0] < 0).mean(axis=1)
    error = by_chain.std() / np.sqrt(len(by_chain))
    assert by_chain.mean() == pytest.approx(0.75, abs=4 * error)
    assert error < 0.05


def test_longer_steps_below_make_replicas_there_forget_sooner():
    """f is stiff: at beta = 1 it allows steps of 0.05, at 0.04 of 0.2. The twin has one step."""

    def log_density(u):
        return -200 * jnp.sum(u[:, :2] ** 2, axis=1) - 0.5 * jnp.sum(u**2, axis=1)

    def effective(stretch):
        kernel = ReplicaExchange([0.0, 0.04, 1.0], num_leapfrogs=4, stretch=stretch)
        draws = sample(
            jr.key(2), log_density, 0.05 * jr.normal(jr.key(3), (32, 2)), num_draws=200,
            num_warmup=0, kernel=kernel, step_size=0.02,
        )  # fmt: skip
        assert np.mean(draws.acceptance) > 0.9
        return float(convergence(draws.replicas[..., 1:2]).ess_bulk[0])

    assert effective(0.5) > 2 * effective(0.0)


def test_bad_replicas_are_named():
    with pytest.raises(InputError, match="chains, draws, 3"):
        refusals(np.array([0.0, 0.5, 1.0]), np.zeros((4, 5, 2)))
    with pytest.raises(InputError, match="four or more"):
        from_replicas(np.array([0.0, 1.0]), np.zeros((2, 5, 2)))
