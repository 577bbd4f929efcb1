"""Independence Metropolis with the backbone as proposal.

A draw of the backbone is N(0, I) in the latent space. Proposal and the normal part of the target
cancel, so it is accepted on the difference of f alone: min(1, exp(f(new) - f(old))). It jumps
between modes that no trajectory connects, and is rarely accepted once f is large.

Any other exact sampler r will do as `proposal`, if it knows its density over N(0, I), h = log r/N:
then a draw of r is accepted on f - h. Where f is h and something small, as that of a tilt with a
mixture in it (`tilts/mixture.py`), most are. It need not draw everything anew: it may leave a part
of the point as it is, and draw the rest given that.
Tierney 1994, "Markov chains for exploring posterior distributions", section 2.3.3.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.batch import choose
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.metropolis import decide
from tiltflow.mcmc.point import Point, evaluate, tilt_of


class Proposal(Protocol):
    """A sampler whose density over N(0, I) is known; a pytree."""

    def __call__(self, u: Float[Array, "*event"], /) -> Float[Array, ""]:
        """h: the log of its density over that of N(0, I), up to a constant."""
        ...

    def renew(
        self, key: PRNGKeyArray, u: Float[Array, "chains *event"]
    ) -> Float[Array, "chains *event"]:
        """What is proposed to chains at `u`: draws of it, given what of u stays as it is."""
        ...


class Independence(Kernel):
    """A fresh draw of the backbone, or of a proposal, for each chain.

    Attributes:
        proposal: None: the backbone, N(0, I).
        target: None: there is no step to adapt.
    """

    proposal: Proposal | None = None
    target: float | None = None

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> Point:
        """The state at `position`, at the cost of one evaluation."""
        return evaluate(log_density, position)

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: Point, tuning: Tuning
    ) -> tuple[Point, Info]:
        """One proposal for every chain; `tuning` is not looked at."""
        draw_key, accept_key = jax.random.split(key)
        if self.proposal is None:
            draw = jax.random.normal(draw_key, state.position.shape, state.position.dtype)
        else:
            draw = self.proposal.renew(draw_key, state.position)
        new = evaluate(log_density, draw)
        rise = self._over_proposal(new) - self._over_proposal(state)
        uniform = jax.random.uniform(accept_key, rise.shape, rise.dtype)
        decision = decide(uniform, rise, jnp.isfinite(new.log_density))
        kept = choose(decision.is_accepted, new, state)
        return kept, Info(*decision, energy=-kept.log_density, gradients=jnp.asarray(1))

    def _over_proposal(self, point: Point) -> Float[Array, " chains"]:
        """The log of the target over the proposal, up to a constant."""
        return over_proposal(self.proposal, point)


def over_proposal(proposal: Proposal | None, point: Point) -> Float[Array, " chains"]:
    """The log of the target at `point` over the proposal, the backbone if None, but a constant."""
    f = tilt_of(point)
    return f if proposal is None else f - jax.vmap(proposal)(point.position)
