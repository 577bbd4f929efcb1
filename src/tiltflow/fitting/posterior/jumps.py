"""A jump: chains go to one of some exact draws of a proposal, where they can.

A chain's point and the draws beside it have weights p / q, and one of them in proportion to its
weight would do (i-SIR: Andrieu, Lee and Vihola 2018, section 2): a Gibbs step of the index, which
stays where it is one time in 1 + n though all weights are alike. Here it is Metropolised (Liu 1996,
"Peskun's theorem and a modified discrete-state Gibbs sampler", Biometrika 83): another index is
proposed, in proportion to the weights of the others, and taken with the probability of the sum
without the present one over the sum without the proposed one. With one draw this is Metropolis and
Hastings'; it leaves the same density invariant, and no mean is known worse by it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def landing(
    here: Float[Array, " chains"],
    fresh: Float[Array, "chains draws"],
    gumbel: Float[Array, "chains 1+draws"],
) -> Int[Array, " chains"]:
    """Where chains go: 0 stays, k is the k-th draw.

    Args:
        here: log-weights of the points that chains are at, finite.
        fresh: those of the draws, -inf where the density is 0.
        gumbel: Gumbel's random numbers.
    """
    best = jnp.argmax(fresh + gumbel[:, 1:], axis=1)
    others = jax.nn.logsumexp(fresh, axis=1)
    without = jnp.where(jnp.arange(fresh.shape[1]) == best[:, None], -jnp.inf, fresh)
    back = jnp.logaddexp(here, jax.nn.logsumexp(without, axis=1))
    log_uniform = -jnp.exp(-gumbel[:, 0])
    return jnp.where(log_uniform < others - back, best + 1, 0)
