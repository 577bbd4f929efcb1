"""Chains whose every proposal is an exact draw of the backbone, moved on the host.

Multiple-try Metropolis with independent proposals (Liu, Liang and Wong 2000, JASA 95, 121): of the
draws of a transition one is picked by exp f, and accepted with the probability

    min(1, W / (W - w_picked + w_now)),   W the sum of their w = exp f,

which for one try is that of Metropolis and Hastings. There is nothing to adapt but the number of
tries, and no gradient.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.mcmc import adaptation
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.mcmc.point import Point
from tiltflow.mcmc.program import DIVERGENT, ENERGIES, POSITIONS, Carry, Plan, Tally
from tiltflow.model.exact import exact
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of

MOST_TRIES = 16
PILOT = 32  # exact draws that a chain starts among
ENOUGH = 20  # transitions of warm-up: it starts near where it is to be


class IndependentDraws(HostKernel):
    """Chains of fresh draws, as a kernel.

    What is recorded of a point are f and |u|^2. The log-density of its states, and minus its
    energies, are f: the log-density over that of exact draws.

    Attributes:
        model: to sample.
    """

    model: TiltedModel

    def start(self, key: PRNGKeyArray, position: Float[Array, "chains *event"]) -> Carry:
        """Each chain among `PILOT` exact draws; the length of a transition is its tries."""
        chains = len(position)
        first, f, tries = _first(self.model, jr.fold_in(key, 0), chains, PILOT)
        state = Point(jnp.asarray(first), jnp.asarray(f, jnp.float32))
        memory = adaptation.init(jnp.ones(()), jnp.asarray(tries, float), self.length_rule)
        return Carry(state, memory, None)

    def advance(
        self, key: PRNGKeyArray, carry: Carry, plan: Plan
    ) -> tuple[Carry, dict[str, np.ndarray], Tally]:
        """As `HostKernel` has it."""
        tuning = adaptation.tuning(carry.adaptation, False, self.length_rule)
        tries, count = int(tuning.length), plan.count
        now = (np.asarray(carry.state.position), np.asarray(carry.state.log_density, np.float64))
        key = jr.fold_in(key, 1 + plan.first)
        u, f, probability = _moved(self.model, key, *now, count, tries)
        carry = carry._replace(
            state=Point(jnp.asarray(u[:, -1]), jnp.asarray(f[:, -1], jnp.float32))
        )
        kept = np.flatnonzero((plan.sampled + np.arange(1, count + 1)) % plan.thin == 0)
        u, f = np.swapaxes(u[:, kept], 0, 1), f[:, kept].T.astype(np.float32)
        record = {
            POSITIONS: u,
            ENERGIES: -f,
            DIVERGENT: np.zeros(f.shape, bool),
            "f": f,
            "norm": _squares(u).astype(np.float32),
        }
        none = jnp.zeros((), int)
        return carry, record, Tally(probability.mean(axis=0).sum(), none, none, *tuning)


def independent_chains(
    model: TiltedModel,
    key: PRNGKeyArray,
    *,
    chains: int,
    draws: int,
    warmup: int = 0,
    former: Draws | None = None,
) -> Draws:
    """Chains of fresh draws, accepted on what f adds.

    Log-densities, and energies, are over those of the backbone.

    Args:
        model: to sample; its log-density over that of exact draws is f.
        key: random key.
        chains, draws: transitions of each chain.
        warmup: exact draws of each chain that it starts among. They tell how many tries a
            transition needs: as many as there are draws to one that is effective.
        former: draws of the same chains, which go on; they have no warm-up.
    """
    start_key, key = jr.split(key)
    if former is None:
        u, f, tries = _first(model, start_key, chains, max(warmup, 1))
    else:
        assert former.positions is not None
        u, f = former.positions[:, -1], former.summaries["f"][:, -1].astype(np.float64)
        tries = int(former.tuning.length)
    positions, f, probability = _moved(model, key, u, f, draws, tries)
    return Draws(
        positions=positions,
        summaries={"f": f.astype(np.float32), "norm": _squares(positions).astype(np.float32)},
        energies=-f,
        divergent=np.zeros(f.shape, bool),
        replicas=None,
        moments=None,
        acceptance=float(probability.mean()),
        divergences=0,
        transitions=draws,
        gradients=0,
        tuning=Tuning(jnp.ones(()), jnp.asarray(tries, float)),
        final=Point(jnp.asarray(positions[:, -1]), jnp.asarray(f[:, -1])),
        seconds=0.0,
        stopped="draws",
        target=None,
        is_biased=False,
    )


def tries_of(f: Float[np.ndarray, "..."]) -> int:
    """How many draws there are to one that is effective with the weights exp f."""
    weights = _weights(f.ravel(), _top(f.ravel()))
    squares = weights.size * np.sum(weights**2)
    return int(np.clip(squares / max(weights.sum() ** 2, 1e-300), 1, MOST_TRIES))


def _first(
    model: TiltedModel, key: PRNGKeyArray, chains: int, among: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Where each chain begins, picked `among` so many exact draws; f there, and how many tries."""
    draw_key, pick_key = jr.split(key)
    u, f = _proposals(model, draw_key, (chains, among))
    picked = _picked(_weights(f, _top(f)), _generator(pick_key).random(chains))
    row = np.arange(chains)
    return u[row, picked], f[row, picked], tries_of(f)


def _moved(
    model: TiltedModel, key: PRNGKeyArray, u: np.ndarray, f: np.ndarray, draws: int, tries: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """So many transitions of chains at u: where they went, f there, and the odds that they moved.

    All `[chains, draws, ...]`.
    """
    draw_key, pick_key = jr.split(key)
    chains = len(u)
    u_new, f_new = _proposals(model, draw_key, (chains, draws, tries))
    at, probability = _accepted(f, f_new, _generator(pick_key).random((chains, draws, 2)))
    row = np.arange(chains)[:, None]
    u = np.concatenate([u[:, None], u_new.reshape(chains, draws * tries, *u.shape[1:])], axis=1)
    f = np.concatenate([f[:, None], f_new.reshape(chains, -1)], axis=1)
    return u[row, at], f[row, at], probability


def _generator(key: PRNGKeyArray) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jr.bits(key, (4,))))


def _squares(u: Float[np.ndarray, "a b *event"]) -> Float[np.ndarray, "a b"]:
    return np.sum(u.reshape(*u.shape[:2], -1).astype(np.float64) ** 2, axis=2)


def _proposals(
    model: TiltedModel, key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Exact draws as latent points `[*shape, *latent_shape]`, and f there, float64."""
    made = exact(model.backbone, key, int(np.prod(shape)))
    f = f_of(model.tilt, made.c).reshape(shape)
    return made.u.reshape(*shape, *made.u.shape[1:]), f


def _accepted(
    f_now: Float[np.ndarray, " chains"],
    f: Float[np.ndarray, "chains draws tries"],
    uniform: Float[np.ndarray, "chains draws 2"],
) -> tuple[Int[np.ndarray, "chains draws"], Float[np.ndarray, "chains draws"]]:
    """Where each chain is after each transition, and the probability that it moved.

    0 is where it began, 1 its first proposal. One whose f is not finite is never accepted.
    """
    chains, draws, tries = f.shape
    at, probability = np.zeros((chains, draws), int), np.zeros((chains, draws))
    row, now = np.arange(chains), np.zeros(chains, int)
    for step in range(draws):
        top = np.maximum(_top(f[:, step]), _top(f_now[:, None]))
        weights, own = _weights(f[:, step], top), _weights(f_now[:, None], top)[:, 0]
        picked = _picked(weights, uniform[:, step, 0])
        probability[:, step] = _probability(weights.sum(axis=1), weights[row, picked], own)
        moves = uniform[:, step, 1] < probability[:, step]
        now = np.where(moves, 1 + step * tries + picked, now)
        f_now = np.where(moves, f[row, step, picked], f_now)
        at[:, step] = now
    return at, probability


def _probability(
    whole: Float[np.ndarray, " chains"],
    picked: Float[np.ndarray, " chains"],
    own: Float[np.ndarray, " chains"],
) -> Float[np.ndarray, " chains"]:
    """That the picked draw is accepted; 0 where no draw has a weight."""
    others = whole - picked + own
    odds = np.divide(whole, others, out=np.ones_like(whole), where=others > 0)
    return np.where(whole > 0, np.minimum(odds, 1.0), 0.0)


def _top(f: Float[np.ndarray, "*rows tries"]) -> Float[np.ndarray, " *rows"]:
    """The largest that is finite, of each row; 0 where none is."""
    top = np.max(f, axis=-1, where=np.isfinite(f), initial=-np.inf)
    return np.where(np.isfinite(top), top, 0.0)


def _weights(
    f: Float[np.ndarray, "*rows tries"], top: Float[np.ndarray, " *rows"]
) -> Float[np.ndarray, "*rows tries"]:
    """exp(f - top); 0 where f is not finite."""
    rise = f - top[..., None]
    return np.where(np.isfinite(f), np.exp(np.minimum(rise, 0.0)), 0.0)


def _picked(
    weights: Float[np.ndarray, "chains tries"], uniform: np.ndarray
) -> Int[np.ndarray, " chains"]:
    """One of each row, with probabilities in proportion to its weights."""
    below = np.cumsum(weights, axis=1)
    return np.sum(below[:, :-1] <= uniform[:, None] * below[:, -1:], axis=1)
