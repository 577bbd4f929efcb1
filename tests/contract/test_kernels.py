"""The contract that every kernel goes through, and that broken ones must not pass.

A check compares what many independent chains have seen with the truth, in standard errors that
come from the chains' own scatter, so that no model of autocorrelation is needed.
"""

import functools
from typing import NamedTuple

import broken_kernels as broken
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from kernel_targets import DENSITIES, Target, cells, truth

from tiltflow.mcmc import (
    HMC,
    ISIR,
    MALA,
    BlackJAX,
    GaussianHMC,
    Independence,
    Mixture,
    ReplicaExchange,
    Tuning,
    UnadjustedLangevin,
    blackjax_adapter,
)
from tiltflow.mcmc.batch import all_finite

OPTIMISED = True

STANDARD_ERRORS = 4.5  # of the largest of nine statistics
CHAINS = 512


class Case(NamedTuple):
    """A kernel, its settings, and how many transitions it gets."""

    kernel: object
    step_size: float = 0.5
    transitions: int = 400
    length: float = 2.5

    @property
    def tuning(self):
        return tuning(self.step_size, self.length)


def tuning(step_size, length=2.5):
    return Tuning(jnp.asarray(step_size), jnp.asarray(length))


def drifting(kept):
    return Case(broken.Drifting(kept=jnp.asarray(kept)), step_size=0.4)


def exchanging(tests):
    return Case(broken.Exchanging([0.0, 0.4, 1.0], jnp.asarray(tests), num_leapfrogs=3))


CASES = {
    "HMC": Case(HMC(), step_size=0.4),
    "Gaussian-exact HMC": drifting(1.0),  # one program with its twin
    "MALA": Case(MALA(), step_size=0.7, transitions=1500),
    "independence": Case(Independence(), transitions=600),
    "i-SIR": Case(ISIR(proposals=6)),
    "mixture": Case(Mixture([HMC(num_leapfrogs=3), Independence()], [0.7, 0.3])),
    "cycle": Case(Mixture([MALA(), ISIR(proposals=3)], cycle=[0, 0, 1]), transitions=600),
    "replica exchange": exchanging(1.0),
    "NUTS": Case(BlackJAX(), step_size=0.6, transitions=200),
    "BlackJAX's HMC": Case(BlackJAX(blackjax_adapter.hmc), step_size=0.4),
}
# A mixture like the other, and an adapter like the other: programs that take longest.
SLOW = ("cycle", "NUTS")
every_kernel = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in CASES]
)
TUNED = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name, case in CASES.items()
    if case.kernel.target is not None
]


class Outcome(NamedTuple):
    """What the chains saw.

    Attributes:
        means: of the statistics, `[chains, 9]`.
        acceptance: mean rate.
        divergences: share of transitions.
        is_finite: whether all states and all that was told were.
        is_consistent: no rate outside [0, 1].
    """

    means: jax.Array
    acceptance: jax.Array
    divergences: jax.Array
    is_finite: jax.Array
    is_consistent: jax.Array


@eqx.filter_jit
def chains(kernel, target, tuning, key, transitions):
    """The last three quarters of `transitions`, from N(0, I) folded onto u_0 < 1."""
    u = jr.normal(key, (CHAINS, 2))
    u = u.at[:, 0].set(jnp.where(u[:, 0] > 1, 2 - u[:, 0], u[:, 0]))
    burn = transitions // 4

    def transition(index, carry):
        state, seen = carry
        state, info = kernel.step(jr.fold_in(key, index), target, state, tuning)
        rate = info.acceptance_rate
        counts = (index >= burn).astype(rate.dtype)
        return state, Outcome(
            seen.means + counts * target.statistics(state.position),
            seen.acceptance + counts * jnp.mean(rate),
            seen.divergences + counts * jnp.mean(info.is_divergent),
            seen.is_finite & jnp.all(all_finite((*state[:2], rate, info.energy))),
            seen.is_consistent & jnp.all((rate >= 0) & (rate <= 1 + 1e-5)),
        )

    yes, zero = jnp.asarray(True), jnp.zeros(())
    seen = Outcome(jnp.zeros((CHAINS, 9)), zero, zero, yes, yes)
    start = (kernel.init(target, u), seen)
    _, seen = jax.lax.fori_loop(0, transitions, transition, start)
    kept = transitions - burn
    return seen._replace(
        means=seen.means / kept,
        acceptance=seen.acceptance / kept,
        divergences=seen.divergences / kept,
    )


def run(case, target, *, seed=0):
    return chains(case.kernel, target, case.tuning, jr.key(seed), jnp.asarray(case.transitions))


def check_means(means, exact):
    """Fails if any mean over chains is further from the truth than chance allows."""
    means = np.asarray(means, np.float64)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    worst = np.max(np.abs(means.mean(axis=0) - exact) / error)
    assert worst < STANDARD_ERRORS, f"{worst:.1f} standard errors from the truth"


def check_target(case, name, **wrong):
    outcome = run(case, Target(name, **wrong))
    assert outcome.is_finite, "not finite"
    assert outcome.is_consistent
    check_means(outcome.means, truth(name))
    return outcome


@every_kernel
def test_moments_and_distribution_functions(name):
    for target in DENSITIES:
        outcome = check_target(CASES[name], target)
        assert 0.03 < outcome.acceptance <= 1.0
        assert (outcome.divergences > 0.002) == (target == "half-plane"), target


@every_kernel
@pytest.mark.parametrize("wrong", ["sign", "normal", "log_det"])
def test_a_wrong_density_fails(name, wrong):
    """F taken for an energy; |u|^2 / 2 counted twice; the log-determinant left in."""
    value = -1.0 if wrong == "sign" else 1.0
    with pytest.raises(AssertionError, match="standard errors"):
        check_target(CASES[name], "tilted flow", **{wrong: value})


SMOOTH = [name for name in DENSITIES if name != "half-plane"]


def test_without_its_test_a_kernel_fails_on_every_target():
    case = Case(broken.WithoutAccept(), step_size=0.6)
    for target in SMOOTH:
        with pytest.raises(AssertionError):
            check_target(case, target)
    with pytest.raises(AssertionError, match="not finite"):
        check_target(case, "half-plane")


def test_a_momentum_that_is_kept_has_to_be_negated():
    sound = Case(broken.PersistentMomentum(jnp.asarray(True)), step_size=0.5, transitions=1000)
    wrong = sound._replace(kernel=broken.PersistentMomentum(jnp.asarray(False)))
    for target in ("gaussian", "tilted flow"):
        check_target(sound, target)
        with pytest.raises(AssertionError, match="standard errors"):
            check_target(wrong, target)


def test_a_step_size_that_goes_on_adapting_fails():
    sound = Case(broken.AdaptsWhileSampling(jnp.asarray(0.0)), step_size=1.0, transitions=2000)
    wrong = sound._replace(kernel=broken.AdaptsWhileSampling(jnp.asarray(1.0)))
    for target in ("gaussian", "funnel"):
        check_target(sound, target)
        with pytest.raises(AssertionError, match="standard errors"):
            check_target(wrong, target)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(drifting(0.95), id="ShrinkingDrift"),
        pytest.param(Case(broken.ChoosesByPosition()), id="ChoosesByPosition"),
        pytest.param(exchanging(0.0), id="ExchangesAlways"),
        pytest.param(Case(UnadjustedLangevin(), step_size=0.7), id="UnadjustedLangevin"),
    ],
)
def test_broken_kernels_fail(case):
    for target in ("gaussian", "tilted flow"):
        with pytest.raises(AssertionError, match="standard errors"):
            check_target(case, target)


def test_unadjusted_langevin_says_that_it_is_biased():
    assert UnadjustedLangevin().is_biased
    assert Mixture([MALA(), UnadjustedLangevin()]).is_biased
    assert not any(case.kernel.is_biased for case in CASES.values())


def check_extremes(case):
    """Tiny steps are accepted, huge ones refused, and nothing is NaN."""
    few = case._replace(transitions=12)
    tiny = run(few._replace(step_size=0.02, length=0.1), Target("tilted flow"))
    huge = run(few._replace(step_size=40.0, length=80.0), Target("gaussian"))
    assert tiny.is_finite
    assert huge.is_finite
    assert tiny.acceptance > 0.99
    assert huge.acceptance < 0.03


@pytest.mark.parametrize("name", TUNED)
def test_acceptance_at_extreme_step_sizes(name):
    check_extremes(CASES[name])


def test_the_check_of_extremes_has_power():
    with pytest.raises(AssertionError):
        check_extremes(Case(broken.WithoutAccept()))


NOISE = 0.7


def predict(u):
    """What is measured of u, before noise."""
    return jnp.stack([u[..., 0] + 0.5 * u[..., 1] ** 2, jnp.sin(2 * u[..., 1])], axis=-1)


class Posterior(eqx.Module):
    """u ~ N(0, I), y = predict(u) + noise: the density of u given y; a weight but 1 breaks it."""

    y: jax.Array
    weight: jax.Array

    def __call__(self, u):
        f = -0.5 * jnp.sum((self.y - predict(u)) ** 2, axis=-1) / NOISE**2
        return self.weight * f - 0.5 * jnp.sum(u**2, axis=-1)


def joint_statistics(u, y):
    """`[..., 14]`; the squared residuals see a likelihood of the wrong weight."""
    residual = (y - predict(u)) ** 2
    return jnp.concatenate([u, u**2, u**3, y, u * y, u[..., ::-1] * y, residual], axis=-1)


@eqx.filter_jit
def getting_it_right(kernel, tuning, weight, key):
    """Means `[replicates, 14]` over sweeps of: u moved given y, y drawn given u.

    Each replicate starts with an exact draw of (u, y), so all sweeps have the joint distribution.
    The moved u is compared with the y that it was moved given: with a fresh one an independence
    kernel that takes f by half would pass, its moves being symmetric in u.
    """
    start_key, sweep_key = jr.split(key)

    def measure(key, u):
        return predict(u) + NOISE * jr.normal(key, u.shape)

    def sweep(carry, key):
        u, y = carry
        move_key, measure_key = jr.split(key)
        posterior = Posterior(y, weight)
        state, _ = kernel.step(move_key, posterior, kernel.init(posterior, u[None]), tuning)
        u = state.position[0]
        return (u, measure(measure_key, u)), joint_statistics(u, y)

    def replicate(start, key):
        return jnp.mean(jax.lax.scan(sweep, start, jr.split(key, 60))[1], axis=0)

    u_key, y_key = jr.split(start_key)
    u = jr.normal(u_key, (600, 2))
    start = (u, jax.vmap(measure)(jr.split(y_key, 600), u))
    return jax.vmap(replicate)(start, jr.split(sweep_key, 600))


@functools.cache
def joint_truth():
    """Expectations of the joint statistics: noise has mean 0, and counts in residuals alone."""
    axis = cells(-7, 7, 0.02)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    p = np.exp(-0.5 * np.sum(u**2, axis=-1))
    values = jax.jit(lambda u: joint_statistics(u, predict(u)))(jnp.asarray(u))
    exact = p @ np.asarray(values, np.float64) / p.sum()
    return exact + np.array([0.0] * 12 + [NOISE**2] * 2)


GEWEKE = {
    **{name: CASES[name] for name in CASES if name not in ("cycle", "replica exchange")},
    "Gaussian-exact HMC": Case(GaussianHMC(), step_size=0.4),
    # Above beta = 0 a replica depends on y too, and drawing y given the last one alone would be
    # wrong: the ladder of two is the one that the test holds for.
    "replica exchange": Case(ReplicaExchange([0.0, 1.0], num_leapfrogs=3)),
}


FIRST = ("HMC", "independence")  # a program each; every kernel's moments and twins are compared


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FIRST else pytest.mark.slow) for n in GEWEKE]
)
def test_getting_it_right(name):
    """Geweke 2004, "Getting it right": the joint-distribution test; its twin takes half of f."""
    kernel, exact = GEWEKE[name].kernel, joint_truth()
    settings = GEWEKE[name].tuning
    check_means(getting_it_right(kernel, settings, jnp.asarray(1.0), jr.key(3)), exact)
    with pytest.raises(AssertionError, match="standard errors"):
        check_means(getting_it_right(kernel, settings, jnp.asarray(0.5), jr.key(3)), exact)


@pytest.mark.parametrize(
    "kernel",
    [broken.WithoutAccept(), pytest.param(UnadjustedLangevin(), marks=pytest.mark.slow)],
    ids=lambda kernel: type(kernel).__name__,
)
def test_getting_it_right_has_power_against_a_broken_kernel(kernel):
    means = getting_it_right(kernel, tuning(0.8), jnp.asarray(1.0), jr.key(3))
    with pytest.raises(AssertionError, match="standard errors"):
        check_means(means, joint_truth())
