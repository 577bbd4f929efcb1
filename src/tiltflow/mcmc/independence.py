"""Independence Metropolis with the backbone as proposal.

A draw of the backbone is N(0, I) in the latent space. Proposal and the normal part of the target
cancel, so it is accepted on the difference of f alone: min(1, exp(f(new) - f(old))). It jumps
between modes that no trajectory connects, and is rarely accepted once f is large.
Tierney 1994, "Markov chains for exploring posterior distributions", section 2.3.3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.batch import choose
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.metropolis import decide
from tiltflow.mcmc.point import Point, evaluate, tilt_of


class Independence(Kernel):
    """A fresh draw of the backbone for each chain, accepted on f.

    Attributes:
        target: None: there is no step to adapt.
    """

    target: float | None = None

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> Point:
        """The state at `position`, at the cost of one evaluation."""
        return evaluate(log_density, position)

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: Point, tuning: Tuning
    ) -> tuple[Point, Info]:
        """One proposal for every chain; `tuning` is not looked at."""
        draw_key, accept_key = jax.random.split(key)
        draw = jax.random.normal(draw_key, state.position.shape, state.position.dtype)
        new = evaluate(log_density, draw)
        decision = decide(accept_key, tilt_of(new) - tilt_of(state), jnp.isfinite(new.log_density))
        kept = choose(decision.is_accepted, new, state)
        return kept, Info(*decision, energy=-kept.log_density, gradients=jnp.asarray(1))
