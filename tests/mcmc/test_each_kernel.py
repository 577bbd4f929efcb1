"""What is particular to one kernel; what all have in common is in `tests/contract`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.mcmc import (
    HMC,
    ISIR,
    MALA,
    GaussianHMC,
    Independence,
    Mixture,
    ReplicaExchange,
    Tuning,
    hmc,
    sample,
)
from tiltflow.mcmc.mixture import MixtureInfo


def tuning(step_size, length=1.0):
    return Tuning(jnp.asarray(step_size), jnp.asarray(length))


def normal(u):
    return -0.5 * jnp.sum(u**2, axis=-1)


def wave(u):
    return jnp.sin(2 * u[:, 0]) + jnp.cos(u[:, 1] * u[:, 0]) + normal(u)


def one_step(kernel, log_density, u, tuning):
    @eqx.filter_jit
    def run(kernel, u, tuning):
        return kernel.step(jr.key(1), log_density, kernel.init(log_density, u), tuning)

    return run(kernel, u, tuning)


def test_hmc_with_a_number_of_leapfrogs_is_hmc_step():
    u = jr.normal(jr.key(0), (20, 2))
    both = hmc.value_and_gradient(wave)
    expected, _ = jax.jit(
        lambda u: hmc.step(jr.key(1), hmc.init(u, both), both, 0.4, num_leapfrogs=5)
    )(u)
    found, info = one_step(HMC(num_leapfrogs=5), wave, u, tuning(0.4, length=99.0))
    np.testing.assert_array_equal(found.position, expected.position)
    assert int(info.gradients) == 5


def test_the_number_of_leapfrogs_follows_length_and_never_compiles_again():
    traces = []

    def counted(u):
        traces.append(1)
        return normal(u)

    u = jr.normal(jr.key(0), (20, 2))

    @eqx.filter_jit
    def run(kernel, key, tuning):
        return kernel.step(key, counted, kernel.init(counted, u), tuning)[1].gradients

    kernel = HMC(length_jitter=jnp.asarray(0.5), most_leapfrogs=64)
    counts = [int(run(kernel, jr.key(i), tuning(0.1, 2.0))) for i in range(30)]
    before = len(traces)
    assert 10 <= min(counts) < 13 < 17 < max(counts) <= 20
    assert int(run(kernel, jr.key(0), tuning(0.1, 1e6))) == 64
    assert int(run(kernel, jr.key(0), tuning(0.1, jnp.nan))) == 1
    assert len(traces) == before


def test_gaussian_exact_hmc_accepts_everything_where_f_is_zero():
    u = jr.normal(jr.key(0), (64, 1000))
    settings = tuning(1.0, 8.0)
    _, exact = one_step(GaussianHMC(num_leapfrogs=8), normal, u, settings)
    assert float(exact.acceptance_rate.min()) > 0.995  # float32 rounding of 1,000 nats
    _, leapfrogs = one_step(HMC(num_leapfrogs=8), normal, u, settings)
    assert float(leapfrogs.acceptance_rate.mean()) < 0.1  # the twin


def test_mala_accepts_with_the_textbook_ratio():
    u = jr.normal(jr.key(0), (200, 2))
    step = 0.8
    _, info = one_step(MALA(), wave, u, tuning(step))
    gradient = jax.grad(lambda u: jnp.sum(wave(u)))

    def log_proposal(new, old):
        mean = old + 0.5 * step**2 * gradient(old)
        return -0.5 * jnp.sum((new - mean) ** 2, axis=-1) / step**2

    @jax.jit
    def expected(new):
        log_ratio = wave(new) + log_proposal(u, new) - wave(u) - log_proposal(new, u)
        return jnp.minimum(1.0, jnp.exp(log_ratio))

    np.testing.assert_allclose(info.acceptance_rate, expected(info.proposal), rtol=2e-3)


def test_a_mixture_tells_the_tuned_parts_acceptance():
    mixture = Mixture([HMC(num_leapfrogs=2), Independence()], cycle=[1, 0])
    u = jr.normal(jr.key(0), (50, 2))
    state, jump = one_step(mixture, wave, u, tuning(0.3))
    assert int(jump.part) == 1
    assert int(jump.gradients) == 2  # the draw's value, and the gradient where it was taken
    assert bool(jnp.all(jump.acceptance_rate == jnp.float32(0.8)))  # not adapted to a jump
    assert float(jnp.std(jump.part_rate)) > 0.01
    np.testing.assert_allclose(
        state.gradient,
        jax.jit(hmc.value_and_gradient(wave))(state.position)[1],
        rtol=1e-4,
        atol=1e-5,
    )
    state, local = eqx.filter_jit(mixture.step)(jr.key(2), wave, state, tuning(0.3))
    assert int(local.part) == 0
    np.testing.assert_array_equal(local.acceptance_rate, local.part_rate)


def test_a_mixture_without_gradients_evaluates_none():
    mixture = Mixture([Independence(), ISIR(proposals=3)], [0.5, 0.5])
    state = mixture.init(wave, jnp.zeros((4, 2)))
    assert state.gradient is None
    assert mixture.target is None


def test_exchanges_keep_points_with_their_values():
    ladder = ReplicaExchange([0.0, 0.3, 0.6, 1.0], num_leapfrogs=2)
    u = jr.normal(jr.key(0), (40, 2))
    state, info = one_step(ladder, wave, u, tuning(0.3))
    both = jax.jit(jax.vmap(hmc.value_and_gradient(wave), in_axes=1, out_axes=1))
    value, gradient = both(state.replicas.position)
    np.testing.assert_allclose(state.replicas.log_density, value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.replicas.gradient, gradient, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(state.position, state.replicas.position[:, -1])
    assert info.swap_rate.shape == (40, 3)
    assert 0.3 < float(info.swap_rate.mean()) <= 1.0
    assert int(info.gradients) == 7


@pytest.mark.parametrize("betas", [[0.5, 1.0], [0.0, 0.5], [0.0, 0.7, 0.4, 1.0], [1.0]])
def test_a_ladder_that_does_not_rise_from_0_to_1_is_refused(betas):
    with pytest.raises(InputError, match="rising from 0 to 1"):
        ReplicaExchange(betas)


def test_mixtures_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="two or more"):
        Mixture([MALA()])
    with pytest.raises(InputError, match="positive"):
        Mixture([MALA(), Independence()], [1.0, 0.0])
    with pytest.raises(InputError, match="indices"):
        Mixture([MALA(), Independence()], cycle=[0, 2])
    with pytest.raises(InputError, match="cannot be part"):
        Mixture([MALA(), ReplicaExchange([0, 1])]).init(normal, jnp.zeros((3, 2)))


@pytest.mark.parametrize("counts", [True, False])
def test_a_rare_part_tunes_its_step_by_its_own_moves(counts, monkeypatch):
    """HMC one time in twenty. Its twin hears of each of them twenty times, and goes astray."""
    leapfrogs = 3 if counts else 4  # not the program of the other
    kernel = Mixture([HMC(num_leapfrogs=leapfrogs), Independence()], cycle=[0, *[1] * 19])
    if not counts:
        monkeypatch.setattr(MixtureInfo, "is_tuned", property(lambda self: jnp.asarray(True)))
    how = {"num_draws": 40, "num_warmup": 2_000, "kernel": kernel, "step_size": 0.1}
    start = jr.normal(jr.key(0), (64, 8))
    found = sample(jr.key(1), lambda x: -0.5 * jnp.sum(x**2, axis=1) * 4, start, **how)
    assert (0.2 < float(found.step_size) < 1.5) is counts
