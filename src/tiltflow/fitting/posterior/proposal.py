"""What chains jump to and log Z is bridged from: a flow whose noise is a mixture with tails.

    y = g(z),   z ~ r = (1 - a) sum_k w_k N(m_k, C_k) + a t(z)

The mixture holds modes that no flow can part, the flow bends them, the t component keeps weights
of p over q in bounds where p is no wider than it. Flow and mixture are fitted together, by maximum
likelihood of the draws at hand; the mixture starts by expectation maximisation.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.linalg import solve_triangular

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.density import MixtureDensity
from tiltflow.backbones.units.normal import affine_of, best_normal, standard
from tiltflow.fitting.posterior.compiled import compiled, lightly_compiled, once_compiled
from tiltflow.fitting.posterior.tailed import TAIL_FREEDOM, TAIL_SHARE, Tailed
from tiltflow.fitting.posterior.target import PART, Target, in_parts
from tiltflow.learning import optimiser
from tiltflow.learning.gaussian_mixture import GaussianMixture, best_mixture
from tiltflow.runs.checkpoint import arrays_of, filled

PRIORS, SIZES = ((0.1, 0.1), (0.3, 0.3)), (4, 16)
ROOM = 16_384  # rows of a fit, for which programs make room: fewer need no program of their own
BATCH, CHUNK, RATE = 256, 100, 1e-2
MEMORY = 0.99  # of the moving average of weights
PATIENCE = 3  # chunks without a better score
NO_WEIGHT = -1e4  # its logarithm
BOUNDS = (4.0, 3.0)  # of what the flow's networks read, and of its log-scales


class Scored(NamedTuple):
    """Exact draws of a proposal.

    Attributes:
        z, y: `[n, dim]`.
        value: the target's log-density at y, `[n]`; -inf where it is not a number.
        f: that over the proposal's, `[n]`.
        nan: the share of draws at which the target is not a number, in the mixture's bulk.
    """

    z: np.ndarray
    y: np.ndarray
    value: np.ndarray
    f: np.ndarray
    nan: float


class Proposal(NamedTuple):
    """A flow, and the density of its noise."""

    flow: CouplingFlow
    base: Tailed

    def scored(self, target: Target, rng: np.random.Generator, number: int) -> Scored:
        """So many exact draws, and the target there; `number` evaluations."""
        z = self.base.draws(rng, number)
        y, log_det, value = in_parts(lambda z: _pushed(target, self.flow, z), z, target)
        bad = np.isnan(value)
        near = np.abs(z - self.base.means[-1]).max(axis=1) < 6.0 * self.base.factors[-1].max()
        value = np.where(bad, -np.inf, value)
        f = value + log_det - self.base.log_prob(z.astype(np.float32).astype(np.float64))
        return Scored(z, y, value, f, float(np.mean(bad & near)))

    def noise(self, target: Target, y: np.ndarray) -> np.ndarray:
        """The z of rows y, `[n, dim]`."""
        return in_parts(lambda y: _pulled(self.flow, y), y, target)

    @property
    def within(self) -> np.ndarray:
        """A factor of the mean covariance within components, `[dim, dim]`."""
        weights = np.exp(self.base.log_weights[:-1])[:, None, None]
        factors = self.base.factors[:-1]
        covariance = np.sum(weights * (factors @ np.swapaxes(factors, 1, 2)), axis=0)
        return np.linalg.cholesky(covariance / weights.sum())

    def latent(self, target: Target, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y of rows z, `[n, dim]`, and the log-density of z there, `[n]`; -inf where it is NaN."""
        y, log_det, value = in_parts(lambda z: _pushed(target, self.flow, z), z, target)
        return y, np.where(np.isnan(value), -np.inf, value) + log_det


def fitted(
    y: np.ndarray,
    *,
    seed: int,
    steps: int,
    blocks: int,
    width: int,
    before: Proposal | None = None,
    until: float = math.inf,
) -> Proposal:
    """A proposal for draws `[n, dim]` of the target; the flow goes on from that of `before`.

    Args:
        y: draws, some of which are held out; one that is there several times, in one part alone.
        seed: of the fit.
        steps: of the optimiser at most, in chunks of `CHUNK`; 0: the mixture alone.
        blocks, width: of the flow.
        before: a former proposal, of the same size.
        until: the clock's (`time.monotonic`), when the optimiser is to stop.
    """
    rng, key = np.random.default_rng(seed), jr.key(seed)
    held, rest = parted(y.astype(np.float64), rng)
    dim = y.shape[1]
    if before is None:
        normal, _ = best_normal(rest, held)
        flow = _flow(affine_of(normal), blocks if dim > 1 else 0, width, key)
    else:
        flow = before.flow
    z, z_held = (np.asarray(_pulled_rows(flow, rows)) for rows in (rest, held))
    found = best_mixture(z, z_held, priors=PRIORS, sizes=SIZES, seed=seed).mixture
    if steps and dim > 1:
        flow, found = _descended(flow, found, rest, held, steps, key, until)
        z = _pulled_rows(flow, rest)
    return Proposal(flow, _with_tail(found, z))


def parted(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An eighth of the different rows, and the rest; both mixed up.

    Rows that are drawn with replacement, or that chains have stayed at, would tell of a mixture
    which has learned them by heart that it is a good one.
    """
    _, same = np.unique(y, axis=0, return_inverse=True)
    order = rng.permutation(int(same.max()) + 1)
    is_held = (order < max(1, len(order) // 8))[same]
    mixed = rng.permutation(len(y))
    return y[mixed][is_held[mixed]], y[mixed][~is_held[mixed]]


def _with_tail(mixture: GaussianMixture, z: np.ndarray) -> Tailed:
    """The mixture, and a t component around all of `z`."""
    covariance = np.atleast_2d(np.cov(z, rowvar=False)) + 1e-6 * np.eye(z.shape[1])
    return Tailed.around(mixture, z.mean(axis=0), np.linalg.cholesky(covariance), TAIL_SHARE)


@once_compiled
def _flow(units: Any, blocks: int, width: int, key: PRNGKeyArray) -> CouplingFlow:
    return CouplingFlow(units, num_blocks=blocks, width=width, bounds=BOUNDS, key=key)


def flow_arrays(flow: CouplingFlow) -> dict[str, np.ndarray]:
    """All arrays of a flow by name, for a file."""
    return {f"flow.{name}": array for name, array in arrays_of(flow).items()}


def filled_flow(dim: int, blocks: int, width: int, arrays: dict[str, np.ndarray]) -> CouplingFlow:
    """A flow of this size with the arrays that `flow_arrays` gave; other ones are left out."""
    empty = _flow(standard(dim), blocks if dim > 1 else 0, width, jr.key(0))
    own = {k.removeprefix("flow."): v for k, v in arrays.items() if k.startswith("flow.")}
    return filled(empty, own, "the kept proposal")


@compiled
def _pushed(target: Target, flow: CouplingFlow, z: Array) -> tuple[Array, Array, Array]:
    def one(z: Array) -> tuple[Array, Array, Array]:
        y, log_det = pushed(flow, z)
        return y, log_det, target.wide(y)

    return jax.vmap(one)(z)


@lightly_compiled
def _pulled(flow: CouplingFlow, y: Array) -> Array:
    return jax.vmap(flow.pull)(y)


def _pulled_rows(flow: CouplingFlow, y: np.ndarray) -> np.ndarray:
    """The z of rows, without a target; float64."""
    filled = np.concatenate([y, np.repeat(y[-1:], -len(y) % PART, axis=0)])
    parts = [
        np.asarray(_pulled(flow, jnp.asarray(filled[first : first + PART], jnp.float32)))
        for first in range(0, len(filled), PART)
    ]
    return np.concatenate(parts)[: len(y)].astype(np.float64)


def _encoded(flow: CouplingFlow, y: np.ndarray) -> Array:
    """Rows in the flow's own coordinates, whitened."""
    return jax.vmap(lambda y: flow.units.encode_and_log_det(y)[0])(jnp.asarray(y, jnp.float32))


def pushed(flow: CouplingFlow, z: Float[Array, " dim"]) -> tuple[Array, Array]:
    """y of z, and log|det dy/dz|."""
    c, log_det = flow.coordinates_and_log_det(z)
    return flow.units.decode(c), log_det - flow.units.log_det  # pyright: ignore


def _descended(
    flow: CouplingFlow,
    mixture: GaussianMixture,
    rows: np.ndarray,
    held: np.ndarray,
    steps: int,
    key: PRNGKeyArray,
    until: float,
) -> tuple[CouplingFlow, GaussianMixture]:
    """Flow and mixture after steps of maximum likelihood together, as `held` likes them best."""
    # To learn, rows are whitened beforehand: units are not learned.
    c, c_held = (_encoded(flow, x) for x in (rows, held))
    room = max(ROOM, 1 << (len(c) - 1).bit_length())
    c, c_held = _roomy(c, room), _roomy(c_held, room // 8)
    counts = jnp.asarray([len(rows), len(held)])
    parameters: Any = (eqx.filter(flow.blocks, eqx.is_inexact_array), _learnable(mixture))
    state = (parameters, parameters, optimiser.ADAM.init(parameters), jnp.zeros((), jnp.int32))
    best, best_score, best_at = parameters, math.inf, 0
    for chunk in range(max(1, steps // CHUNK) + 1):
        score = float(_score(flow, state[1], c_held, counts[1]))
        if score < best_score:
            best, best_at = state[1], chunk if score < best_score - 2e-3 else best_at
            best_score = score
        late = time.monotonic() >= until
        if late or chunk - best_at >= PATIENCE or chunk == max(1, steps // CHUNK):
            break
        chunk_key = jr.fold_in(key, chunk)
        state = _chunk(flow, state, c, counts[0], jnp.asarray(float(steps)), chunk_key)
    blocks, density = best
    return _with_blocks(flow, blocks), _mixture_of(density, len(mixture.means))


def _roomy(rows: Array, room: int) -> Array:
    return jnp.concatenate([rows[:room], jnp.zeros((max(0, room - len(rows)), rows.shape[1]))])


def _learnable(mixture: GaussianMixture) -> MixtureDensity:
    dim = mixture.means.shape[1]
    eye = np.eye(dim)
    whiteners = np.stack([solve_triangular(factor, eye, lower=True) for factor in mixture.factors])
    diagonal = np.log(np.diagonal(whiteners, axis1=1, axis2=2))
    whiteners = np.tril(whiteners, -1) + diagonal[:, :, None] * eye
    # Others that have no weight, and so no gradient: one program does for all numbers.
    more = max(0, max(SIZES) - len(mixture.means))
    arrays = (
        np.append(mixture.log_weights, np.full(more, NO_WEIGHT)),
        np.concatenate([mixture.means, np.zeros((more, dim))]),
        np.concatenate([whiteners, np.zeros((more, dim, dim))]),
    )
    return MixtureDensity(*(jnp.asarray(x, jnp.float32) for x in arrays))


def _mixture_of(density: MixtureDensity, number: int) -> GaussianMixture:
    """The first `number` components; what was there to make room is left out."""
    log_weights, means, whiteners = (
        np.asarray(x, np.float64)[:number]
        for x in (density.log_weights, density.means, density.whiteners)
    )
    eye = np.eye(means.shape[1])
    diagonal = np.exp(np.diagonal(whiteners, axis1=1, axis2=2))
    full = np.tril(whiteners, -1) + diagonal[:, :, None] * eye
    factors = np.stack([solve_triangular(w, eye, lower=True) for w in full])
    return GaussianMixture(log_weights - np.logaddexp.reduce(log_weights), means, factors)


def _with_blocks(flow: CouplingFlow, blocks: Any) -> CouplingFlow:
    return eqx.tree_at(lambda f: f.blocks, flow, eqx.combine(blocks, flow.blocks))


def _nll(flow: CouplingFlow, parameters: Any, c: Array) -> Array:
    """Minus the log-density of whitened rows, `[n]`; the t component bounds what outliers do."""
    blocks, density = parameters
    flow = _with_blocks(flow, blocks)

    def one(c: Array) -> Array:
        z, log_det = flow.inverse(c)
        fall = 0.5 * (TAIL_FREEDOM + z.size) * jnp.log1p(jnp.sum(z**2) / TAIL_FREEDOM)
        half = 0.5 * z.size
        constant = math.lgamma(0.5 * TAIL_FREEDOM + half) - math.lgamma(0.5 * TAIL_FREEDOM)
        tail = constant - half * math.log(math.pi * TAIL_FREEDOM) - fall
        bulk = density.log_prob(z)
        joint = math.log1p(-TAIL_SHARE) + bulk, math.log(TAIL_SHARE) + tail
        return -jnp.logaddexp(*joint) - log_det

    return jax.vmap(one)(c)


@lightly_compiled
def _score(flow: CouplingFlow, parameters: Any, c: Array, count: Array) -> Array:
    counted = jnp.arange(len(c)) < count
    return jnp.sum(jnp.where(counted, _nll(flow, parameters, c), 0.0)) / jnp.sum(counted)


@lightly_compiled
def _chunk(
    flow: CouplingFlow, state: Any, c: Array, count: Array, steps: Array, key: PRNGKeyArray
) -> Any:
    """`CHUNK` steps of Adam, its rate along half a cosine, and the moving average of weights."""

    def step(state: Any, key: PRNGKeyArray) -> tuple[Any, None]:
        parameters, average, adam, number = state
        batch = c[jr.randint(key, (BATCH,), 0, count)]
        gradient = jax.grad(lambda p: jnp.mean(_nll(flow, p, batch)))(parameters)
        rate = optimiser.cosine(number, steps, RATE, 0.05)
        parameters, adam = optimiser.update(parameters, gradient, adam, rate, 0.0)
        average = optimiser.moving_average(average, parameters, MEMORY)
        return (parameters, average, adam, number + 1), None

    return jax.lax.scan(step, state, jr.split(key, CHUNK))[0]
