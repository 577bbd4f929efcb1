"""What the witnesses say: the gain on held-out data, judged while learning goes on.

log Z is bridged between a bank of exact backbone draws, whose coordinates are computed once,
and the witnesses, reweighted to the tilt that is judged. It does not drift, as the running sum
of annealing increments does, and costs one pass of f over the bank.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning.particles import push_in_parts
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState
from tiltflow.normalizer.running import bridge_jax
from tiltflow.tilts import MLPTilt

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
        holds: whether these numbers can be believed: see `Judge.judge`.
    """

    gain_train: Array
    gain_val: Array
    level: Array
    log_z: Array
    f_val: Array
    ess_bank: Array
    ess_witnesses: Array
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
    def judge(self, tilt: MLPTilt, state: LearnerState) -> Judgement:
        """The gains of `tilt`, with the witnesses of `state` reweighted to it.

        A tilt that has run away leaves its witnesses behind, and they would vouch for any gain.
        So a judgement holds only if both sides of the bridge rest on some draws, f is not larger
        than float32 can tell apart, and E_q f <= log Z <= E_p f, as Jensen's inequality has it.
        """
        f = jax.vmap(tilt)
        witnesses = state.particles.witnesses
        f_witnesses = f(state.particles.y[witnesses])
        annealing = state.log_weights[witnesses]
        log_weights = annealing + f_witnesses - state.particles.f[witnesses]
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
            holds=holds,
        )
