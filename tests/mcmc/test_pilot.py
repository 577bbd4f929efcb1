"""The pilot: it chooses what is better by far, and not what was better elsewhere."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import targets

from tiltflow.errors import InputError
from tiltflow.mcmc import HMC, catalogue
from tiltflow.mcmc.pilot import choose

DIM = 16
SHORT, LONG = {"short": HMC(num_leapfrogs=2)}, {"long": HMC(num_leapfrogs=64)}


def diagnose(draws):
    """Effective draws by batch means, of the worst coordinate."""
    chains, number, _ = draws.shape
    spread = draws.mean(axis=1).var(axis=0, ddof=1) / draws.var(axis=(0, 1))
    return float(min(np.min(chains / np.maximum(spread, 1e-9)), chains * number)), 1.0


def isotropic(x):
    return -0.5 * jnp.sum(x**2, axis=-1)


def pilot(log_density, candidates, **settings):
    start = jr.normal(jr.key(1), (128, DIM))
    return choose(jr.key(0), log_density, start, candidates, diagnose=diagnose, **settings)


def test_long_trajectories_win_where_the_target_is_long_and_thin_and_lose_where_it_is_round():
    by = {"by": "ess_per_gradient"}  # so that a busy machine does not decide
    thin = pilot(targets.correlated(DIM, 0.99).log_density, SHORT | LONG, **by)
    assert thin.name == "long"
    told = []
    isotropic_choice = pilot(isotropic, LONG | SHORT, on_candidate=told.append, **by)
    assert isotropic_choice.name == "short"
    assert isotropic_choice.kernel is SHORT["short"]
    assert told == isotropic_choice.evidence
    assert [row["name"] for row in told] == ["long", "short"]
    best = told[1]
    assert best["ess_per_second"] == best["ess"] / best["seconds"]
    assert best["ess_per_gradient"] == best["ess"] / best["gradients"]
    assert 0.6 < best["acceptance"] < 0.95
    assert isotropic_choice.step_size == best["step_size"] != 0.1
    assert best["gradients"] == 128 * 300


def test_those_that_come_near_the_best_go_on():
    """Two equal kernels are run for longer; one that is far behind is not."""
    near = {"one": HMC(num_leapfrogs=2), "other": HMC(num_leapfrogs=2)} | LONG
    found = pilot(isotropic, near, num_draws=50, by="ess_per_gradient")
    draws = {row["name"]: row["gradients"] / 128 for row in found.evidence}
    assert draws == {"one": 2 * 250, "other": 2 * 250, "long": 64 * 50}
    rates = [row["ess_per_gradient"] for row in found.evidence]
    assert found.evidence[rates.index(max(rates))]["name"] == found.name


def test_compiling_is_not_counted():
    """Compiling takes a large part of a second; 10 draws of this target take milliseconds."""
    row = pilot(lambda x: isotropic(x), SHORT, num_draws=10).evidence[0]
    assert row["seconds"] < 0.2


def test_no_kernel_that_moves_is_a_mistake():
    with pytest.raises(InputError, match="no kernel of an empty list"):
        pilot(isotropic, {})
    with pytest.raises(InputError, match="num_warmup is 0"):
        pilot(isotropic, SHORT, num_warmup=0)


def test_the_catalogue_knows_its_names():
    assert catalogue.named("hmc", 5).num_leapfrogs == 5
    assert catalogue.named("hmc-16", 5).num_leapfrogs == 16
    catalogue.check_name("auto")
    with pytest.raises(InputError, match="expected one of auto, hmc, chees"):
        catalogue.check_name("gibbs")
