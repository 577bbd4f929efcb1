"""i-SIR: iterated sampling importance resampling, independence moves with many proposals.

A chain's present point and `proposals` fresh draws of the backbone compete with weights exp(f);
the winner is the next point. Draws of another sampler, of known log-density h over N(0, I), compete
with weights exp(f - h). Andrieu, Lee, Vihola 2018, "Uniform ergodicity of the iterated
conditional SMC" (arXiv 1312.6432), section 2; Samsonov et al. 2022 (arXiv 2111.02702), alg. 1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.batch import per_chain
from tiltflow.mcmc.independence import Proposal, over_proposal
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.point import Point, evaluate

PART = 4_096  # evaluations at a time, or one for every chain, so that memory is bounded


class ISIR(Kernel):
    """Many draws of the backbone for each chain, one of them or the present point kept.

    A draw at which the log-density is not finite has weight 0; its chain counts as divergent, but
    may still move to another draw.

    Attributes:
        proposals: fresh draws a chain and transition, evaluated `PART` at a time; static.
        proposal: where they are from; None: the backbone, N(0, I). What it leaves of a point as it
            is, all draws share.
        target: None: there is no step to adapt.
    """

    proposals: int = eqx.field(static=True, default=16)
    proposal: Proposal | None = None
    target: float | None = None

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> Point:
        """The state at `position`, at the cost of one evaluation."""
        return evaluate(log_density, position)

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: Point, tuning: Tuning
    ) -> tuple[Point, Info]:
        """One choice for every chain; the rate told is the probability of leaving the point."""
        draw_key, choice_key = jax.random.split(key)
        chains, *event = state.position.shape
        draws = self._draws(draw_key, state.position)
        if self.proposals * chains <= PART:
            values = evaluate(log_density, draws.reshape(-1, *event)).log_density
        else:
            values = jax.lax.map(lambda u: evaluate(log_density, u).log_density, draws)
        values = values.reshape(self.proposals, chains)
        tilts = jax.vmap(self._over_proposal)(Point(draws, values))
        is_finite = jnp.isfinite(tilts)

        log_weights = jnp.where(is_finite, tilts, -jnp.inf)
        log_weights = jnp.concatenate(
            [self._over_proposal(state)[None], log_weights]
        )  # [proposals + 1, chains]
        winner = jax.random.categorical(choice_key, log_weights, axis=0)
        is_moved = winner > 0
        index = jnp.maximum(winner - 1, 0)[None]
        drawn = jnp.take_along_axis(draws, index.reshape(1, chains, *[1] * len(event)), axis=0)[0]
        value = jnp.take_along_axis(values, index, axis=0)[0]
        position = jnp.where(per_chain(is_moved, drawn), drawn, state.position)
        log_density_kept = jnp.where(is_moved, value, state.log_density)
        return Point(position, log_density_kept), Info(
            acceptance_rate=1.0 - jax.nn.softmax(log_weights, axis=0)[0],
            is_accepted=is_moved,
            is_divergent=~jnp.all(is_finite, axis=0),
            energy=-log_density_kept,
            gradients=jnp.asarray(self.proposals),
        )

    def _draws(self, key: PRNGKeyArray, position: Array) -> Float[Array, "proposals chains *event"]:
        proposal = self.proposal
        if proposal is None:
            return jax.random.normal(key, (self.proposals, *position.shape), position.dtype)
        keys = jax.random.split(key, self.proposals)
        return jax.lax.map(lambda key: proposal.renew(key, position), keys)

    def _over_proposal(self, point: Point) -> Float[Array, " chains"]:
        """The log of the target over the proposal, up to a constant."""
        return over_proposal(self.proposal, point)
