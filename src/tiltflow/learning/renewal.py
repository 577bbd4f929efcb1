"""Particles made anew by replica exchange, from exact draws of the backbone up to the present f.

Resampling leaves a population with fewer ancestors stage after stage, and where f has cut the
model into parts no local move brings the lost ones back. So the shares of the parts wander off,
learning corrects f for it, and the model is wrong where its particles look right.

Chains of replicas start from the backbone and carry fresh draws of it up all the time
(`mcmc/tempering.py`). What they pass at beta = 1 become the particles: learners from three
quarters of the chains, since f follows their noise, and witnesses from the others. All replicas
together tell log Z (`from_replicas`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.diagnostics.convergence import rhat
from tiltflow.learning.fresh import LEAST, WITHIN, FreshLook
from tiltflow.learning.particles import Particles
from tiltflow.learning.start import Start, as_particles
from tiltflow.learning.state import LearnerState, TiltSettings, banked, restart_gauge
from tiltflow.learning.witnesses import Judge
from tiltflow.mcmc import Draws, ReplicaExchange, sample
from tiltflow.mcmc.draws import over_chains
from tiltflow.mcmc.progress import OnChunk
from tiltflow.mcmc.tempering import rising
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.from_replicas import from_replicas
from tiltflow.tilts import Tilt

LARGEST_ERROR = 0.5  # nats of log Z, beyond which it is not taken over
WARMUP, LONGEST_WARMUP = 0.25, 200  # a share of the transitions, and of how many at most
LEARNERS = 0.75  # of the chains


class Renewal(NamedTuple):
    """What replica exchange has found.

    Attributes:
        start: draws of the model, log Z, and the step size that was given: local moves have
            another integrator than replicas.
        log_z: the same log Z, with its interval and whether it holds.
        f: at beta = 1, `[chains, draws]`, in nats.
        rhat: of f.
        wider: see `FreshLook`.
    """

    start: Start
    log_z: LogZ
    f: np.ndarray
    rhat: float
    wider: float


@dataclass(frozen=True)
class RenewedLook(FreshLook):
    """A fresh look by chains with replicas.

    Attributes:
        log_z: as the replicas tell it, in nats; None if that does not hold, or is too uncertain.
        log_z_error: its standard error.
        excess: by how many nats the gain that learning tells exceeds that by these chains.
            Particles that have lost a part of the model can have the right mean of f.
    """

    log_z: float | None = None
    log_z_error: float = 0.0
    excess: float = 0.0

    @property
    def takes_over(self) -> bool:
        """As soon as their log Z holds."""
        return self.log_z is not None

    @property
    def differs(self) -> bool:
        """Whether the witnesses are somewhere else, or what was gained with them."""
        return super().differs or abs(self.excess) > max(LEAST, WITHIN * self.log_z_error)

    @property
    def _apart(self) -> str:
        words = super()._apart
        if self.log_z is None:
            return words
        return f"{words}, and a gain {-self.excess:+.2f} nats from what learning told"

    def anchored(self, judge: Judge, state: LearnerState) -> Judge:
        """The judge anchored at these draws and their log Z, if that holds."""
        if self.log_z is None:
            return judge
        return judge.at(state.tilt, self.particles, jnp.asarray(self.log_z))

    def against(self, excess: float) -> "RenewedLook":
        """The look with that excess, if its log Z holds."""
        return self if self.log_z is None else replace(self, excess=excess)

    def taken_up(
        self, state: LearnerState, backbone: Backbone, settings: TiltSettings, key: PRNGKeyArray
    ) -> LearnerState:
        """The state with these draws in place of its particles, and their log Z if it holds."""
        state = banked(state)
        given = float(state.log_z) if self.log_z is None else self.log_z
        log_z = jnp.asarray(given, state.log_z.dtype)
        state = eqx.tree_at(
            lambda s: (s.particles, s.log_z, s.log_z_learners),
            state,
            (self.particles, log_z, log_z),
        )
        return restart_gauge(state, self.particles.f)


def renewed(found: Renewal, backbone: Backbone, tilt: Tilt, witnesses: Particles) -> RenewedLook:
    """What `found` says of the model, and of the particles that there were."""
    told = np.asarray(witnesses.f[witnesses.witnesses], np.float64)
    of_chains = np.asarray(found.f, np.float64)
    error = np.hypot(
        of_chains.mean(1).std(ddof=1) / np.sqrt(len(of_chains)), told.std() / np.sqrt(len(told))
    )
    known = found.log_z.holds and found.log_z.standard_error <= LARGEST_ERROR
    quarter = max(1, of_chains.shape[1] // 4)
    late, before = of_chains[:, -quarter:], of_chains[:, -2 * quarter : -quarter]
    return RenewedLook(
        particles=as_particles(found.start, backbone, tilt),
        gap=float(of_chains.mean() - told.mean()),
        error=float(error),
        rise=float(late.mean() - before.mean()) if before.size else float("nan"),
        log_z=found.log_z.mean if known else None,
        log_z_error=found.log_z.standard_error,
        wider=found.wider,
    )


def renew(
    key: PRNGKeyArray,
    backbone: Backbone,
    tilt: Tilt,
    particles: int,
    step_size: Array,
    *,
    replicas: int,
    chains: int,
    transitions: int,
    leapfrogs: int,
    on_chunk: OnChunk | None = None,
) -> Renewal:
    """As many draws of the model as there are to be particles.

    Args:
        key: random key.
        backbone, tilt: the model; the tilt does not change meanwhile.
        particles: how many draws are wanted, an even number.
        step_size: of the learner's moves; replicas begin with it.
        replicas: of each chain, the two ends among them.
        chains: two at least.
        transitions: of each, those of the warm-up among them.
        leapfrogs: in a transition of a replica.
        on_chunk: told the news now and then.
    """
    start_key, key = jr.split(key)
    model = TiltedModel(backbone, tilt)
    warmup = min(round(WARMUP * transitions), LONGEST_WARMUP)
    betas = rising(replicas)
    draws = sample(
        key,
        model.latent_log_densities,
        jr.normal(start_key, (chains, *backbone.latent_shape)),
        num_draws=transitions - warmup,
        num_warmup=warmup,
        kernel=ReplicaExchange(betas, num_leapfrogs=leapfrogs),
        step_size=float(step_size),
        chunk=min(25, transitions),
        on_chunk=on_chunk,
    )
    return _renewal(draws, betas, particles, step_size)


def _renewal(draws: Draws, betas: np.ndarray, particles: int, step_size: Array) -> Renewal:
    """Evenly spread draws of chains for learners and for witnesses, and what all of them tell."""
    assert draws.positions is not None
    assert draws.replicas is not None
    log_z = from_replicas(betas, draws.replicas)
    f = draws.replicas[..., -1]
    parts = np.split(draws.positions, [_learning(len(f))])
    chosen = [over_chains(part, particles // 2)[0] for part in parts]
    start = Start(
        jnp.asarray(np.concatenate(chosen)),
        jnp.asarray(log_z.mean, float),
        step_size,
    )
    return Renewal(start, log_z, f, float(rhat(f)), widening(f, particles // 2))


def _learning(chains: int) -> int:
    """So many chains are for learners, the others for witnesses."""
    return min(round(LEARNERS * chains), chains - 1)


def widening(f: np.ndarray, each: int) -> float:
    """The standard error of (mean f of learners - that of witnesses), over what it would be.

    Would be, if `each` learners and as many witnesses were independent.

    Args:
        f: `[chains, draws]`, of both.
        each: how many of them become learners, and witnesses.
    """
    f = np.asarray(f, np.float64)
    learning, chains = _learning(len(f)), len(f)
    of_chains = f.mean(axis=1).var(ddof=1) * (1 / learning + 1 / (chains - learning))
    alone = 2 * f.var() / each
    return float(max(1.0, np.sqrt(of_chains / alone))) if alone > 0 else 1.0
