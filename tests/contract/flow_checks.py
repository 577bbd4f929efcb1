"""Every check is a function of a backbone that asserts, so that broken ones can go through it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from contract_flows import LEVELS

from tiltflow.backbones.base import Flow, standard_normal_log_prob
from tiltflow.backbones.units.bijections import Affine, Logit


def noise(backbone: Flow, number: int = 32, seed: int = 3) -> jax.Array:
    return jr.normal(jr.key(seed), (number, *backbone.latent_shape))


@eqx.filter_jit
def mapped(function, backbone: Flow, examples: jax.Array) -> jax.Array:
    """`function(backbone, example)` for each of `examples`."""
    return jax.vmap(lambda example: function(backbone, example))(examples)


# `mapped` compiles once for each of these and each backbone, if batches have one size.
def push(backbone, u):
    return backbone.push(u)


def pull(backbone, x):
    return backbone.pull(x)


def coordinates(backbone, u):
    return backbone.coordinates(u)


def decode(backbone, y):
    return backbone.units.decode(y)


def log_prob(backbone, x):
    return backbone.log_prob(x)


def check_round_trip(backbone: Flow, data: jax.Array) -> None:
    """pull(push(u)) = u for noise, push(pull(x)) = x for rows of data."""
    u = noise(backbone)
    back = mapped(pull, backbone, mapped(push, backbone, u))
    np.testing.assert_allclose(back, u, atol=3e-3)
    back = mapped(push, backbone, mapped(pull, backbone, data))
    np.testing.assert_allclose(back, data, atol=2e-4 * float(jnp.max(jnp.abs(data))))


def by_autodiff(backbone: Flow, x: jax.Array) -> jax.Array:
    """Log N(pull(x)) + log|det d pull / dx|."""
    jacobian = jax.jacfwd(backbone.pull)(x).reshape(x.size, x.size)
    return standard_normal_log_prob(backbone.pull(x)) + jnp.linalg.slogdet(jacobian)[1]


def check_log_det(backbone: Flow) -> None:
    """log_prob is the change of variables by pull's Jacobian."""
    x = mapped(push, backbone, noise(backbone))
    difference = mapped(lambda b, x: b.log_prob(x) - by_autodiff(b, x), backbone, x)
    np.testing.assert_allclose(difference, 0.0, atol=2e-2)


def check_shapes(backbone: Flow) -> None:
    """One example in, one out; vmap makes batches."""
    dim = int(np.prod(backbone.data_shape))
    u = jnp.zeros(backbone.latent_shape)
    x = jax.eval_shape(backbone.push, u)
    assert x.shape == backbone.data_shape
    assert jax.eval_shape(backbone.coordinates, u).shape == (dim,)
    assert jax.eval_shape(backbone.pull, x).shape == backbone.latent_shape
    assert jax.eval_shape(backbone.log_prob, x).shape == ()
    batch = jax.eval_shape(jax.vmap(backbone.push), noise(backbone, 3))
    assert batch.shape == (3, *backbone.data_shape)
    assert jax.eval_shape(jax.vmap(backbone.log_prob), batch).shape == (3,)


def check_push_decodes(backbone: Flow) -> None:
    """A tilt reads coordinates: push must be nothing but their decoding."""
    u = noise(backbone)
    y = mapped(coordinates, backbone, u)
    decoded = mapped(decode, backbone, y)
    np.testing.assert_allclose(mapped(push, backbone, u), decoded, rtol=1e-5, atol=1e-5)


def far(backbone: Flow, radius: float) -> jax.Array:
    u = np.asarray(noise(backbone))
    norms = np.sqrt(np.sum(u**2, axis=tuple(range(1, u.ndim)), keepdims=True))
    return jnp.asarray(radius * u / norms)


def check_coordinates_far_out(backbone: Flow) -> None:
    """Coordinates and their gradients are finite where only a stray chain goes."""
    u = far(backbone, 30.0)
    jacobian = mapped(lambda b, u: jax.jacfwd(b.coordinates)(u), backbone, u)
    assert np.all(np.isfinite(mapped(coordinates, backbone, u)))
    assert np.all(np.isfinite(jacobian))


def check_log_prob_far_out(backbone: Flow, data: jax.Array) -> None:
    """log q and its gradient are finite far outside the range of the data."""
    away = np.ptp(data) * np.float32([-30.0, -3.0, 3.0, 30.0])
    away = away.reshape(-1, *[1] * len(backbone.data_shape))
    x = jnp.asarray(np.mean(data, axis=0) + away * np.ones(backbone.data_shape, np.float32))
    gradient = mapped(lambda b, x: jax.grad(b.log_prob)(x), backbone, x)
    assert np.all(np.isfinite(mapped(log_prob, backbone, x)))
    assert np.all(np.isfinite(gradient))


def check_linear_tails(backbone: Flow) -> None:
    """Twice as far out in u is at most about twice as far out in coordinates."""
    near, twice = (
        np.linalg.norm(mapped(coordinates, backbone, far(backbone, r)), axis=1)
        for r in (50.0, 100.0)
    )
    assert np.max(twice / near) < 2.7  # a quadratic map makes it nearly 4


def axis_nodes(backbone: Flow, number: int = 400) -> np.ndarray:
    """`[nodes, 2]`: nodes on either data axis, dense where the backbone's mass is.

    The density of a dequantised histogram jumps at the edges of bins: nodes lie on both sides.
    """
    reach = np.asarray([[-0.2], [1.2]])
    if isinstance(backbone.units, Affine):
        x = np.asarray(mapped(push, backbone, noise(backbone, 10_000)), np.float64)
        return np.linspace(*(x.min(axis=0) + reach * np.ptp(x, axis=0)), number)
    y = np.asarray(mapped(coordinates, backbone, noise(backbone, 10_000)))
    y = np.linspace(*(y.min(axis=0) + reach * np.ptp(y, axis=0)), number, dtype=np.float32)
    nodes = np.asarray(mapped(decode, backbone, jnp.asarray(y)), np.float64)
    if isinstance(backbone.units, Logit):
        return nodes
    edges = np.arange(LEVELS + 1.0)[:, None] + np.zeros(2)
    return np.sort(np.concatenate([nodes, edges - 1e-4, edges + 1e-4]), axis=0)


def density_on(backbone: Flow, nodes: np.ndarray) -> np.ndarray:
    """`[nodes, nodes]`: q at the grid that the nodes span."""
    grid = np.stack(np.meshgrid(nodes[:, 0], nodes[:, 1], indexing="ij"), axis=-1)
    points = jnp.asarray(grid.reshape(-1, 2), jnp.float32)
    log_q = mapped(log_prob, backbone, points)
    return np.exp(np.asarray(log_q, np.float64)).reshape(len(nodes), len(nodes))


def check_integrates(backbone: Flow) -> None:
    """In two dimensions, q in data units integrates to 1 over the plane."""
    nodes = axis_nodes(backbone)
    inner = np.trapezoid(density_on(backbone, nodes), nodes[:, 1], axis=1)
    np.testing.assert_allclose(np.trapezoid(inner, nodes[:, 0]), 1.0, atol=1e-2)


def bin_probabilities(backbone: Flow, order: int = 24) -> np.ndarray:
    """`[LEVELS, LEVELS]`: q integrated over each bin [i, i+1) x [j, j+1), by Gauss-Legendre."""
    places, weights = np.polynomial.legendre.leggauss(order)
    places, weights = (places + 1) / 2, weights / 2
    axis = (np.arange(LEVELS)[:, None] + places).ravel()
    q = density_on(backbone, np.stack([axis, axis], axis=1))
    q = q.reshape(LEVELS, order, LEVELS, order)
    return np.einsum("iajb,a,b->ij", q, weights, weights)


def check_bins(backbone: Flow) -> None:
    """Each bin's probability is the frequency of draws in it, within 4.5 standard errors.

    Draws come from `push` and probabilities from `log_prob`, so this ties sampling to scoring.
    """
    number = 100_000
    probabilities = bin_probabilities(backbone)
    x = np.asarray(mapped(push, backbone, noise(backbone, number, seed=11)))
    level = np.floor(x).astype(int)
    level = level[np.all((level >= 0) & (level < LEVELS), axis=1)]
    frequencies = np.zeros((LEVELS, LEVELS))
    np.add.at(frequencies, (level[:, 0], level[:, 1]), 1 / number)
    error = np.sqrt(probabilities * (1 - np.minimum(probabilities, 1)) / number) + 1e-5
    assert np.max(np.abs(frequencies - probabilities) / error) < 4.5
    outside = 1 - len(level) / number
    np.testing.assert_allclose(probabilities.sum() + outside, 1.0, atol=5e-3)
