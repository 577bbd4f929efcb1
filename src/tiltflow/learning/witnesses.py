"""What the witnesses say: the gain on held-out data, judged while learning goes on.

log Z is bridged between a bank of exact backbone draws, whose coordinates are computed once,
and the witnesses, reweighted to the tilt that is judged. It does not drift, and costs one pass
of f over the bank. The running log Z of the annealing weights does drift, by a standard error
more with every stage: it is anchored to the bridge at every judgement that holds.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning.particles import log_mean_exp, push_in_parts
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState
from tiltflow.normalizer.running import bridge_jax
from tiltflow.tilts import Tilt

DRAWS = 10  # dequantisations of each held-out row
FEWEST_DRAWS = 10.0  # effective, on either side of the bridge
LARGEST_F = 1e4  # nats


class Judgement(eqx.Module):
    """Gains in nats over the backbone, and the log Z they were computed with.

    Attributes:
        gain_train, gain_val: mean log p - log q of the rows.
        level: mean f under the model, which is to be subtracted from f.
        log_z: once that is done: then it is -KL(p, q).
        f_val: mean f of the validation rows, likewise: 0 for a model that fits them.
        ess_bank, ess_witnesses: effective draws on either side of the bridge.
        running: log_z once more, as the witnesses' annealing weights have told it since it was
            last anchored.
        learners: the same from the learners' weights, since the start: not to be believed.
        holds: whether these numbers can be believed: see `Judge.judge`.
    """

    gain_train: Array
    gain_val: Array
    level: Array
    log_z: Array
    f_val: Array
    ess_bank: Array
    ess_witnesses: Array
    running: Array
    learners: Array
    holds: Array


class Judge(eqx.Module):
    """Held-out rows and backbone draws, as coordinates."""

    bank: Float[Array, "bank dim"]
    train: Float[Array, "rows dim"]
    val: Float[Array, "rows dim"]

    @classmethod
    def gather(
        cls, backbone: Backbone, train: Rows, val: Rows, bank: int, *, key: PRNGKeyArray
    ) -> "Judge":
        """Draw the bank and dequantise the rows, once."""
        bank_key, train_key, val_key = jr.split(key, 3)
        u = jr.normal(bank_key, (bank, *backbone.latent_shape))
        y_train, y_val = train.every(train_key, 1)[0], val.every(val_key, DRAWS)[0]
        return cls(
            push_in_parts(backbone, u),
            y_train.reshape(-1, y_train.shape[-1]),
            y_val.reshape(-1, y_val.shape[-1]),
        )

    @eqx.filter_jit
    def judge(self, tilt: Tilt, state: LearnerState) -> Judgement:
        """The gains of `tilt`, with the witnesses of `state` reweighted to it.

        A tilt that has run away leaves its witnesses behind, and they would vouch for any gain.
        So a judgement holds only if both sides of the bridge rest on some draws, f is not larger
        than float32 can tell apart, and E_q f <= log Z <= E_p f, as Jensen's inequality has it.
        """
        f = jax.vmap(tilt)
        particles = state.particles
        f_particles = f(particles.y)
        reweighted = state.log_weights + f_particles - particles.f
        f_witnesses = f_particles[particles.witnesses]
        log_weights = reweighted[particles.witnesses]
        f_bank = f(self.bank)
        log_z, ess_bank, ess_witnesses = bridge_jax(f_bank, f_witnesses, log_weights)
        level = jnp.sum(jax.nn.softmax(log_weights) * f_witnesses)
        error = 3 * jnp.std(f_witnesses) / jnp.sqrt(ess_witnesses) + 1e-3
        holds = (
            (jnp.minimum(ess_bank, ess_witnesses) >= FEWEST_DRAWS)
            & (jnp.max(jnp.abs(f_witnesses - jnp.mean(f_bank))) < LARGEST_F)
            & (jnp.mean(f_bank) <= log_z + error)
            & (log_z <= level + error)
        )
        f_val = jnp.mean(f(self.val))
        return Judgement(
            gain_train=jnp.mean(f(self.train)) - log_z,
            gain_val=f_val - log_z,
            level=level,
            log_z=log_z - level,
            f_val=f_val - level,
            ess_bank=ess_bank,
            ess_witnesses=ess_witnesses,
            running=state.log_z + log_mean_exp(log_weights) - level,
            learners=state.log_z_learners + log_mean_exp(reweighted[particles.learners]) - level,
            holds=holds,
        )


def anchored(state: LearnerState, judgement: Judgement) -> LearnerState:
    """`state` with its running log Z set to what `judgement` of its own tilt has found."""
    told = log_mean_exp(state.log_weights[state.particles.witnesses])
    return eqx.tree_at(lambda s: s.log_z, state, judgement.log_z + judgement.level - told)
