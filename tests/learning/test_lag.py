"""Chains that lag: what it does to learning, and what the monitor and weights do about it.

The data are four clouds in the plane, the backbone is a Gaussian, as in `test_fit_tilt`.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from test_fit_tilt import QUICK, clouds, exact_log_z, learn

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning import Rows
from tiltflow.mcmc import sample
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MLPTilt

LAGGING = replace(  # of the sizes of `test_fit_tilt`, whose program serves here, too
    QUICK,
    steps=500,
    learner="persistent",
    transitions=1,
    leapfrogs=2,
    rate=3e-2,
    final_rate=1.0,
)
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def problem():
    train = clouds(2_000, 0)
    units = fit_units("standardise", train, integers=False)
    backbone = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    tilt = MLPTilt(2, width=32, key=jr.key(1))
    return (
        backbone,
        tilt,
        *(Rows(jnp.asarray(x), units, integers=False) for x in (train, clouds(1_000, 1))),
    )


def f_of_chain(position, log_density):
    return {"f": log_density + 0.5 * jnp.sum(position**2, axis=1)}


def apart(backbone, state):
    """Mean f of the training chains minus that of long chains started afresh, in errors."""
    model = TiltedModel(backbone, state.tilt)
    fresh = sample(
        jr.key(9),
        model.latent_log_densities,
        jr.normal(jr.key(8), (256, 2)),
        num_draws=50,
        num_warmup=100,
        summary=f_of_chain,
        keep=False,
    ).summaries["f"]
    trained = np.asarray(state.particles.f[state.particles.learners])
    error = np.hypot(fresh.mean(axis=1).std() / 16, trained.std() / len(trained) ** 0.5)
    return (trained.mean() - fresh.mean()) / error


def agree(problem, settings):
    """The check: under the typical seed training chains are within 4 errors of fresh ones."""
    found = []
    for seed in SEEDS:
        _, _, state, events = learn(problem, settings, seed)
        actions = [told["action"] for told in events.told("health")]
        assert ("2 times the transitions" in actions) == settings.watch
        found.append(abs(apart(problem[0], state)))
    return bool(np.median(found) < 4)


def test_the_monitor_sees_a_lag_and_mends_it(problem):
    assert agree(problem, LAGGING)


def test_without_the_monitor_the_chains_are_not_the_model(problem):
    assert not agree(problem, replace(LAGGING, watch=False))


def test_the_learners_own_weights_do_not_tell_log_z(problem):
    """Power: the update lowers f where the learners are, and their weights absorb it."""
    settings = replace(QUICK, steps=800, rate=1e-2, judge_every=5)
    _, _, state, events = learn(problem, settings, seed=0)
    end, truth = events.told("stage")[-1], exact_log_z(problem[0], state.tilt)
    assert abs(end["log_z_now"] - truth) < 0.1
    assert abs(end["log_z_running"] - truth) < 0.1
    assert abs(end["log_z_learners"] - truth) > 1.0


def last(tilt):
    return tilt.layers[-1].weight


@pytest.fixture(scope="module")
def stale(problem):
    """The backbone, a tilt, and u [n, 2]: draws of the model before it, when f was 0."""
    backbone, zero, *_ = problem
    later = eqx.tree_at(last, zero, 1.5 * jr.normal(jr.key(3), last(zero).shape))
    return backbone, later, jr.normal(jr.key(4), (40_000, 2))


@eqx.filter_jit
def negative_phase(backbone, tilt, u, weighted):
    """E_p of the gradient of f with respect to the last layer, by particles, [weights]."""
    y = jax.vmap(backbone.coordinates)(u)
    log_weights = jnp.where(weighted, jax.vmap(tilt)(y), 0.0)  # f was 0 when they were drawn
    gradient = jax.vmap(jax.grad(lambda w, y: eqx.tree_at(last, tilt, w)(y)), in_axes=(None, 0))
    each = gradient(last(tilt), y).reshape(len(y), -1)
    return jnp.sum(jax.nn.softmax(log_weights)[:, None] * each, axis=0)


def bias(stale, *, weighted=False, moves=0):
    """Size of the error of the mean negative phase of 40 groups of particles left behind by f."""
    backbone, tilt, u = stale
    truth = negative_phase(backbone, tilt, u, True)
    if moves:
        model = TiltedModel(backbone, tilt)
        u = sample(
            jr.key(5), model.latent_log_densities, u, num_draws=moves, num_warmup=0,
            num_leapfrogs=4, step_size=0.4, chunk=8, keep=False,
        ).final.position  # fmt: skip
    groups = [
        negative_phase(backbone, tilt, group, weighted) - truth for group in u.reshape(40, -1, 2)
    ]
    return float(jnp.linalg.norm(jnp.mean(jnp.stack(groups), axis=0)))


def test_weights_take_the_bias_out_of_the_gradient(stale):
    assert bias(stale, weighted=True) < bias(stale) / 5


@pytest.mark.slow
def test_more_transitions_take_the_bias_out_of_the_gradient(stale):
    assert bias(stale, moves=8) < bias(stale, moves=1) / 3
