"""The programs whose times `sampling.py` compares: HMC of four makes, and its bare gradients.

Every maker returns a compiled program without arguments, or None if its package is missing. All
are HMC with a unit mass matrix and a fixed number of leapfrogs, nothing adapted.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from tiltflow.mcmc import hmc, program
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.kernel import LogDensity
from tiltflow.mcmc.length import FixedLength
from tiltflow.mcmc.program import Plan
from tiltflow.model.tilted import TiltedModel

Program = Callable[[], Any]
KEY = 0
NUDGE = 1e-6  # along the gradient, so that no evaluation repeats the last


@eqx.filter_jit
def gradients(log_density: LogDensity, start: jax.Array, count: int) -> tuple:
    """`count` value-and-gradient products, one after the other, and nothing else."""
    evaluate = hmc.value_and_gradient(log_density)

    def one(_: int, carry: tuple) -> tuple:
        position, _, gradient = carry
        position = position + NUDGE * gradient
        return position, *evaluate(position)

    nothing = jnp.zeros(len(start)), jnp.zeros_like(start)
    return jax.lax.fori_loop(0, count, one, (start, *nothing))


def driver(
    model: TiltedModel, start: jax.Array, step: float, leapfrogs: int, transitions: int
) -> Program:
    """A chunk of `mcmc.sample`."""
    log_density = model.latent_log_densities
    kernel, rule = HMC(num_leapfrogs=leapfrogs, jitter=jnp.asarray(0.2)), FixedLength()
    carry = program.start(
        kernel, log_density, start, jnp.asarray(step), jnp.asarray(1.5), rule, False
    )
    plan = jax.tree.map(jnp.asarray, Plan(0, transitions, 0, 1, False))
    return lambda: program.advance(
        kernel, log_density, None, rule, jr.key(KEY), carry, plan, size=transitions, keep=True
    )


def steps(
    model: TiltedModel, start: jax.Array, step: float, leapfrogs: int, transitions: int
) -> Program:
    """`hmc.step` in a loop."""
    log_density = model.latent_log_densities

    @eqx.filter_jit
    def run(log_density: LogDensity, key: jax.Array, state: hmc.HMCState) -> hmc.HMCState:
        evaluate = hmc.value_and_gradient(log_density)

        def one(index: jax.Array, state: hmc.HMCState) -> hmc.HMCState:
            key_now = jr.fold_in(key, index)
            return hmc.step(key_now, state, evaluate, step, num_leapfrogs=leapfrogs)[0]

        return jax.lax.fori_loop(0, transitions, one, state)

    state = hmc.init(start, hmc.value_and_gradient(log_density))
    return lambda: run(log_density, jr.key(KEY), state)


def blackjax(
    model: TiltedModel, start: jax.Array, step: float, leapfrogs: int, transitions: int
) -> Program | None:
    """BlackJAX's HMC under `vmap`."""
    if importlib.util.find_spec("blackjax") is None:
        return None
    from blackjax import hmc as peer

    @eqx.filter_jit
    def run(model: TiltedModel, key: jax.Array, start: jax.Array) -> Any:
        sampler = peer(model.latent_log_density, step, jnp.ones(start.shape[1]), leapfrogs)

        def one(index: jax.Array, state: Any) -> Any:
            keys = jr.split(jr.fold_in(key, index), len(start))
            return jax.vmap(sampler.step)(keys, state)[0]

        return jax.lax.fori_loop(0, transitions, one, jax.vmap(sampler.init)(start))

    return lambda: run(model, jr.key(KEY), start)


def numpyro(
    model: TiltedModel, start: jax.Array, step: float, leapfrogs: int, transitions: int
) -> Program | None:
    """NumPyro's HMC with a batch of keys, which is its vectorised chain method."""
    if importlib.util.find_spec("numpyro") is None:
        return None
    from numpyro.infer import HMC as Peer

    @eqx.filter_jit
    def run(model: TiltedModel, key: jax.Array, start: jax.Array) -> Any:
        sampler = Peer(
            potential_fn=lambda u: -model.latent_log_density(u),
            step_size=step,
            num_steps=leapfrogs,
            adapt_step_size=False,
            adapt_mass_matrix=False,
        )
        state = sampler.init(jr.split(key, len(start)), 0, start)
        return jax.lax.fori_loop(
            0, transitions, lambda _, state: sampler.sample(state, (), {}), state
        )

    return lambda: run(model, jr.key(KEY), start)


OVERHEADS = {"tiltflow": driver, "tiltflow_step": steps, "blackjax": blackjax, "numpyro": numpyro}
