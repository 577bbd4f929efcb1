"""What the witnesses say: the gain on held-out data, judged while learning goes on.

log Z is bridged between an anchor and the witnesses, reweighted to the tilt that is judged. The
anchor is a bank of exact backbone draws, whose coordinates are computed once, for as long as the
bridge from there rests on enough of them; then it is where the witnesses stood at the last
judgement that held, with its tilt and its log Z, so that gains of tens of nats can be followed.
It drifts little, and costs one pass of f over the anchor. The running log Z of the annealing
weights does drift, by a standard error more with every stage: it is anchored to the bridge at
every judgement that holds.
"""

from dataclasses import fields

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning.particles import Particles, log_mean_exp, push_in_parts
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState
from tiltflow.normalizer.running import bridge_jax
from tiltflow.tilts import Tilt

DRAWS = 10  # dequantisations of each held-out row
FEWEST_DRAWS = 10.0  # effective, on either side of the bridge
SCARCE_DRAWS = 100.0  # effective, on either side: below it another anchor is taken
LARGEST_F = 1e4  # nats


class Judgement(eqx.Module):
    """Gains in nats over the backbone, and the log Z they were computed with.

    Attributes:
        gain_train, gain_val: mean log p - log q of the rows.
        level: mean f under the model, which is to be subtracted from f.
        log_z: once that is done: then it is -KL(p, q).
        f_val: mean f of the validation rows, likewise: 0 for a model that fits them.
        ess_bank, ess_witnesses: effective draws on either side of the bridge; the bank's are
            those of the anchor.
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

    @classmethod
    def nothing(cls) -> "Judgement":
        """One that says nothing and does not hold."""
        zeros = {field.name: jnp.zeros(()) for field in fields(cls)}
        return cls(**(zeros | {"holds": jnp.asarray(False)}))


class Anchor(eqx.Module):
    """Draws of a tilted model whose log Z is known.

    Attributes:
        y: `[n, dim]`, their coordinates.
        f: `[n]`, the values of that model's tilt there.
        tilt, on: that tilt, and whether it counts: 0 for the backbone itself, where f = 0.
            Then the bank takes the place of `y`.
        log_z: of it, in nats.
    """

    y: Float[Array, "n dim"]
    f: Float[Array, " n"]
    tilt: Tilt
    on: Float[Array, ""]
    log_z: Float[Array, ""]


class Judge(eqx.Module):
    """Held-out rows and backbone draws as coordinates, and the anchor, once there is one."""

    bank: Float[Array, "bank dim"]
    anchor: Anchor
    train: Float[Array, "rows dim"]
    val: Float[Array, "rows dim"]

    @classmethod
    def gather(
        cls,
        backbone: Backbone,
        train: Rows,
        val: Rows,
        bank: int,
        tilt: Tilt,
        witnesses: int,
        *,
        key: PRNGKeyArray,
    ) -> "Judge":
        """Draw the bank and dequantise the rows, once.

        `tilt` is any of the shape to be judged, from so many `witnesses`.
        """
        bank_key, train_key, val_key = jr.split(key, 3)
        u = jr.normal(bank_key, (bank, *backbone.latent_shape))
        y = push_in_parts(backbone, u)
        train, val = train.through(backbone), val.through(backbone)
        y_train, y_val = train.every(train_key, 1)[0], val.every(val_key, DRAWS)[0]
        return cls(
            y,
            _backbone(jnp.zeros((witnesses, y.shape[1])), tilt),
            y_train.reshape(-1, y_train.shape[-1]),
            y_val.reshape(-1, y_val.shape[-1]),
        )

    def at(self, tilt: Tilt, particles: Particles, log_z: Array) -> "Judge":
        """The judge, anchored at witnesses that are draws of `tilt`, of known `log_z`."""
        here = particles.witnesses
        f = jax.vmap(tilt)(particles.y[here])
        anchor = Anchor(particles.y[here], f, tilt, jnp.ones(()), jnp.asarray(log_z))
        return eqx.tree_at(lambda j: j.anchor, self, anchor)

    def judge(self, tilt: Tilt, state: LearnerState) -> Judgement:
        """The gains of `tilt`, with the witnesses of `state` reweighted to it.

        A tilt that has run away leaves its witnesses behind, and they would vouch for any gain.
        So a judgement holds only if both sides of the bridge rest on some draws, f is not larger
        than float32 can tell apart, and f's rise over the anchor's tilt, on average over the
        anchor and over the witnesses, has that of log Z in between, as Jensen's inequality has it.
        """
        anchor = self.anchor if bool(self.anchor.on) else _backbone(self.bank, tilt)
        return _judgement(anchor, self.train, self.val, tilt, state)


def _backbone(bank: Float[Array, "n dim"], tilt: Tilt) -> Anchor:
    """The backbone as an anchor."""
    return Anchor(bank, jnp.zeros(len(bank)), tilt, jnp.zeros(()), jnp.zeros(()))


@eqx.filter_jit
def _judgement(
    anchor: Anchor,
    train: Float[Array, "rows dim"],
    val: Float[Array, "rows dim"],
    tilt: Tilt,
    state: LearnerState,
) -> Judgement:
    f = jax.vmap(tilt)
    particles = state.particles
    f_particles = f(particles.y)
    reweighted = state.log_weights + f_particles - particles.f
    f_witnesses = f_particles[particles.witnesses]
    log_weights = reweighted[particles.witnesses]
    f_before = anchor.on * jax.vmap(anchor.tilt)(particles.y[particles.witnesses])
    f_bank, rise = f(anchor.y) - anchor.f, f_witnesses - f_before
    log_rise, ess_bank, ess_witnesses = bridge_jax(f_bank, rise, log_weights)
    log_z = anchor.log_z + log_rise
    weights = jax.nn.softmax(log_weights)
    level = jnp.sum(weights * f_witnesses)
    error = 3 * jnp.std(rise) / jnp.sqrt(ess_witnesses) + 1e-3
    holds = (
        (jnp.minimum(ess_bank, ess_witnesses) >= FEWEST_DRAWS)
        & (jnp.max(jnp.abs(rise - jnp.mean(f_bank))) < LARGEST_F)
        & (jnp.mean(f_bank) <= log_rise + error)
        & (log_rise <= jnp.sum(weights * rise) + error)
    )
    f_val = jnp.mean(f(val))
    return Judgement(
        gain_train=jnp.mean(f(train)) - log_z,
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


def moved_on(judge: Judge, state: LearnerState, judgement: Judgement) -> Judge:
    """The judge with a nearer anchor, if few draws of the present one still count.

    `judgement` is of the tilt of `state`. Witnesses that carry annealing weights are not draws of
    it, and no anchor.
    """
    far = min(float(judgement.ess_bank), float(judgement.ess_witnesses)) < SCARCE_DRAWS
    if not (far and bool(judgement.holds) and not bool(jnp.any(state.log_weights))):
        return judge
    return judge.at(state.tilt, state.particles, judgement.log_z + judgement.level)


def anchored(state: LearnerState, judgement: Judgement) -> LearnerState:
    """`state` with its running log Z set to what `judgement` of its own tilt has found."""
    told = log_mean_exp(state.log_weights[state.particles.witnesses])
    return eqx.tree_at(lambda s: s.log_z, state, judgement.log_z + judgement.level - told)
