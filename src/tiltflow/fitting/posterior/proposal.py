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
from jaxtyping import Array, Float, Int
from scipy.linalg import solve_triangular

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.density import MixtureDensity
from tiltflow.backbones.units.normal import affine_of, best_normal, standard
from tiltflow.fitting.posterior.compiled import compiled, lightly_compiled
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
        return in_parts(lambda y: _pulled(self.flow, y)[0], y, target)

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
    rng = np.random.default_rng(seed)
    held, rest = parted(y.astype(np.float64), rng)
    dim = y.shape[1]
    if before is None:
        normal, _ = best_normal(rest, held)
        flow = _flow(affine_of(normal), blocks if dim > 1 else 0, width, rng)
    else:
        flow = before.flow
    z, z_held = (_pulled_rows(flow, rows)[0] for rows in (rest, held))
    found = best_mixture(z, z_held, priors=PRIORS, sizes=SIZES, seed=seed).mixture
    if steps and dim > 1:
        flow, found = _descended(flow, found, rest, held, steps, rng, until)
        z, _ = _pulled_rows(flow, rest)
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


def _flow(units: Any, blocks: int, width: int, rng: np.random.Generator) -> CouplingFlow:
    """One that begins as a permutation; its numbers are drawn here, where nothing is compiled."""

    def begun(units: Any) -> CouplingFlow:
        key = jr.key(0)
        return CouplingFlow(units, num_blocks=blocks, width=width, bounds=BOUNDS, key=key)

    def drawn(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if name.endswith(".order"):
            return jnp.asarray(rng.permutation(leaf.shape[0]), leaf.dtype)
        if ".hidden." not in name:
            return jnp.asarray(np.zeros(leaf.shape), leaf.dtype)
        most = fan_in[name.rpartition(".")[0]] ** -0.5
        return jnp.asarray(rng.uniform(-most, most, leaf.shape), leaf.dtype)

    empty = eqx.filter_eval_shape(begun, units)
    named = {jax.tree_util.keystr(at): leaf for at, leaf in jax.tree.leaves_with_path(empty)}
    fan_in = {n.removesuffix(".weight"): leaf.shape[1] for n, leaf in named.items()
              if n.endswith(".hidden.weight")}  # fmt: skip
    flow = jax.tree_util.tree_map_with_path(drawn, empty)
    return eqx.tree_at(lambda flow: flow.units, flow, units)


def flow_arrays(flow: CouplingFlow) -> dict[str, np.ndarray]:
    """All arrays of a flow by name, for a file."""
    return {f"flow.{name}": array for name, array in arrays_of(flow).items()}


def filled_flow(dim: int, blocks: int, width: int, arrays: dict[str, np.ndarray]) -> CouplingFlow:
    """A flow of this size with the arrays that `flow_arrays` gave; other ones are left out."""
    empty = _flow(standard(dim), blocks if dim > 1 else 0, width, np.random.default_rng(0))
    own = {k.removeprefix("flow."): v for k, v in arrays.items() if k.startswith("flow.")}
    return filled(empty, own, "the kept proposal")


@compiled
def _pushed(target: Target, flow: CouplingFlow, z: Array) -> tuple[Array, Array, Array]:
    def one(z: Array) -> tuple[Array, Array, Array]:
        y, log_det = pushed(flow, z)
        return y, log_det, target.wide(y)

    return jax.vmap(one)(z)


@lightly_compiled
def _pulled(flow: CouplingFlow, y: Array) -> tuple[Array, Array]:
    def one(y: Array) -> tuple[Array, Array]:
        c, first = flow.units.encode_and_log_det(y)
        z, second = flow.inverse(c)
        return z, first + second

    return jax.vmap(one)(y)


def _pulled_rows(flow: CouplingFlow, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The z of rows, and log|det dz/dy|, without a target; float64."""
    filled = np.concatenate([y, np.repeat(y[-1:], -len(y) % PART, axis=0)])
    parts = [
        [np.asarray(x) for x in _pulled(flow, jnp.asarray(filled[first : first + PART], "f4"))]
        for first in range(0, len(filled), PART)
    ]
    z, log_det = (np.concatenate(each)[: len(y)] for each in zip(*parts, strict=True))
    return z.astype(np.float64), log_det.astype(np.float64)


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
    rng: np.random.Generator,
    until: float,
) -> tuple[CouplingFlow, GaussianMixture]:
    """Flow and mixture after steps of maximum likelihood together, as `held` likes them best."""
    # To learn, rows are whitened beforehand: units are not learned.
    units: Any = flow.units
    mean, matrix = (np.asarray(x, np.float64) for x in (units.mean, units.matrix))
    c = jnp.asarray(_roomy((rows - mean) @ matrix.T), jnp.float32)
    like: Any = (eqx.filter(flow.blocks, eqx.is_inexact_array), _learnable(mixture))
    begun = jnp.asarray(_flat(like, np))
    shapes = jax.eval_shape(optimiser.ADAM.init, begun)
    adam = jax.tree.map(lambda of: jnp.asarray(np.zeros(of.shape), of.dtype), shapes)
    state = (begun, begun, adam, jnp.asarray(0, jnp.int32))

    def as_found(average: Array) -> tuple[CouplingFlow, GaussianMixture]:
        blocks, density = _shaped(np.asarray(average), like)
        blocks = jax.tree.map(jnp.asarray, blocks)
        return _with_blocks(flow, blocks), _mixture_of(density, len(mixture.means))

    best, best_score, best_at = as_found(begun), math.inf, 0
    for chunk in range(max(1, steps // CHUNK) + 1):
        found = as_found(state[1])
        score = _score(*found, held)
        if score < best_score:
            best, best_at = found, chunk if score < best_score - 2e-3 else best_at
            best_score = score
        late = time.monotonic() >= until
        if late or chunk - best_at >= PATIENCE or chunk == max(1, steps // CHUNK):
            break
        places = jnp.asarray(rng.integers(len(rows), size=(CHUNK, BATCH)), jnp.int32)
        state = _chunk(flow, like, state, c, places, jnp.asarray(steps, jnp.float32))
    return best


def _score(flow: CouplingFlow, mixture: GaussianMixture, rows: np.ndarray) -> float:
    """Minus the mean log-density of rows y, up to a constant; a t component for outliers."""
    z, log_det = _pulled_rows(flow, rows)
    dim = rows.shape[1]
    base = Tailed.around(mixture, np.zeros(dim), np.eye(dim), TAIL_SHARE)
    return -float(np.mean(base.log_prob(z) + log_det))


def _roomy(rows: np.ndarray) -> np.ndarray:
    room = max(ROOM, 1 << (len(rows) - 1).bit_length())
    return np.concatenate([rows, np.zeros((room - len(rows), rows.shape[1]))])


def _flat(tree: Any, arrays: Any = jnp) -> Any:
    """All leaves in one vector, since steps of one array compile sooner than those of many."""
    return arrays.concatenate([arrays.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _shaped(flat: Any, like: Any) -> Any:
    """The tree of which `flat` is the vector."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves]).tolist()
    each = zip([0, *ends], ends, leaves, strict=False)
    parts = [flat[first:last].reshape(leaf.shape) for first, last, leaf in each]
    return jax.tree.unflatten(structure, parts)


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
def _chunk(
    flow: CouplingFlow,
    like: Any,
    state: Any,
    c: Float[Array, "rows dim"],
    places: Int[Array, "steps batch"],
    steps: Array,
) -> Any:
    """`CHUNK` steps of Adam, its rate along half a cosine, and the moving average of weights.

    Parameters, shaped as `like`, and their averages are vectors; `places` are the rows of each
    batch.
    """

    def step(state: Any, place: Array) -> tuple[Any, None]:
        flat, average, adam, number = state
        loss = jax.grad(lambda p: jnp.mean(_nll(flow, p, c[place])))
        gradient = _flat(loss(_shaped(flat, like)))
        rate = optimiser.cosine(number, steps, RATE, 0.05)
        flat, adam = optimiser.update(flat, gradient, adam, rate, 0.0)
        average = optimiser.moving_average(average, flat, MEMORY)
        return (flat, average, adam, number + 1), None

    return jax.lax.scan(step, state, places)[0]
