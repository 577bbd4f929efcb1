"""i-SIR: iterated sampling importance resampling, independence moves with many proposals.

A chain's present point and `proposals` fresh draws of the backbone compete with weights exp(f);
the winner is the next point. Andrieu, Lee, Vihola 2018, "Uniform ergodicity of the iterated
conditional SMC" (arXiv 1312.6432), section 2; Samsonov et al. 2022 (arXiv 2111.02702), alg. 1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.batch import half_square, per_chain
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.point import Point, evaluate, tilt_of


class ISIR(Kernel):
    """Many draws of the backbone for each chain, one of them or the present point kept.

    A draw at which the log-density is not finite has weight 0; its chain counts as divergent, but
    may still move to another draw.

    Attributes:
        proposals: fresh draws a chain and transition, all evaluated in one batch; static.
        target: None: there is no step to adapt.
    """

    proposals: int = eqx.field(static=True, default=16)
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
        shape = (self.proposals, chains, *event)
        draws = jax.random.normal(draw_key, shape, state.position.dtype)
        values = evaluate(log_density, draws.reshape(-1, *event)).log_density
        values = values.reshape(self.proposals, chains)
        tilts = values + jax.vmap(half_square)(draws)
        is_finite = jnp.isfinite(tilts)

        log_weights = jnp.where(is_finite, tilts, -jnp.inf)
        log_weights = jnp.concatenate(
            [tilt_of(state)[None], log_weights]
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
