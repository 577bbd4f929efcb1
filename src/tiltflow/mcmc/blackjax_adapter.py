"""Any BlackJAX algorithm as a kernel, one chain at a time under `jax.vmap`; NUTS by default.

Under vmap every chain waits for the slowest: a transition costs the most leapfrogs any of the
chains took, and that is what `gradients` tells. Hoffman, Gelman 2014 (arXiv 1111.4246) for NUTS.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.batch import all_event, all_finite, choose
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning

OneLogDensity = Callable[[Float[Array, " *event"]], Float[Array, ""]]
Build = Callable[[OneLogDensity, Tuning, int], Any]


def nuts(log_density: OneLogDensity, tuning: Tuning, dim: int) -> Any:
    """The No-U-Turn sampler with a unit mass matrix; it needs no length."""
    import blackjax

    return blackjax.nuts(log_density, step_size=tuning.step_size, inverse_mass_matrix=jnp.ones(dim))


def hmc(log_density: OneLogDensity, tuning: Tuning, dim: int) -> Any:
    """BlackJAX's HMC, 8 leapfrogs: a cross-check of ours."""
    import blackjax

    return blackjax.hmc(
        log_density,
        step_size=tuning.step_size,
        inverse_mass_matrix=jnp.ones(dim),
        num_integration_steps=8,
    )


class BlackJAXState(NamedTuple):
    """Where the chains are, and the algorithm's own state.

    Attributes:
        position: `[chains, *event]`.
        log_density: `[chains]`.
        inner: the algorithm's state, every array with the chains first.
    """

    position: Float[Array, "chains *event"]
    log_density: Float[Array, " chains"]
    inner: Any


class BlackJAX(Kernel):
    """A BlackJAX algorithm whose state has a `position` and a `logdensity`.

    Attributes:
        build: (one-example log-density, tuning, dim) to the algorithm, a pair of functions `init`
            and `step`; static.
        target: the mean acceptance that warm-up aims at; None if the algorithm tells none.
    """

    build: Build = eqx.field(static=True, default=nuts)
    target: float | None = 0.8

    def init(
        self, log_density: LogDensity, position: Float[Array, "chains *event"]
    ) -> BlackJAXState:
        """The state at `position`."""
        unused = Tuning(jnp.asarray(1.0), jnp.asarray(1.0))
        algorithm = self._algorithm(log_density, position, unused)
        return _state(jax.vmap(lambda one: algorithm.init(one))(position))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: BlackJAXState, tuning: Tuning
    ) -> tuple[BlackJAXState, Info]:
        """One transition of every chain; one that ended where not all is finite is undone.

        What the algorithm's info does not have is filled in: no divergence, acceptance 1, minus
        the log-density as energy, one gradient.
        """
        keys = jax.random.split(key, state.position.shape[0])
        algorithm = self._algorithm(log_density, state.position, tuning)
        inner, told = jax.vmap(algorithm.step)(keys, state.inner)
        is_finite = all_finite(_floats(inner))
        kept = _state(choose(is_finite, inner, state.inner))
        is_moved = ~all_event(kept.position == state.position)

        ones = jnp.ones_like(kept.log_density)
        rate = getattr(told, "acceptance_rate", ones)
        is_divergent = getattr(told, "is_divergent", ~is_finite) | ~is_finite | ~jnp.isfinite(rate)
        energy = getattr(told, "energy", -kept.log_density)
        return kept, Info(
            acceptance_rate=jnp.where(is_divergent, 0.0, rate),
            is_accepted=getattr(told, "is_accepted", is_moved) & is_finite,
            is_divergent=is_divergent,
            energy=jnp.where(jnp.isfinite(energy), energy, -kept.log_density),
            gradients=jnp.max(jnp.asarray(getattr(told, "num_integration_steps", 1))).astype(int),
        )

    def _algorithm(self, log_density: LogDensity, position: Array, tuning: Tuning) -> Any:
        dim = position[0].size
        return self.build(lambda one: log_density(one[None])[0], tuning, dim)


def _state(inner: Any) -> BlackJAXState:
    return BlackJAXState(inner.position, inner.logdensity, inner)


def _floats(state: Any) -> list[Array]:
    return [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
