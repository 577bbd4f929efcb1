"""What the witnesses say: the gain on held-out data, judged while learning goes on.

log Z is bridged between a bank of exact backbone draws, whose coordinates are computed once, and
the witnesses, reweighted to the tilt that is judged. Where the bridge rests on few draws of the
bank, it starts from an anchor instead: where the witnesses stood at a judgement that held, with
its tilt and its log Z, so that gains of tens of nats can be followed. The bank still has its say:
E_q f is below log Z whatever the tilt, and a log Z that an anchor has told wrong is found out by
it. The running log Z of the annealing weights drifts, by a standard error more with every stage:
it is anchored to the bridge at every judgement that holds.
"""

from dataclasses import fields, replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.learning.filled import Filled
from tiltflow.learning.particles import Particles, exact_coordinates, log_mean_exp
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import LearnerState, TiltSettings
from tiltflow.normalizer.running import bridge_jax
from tiltflow.parallel.devices import map_in_parts, over_devices, together
from tiltflow.tilts import Tilt

PART = 4_096  # draws that f is computed of at a time
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

    @property
    def as_it_is(self) -> "Judgement":
        """The same of f itself: nothing is to be subtracted from it."""
        names = ("log_z", "f_val", "running", "learners")
        shifted = {name: getattr(self, name) + self.level for name in names}
        return replace(self, level=jnp.zeros(()), **shifted)

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
        tilt: that tilt.
        log_z: of it, in nats.
        set: whether there is one; else the bank stands alone.
    """

    y: Float[Array, "n dim"]
    f: Float[Array, " n"]
    tilt: Tilt
    log_z: Float[Array, ""]
    set: Bool[Array, ""]


class Judge(eqx.Module):
    """Coordinates of the bank, of training and of held-out rows, and the anchor.

    Each held-out row is there `draws` times.
    """

    bank: Float[Array, "bank dim"]
    anchor: Anchor
    train: Filled
    val: Filled
    draws: int = eqx.field(static=True)

    @classmethod
    def gather(
        cls,
        backbone: Backbone,
        train: Rows,
        val: Rows,
        settings: TiltSettings,
        tilt: Tilt,
        particles: Particles,
        *,
        key: PRNGKeyArray,
    ) -> "Judge":
        """Draw the bank of the settings and dequantise the rows, once; no anchor is set.

        `tilt` is any of the shape to be judged, and `particles` are as many as there will be.
        """
        bank_key, train_key, val_key = jr.split(key, 3)
        y_train, y_val = (
            rows.through(backbone).first(settings.judge_rows).embedded(key, draws)
            for rows, key, draws in ((train, train_key, 1), (val, val_key, settings.judge_draws))
        )
        y = particles.y[particles.witnesses]
        return cls(
            exact_coordinates(backbone, bank_key, settings.bank),
            Anchor(y, jnp.zeros(len(y)), tilt, jnp.zeros(()), jnp.asarray(False)),
            Filled(y_train.rows[0], y_train.count),
            Filled(y_val.rows[0], y_val.count),
            settings.judge_draws if val.through(backbone).vary else 1,
        )

    def at(self, tilt: Tilt, particles: Particles, log_z: Array) -> "Judge":
        """The judge, anchored at witnesses that are draws of `tilt`, of known `log_z`."""
        y = particles.y[particles.witnesses]
        anchor = Anchor(y, jax.vmap(tilt)(y), tilt, jnp.asarray(log_z), jnp.asarray(True))
        return replace(self, anchor=anchor)

    @over_devices
    def error_between(self, tilt: Tilt, other: Tilt) -> Array:
        """The standard error, over held-out rows, of the mean of f less that of another tilt."""
        mean, square = self.val.mean(lambda y: _and_square(tilt(y) - other(y)))
        return jnp.sqrt(jnp.maximum(square - mean**2, 0.0) * self.draws / self.val.count)

    @over_devices
    def judge(self, tilt: Tilt, state: LearnerState) -> Judgement:
        """The gains of `tilt`, with the witnesses of `state` reweighted to it.

        A tilt that has run away leaves its witnesses behind, and they would vouch for any gain.
        So a judgement holds only if both sides of the bridge rest on some draws, f is not larger
        than float32 can tell apart, and Jensen's inequality has log Z between the means of f
        under bank and witnesses, and its rise over the anchor between those of f's.
        """

        def f(y: Array) -> Array:
            return together(map_in_parts(tilt, y, PART))

        particles, anchor = state.particles, self.anchor
        f_particles, f_bank = f(particles.y), f(self.bank)
        reweighted = state.log_weights + f_particles - particles.f
        y_witnesses = particles.y[particles.witnesses]
        f_witnesses = f_particles[particles.witnesses]
        log_weights = reweighted[particles.witnesses]
        weights = jax.nn.softmax(log_weights)

        from_bank = _bridged(f_bank, f_witnesses, log_weights)
        rise = f_witnesses - jax.vmap(anchor.tilt)(y_witnesses)
        from_anchor = _bridged(f(anchor.y) - anchor.f, rise, log_weights)
        nearer = anchor.set & (from_bank.fewest < SCARCE_DRAWS)
        chosen = jax.tree.map(lambda a, b: jnp.where(nearer, a, b), from_anchor, from_bank)
        log_z = chosen.log_z + jnp.where(nearer, anchor.log_z, 0.0)
        level = jnp.sum(weights * f_witnesses)
        error = 3 * jnp.std(f_witnesses) / jnp.sqrt(chosen.witnesses) + 1e-3
        holds = (
            chosen.holds
            & (chosen.fewest >= FEWEST_DRAWS)
            & (jnp.mean(f_bank) <= log_z + error)
            & (log_z <= level + error)
        )
        f_val = self.val.mean(tilt)
        return Judgement(
            gain_train=self.train.mean(tilt) - log_z,
            gain_val=f_val - log_z,
            level=level,
            log_z=log_z - level,
            f_val=f_val - level,
            ess_bank=chosen.start,
            ess_witnesses=chosen.witnesses,
            running=state.log_z + log_mean_exp(log_weights) - level,
            learners=state.log_z_learners + log_mean_exp(reweighted[particles.learners]) - level,
            holds=holds,
        )


def _and_square(value: Array) -> tuple[Array, Array]:
    return value, value**2


class _Bridge(NamedTuple):
    """log Z over that of where the bridge starts, the effective draws on either side, and
    whether it lies where Jensen's inequality has it."""

    log_z: Array
    start: Array
    witnesses: Array
    holds: Array

    @property
    def fewest(self) -> Array:
        """Effective draws, on the side that has fewer."""
        return jnp.minimum(self.start, self.witnesses)


def _bridged(at_start: Array, at_witnesses: Array, log_weights: Array) -> _Bridge:
    """The bridge from values of f's rise at draws of the start and at the witnesses."""
    log_z, start, witnesses = bridge_jax(at_start, at_witnesses, log_weights)
    mean = jnp.mean(at_start)
    error = 3 * jnp.std(at_witnesses) / jnp.sqrt(witnesses) + 1e-3
    holds = (
        (jnp.max(jnp.abs(at_witnesses - mean)) < LARGEST_F)
        & (mean <= log_z + error)
        & (log_z <= jnp.sum(jax.nn.softmax(log_weights) * at_witnesses) + error)
    )
    return _Bridge(log_z, start, witnesses, holds)


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
