"""Densities of the plane that every kernel must leave invariant, with truths by quadrature.

All are dominated by N(0, I), so that independence moves can sample them. They are branches of one
module whose index is traced: a kernel is compiled once for all of them. Its other numbers break
the density on purpose, again without compiling: they are what the power twins need.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

EDGES = (-0.5, 0.6)  # where distribution functions are compared: edges of quadrature cells
MEANS = np.array([[1.2, 1.2], [-1.2, 1.2], [-1.2, -1.2], [1.2, -1.2]])
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
PRECISION = np.linalg.inv(np.array([[0.5, 0.35], [0.35, 0.7]]))


def gaussian(u):
    z = u - jnp.asarray([0.3, -0.2])
    return -0.5 * jnp.einsum("...i,ij,...j->...", z, jnp.asarray(PRECISION, u.dtype), z)


def funnel(u):
    """The second coordinate's scale grows with the first: 0.31 at -2, 0.94 at 2."""
    v, x = u[..., 0], u[..., 1]
    log_scale = jnp.log(0.3 + 0.65 * jax.nn.sigmoid(2 * v))
    return -0.5 * (v / 0.8) ** 2 - log_scale - 0.5 * x**2 * jnp.exp(-2 * log_scale)


def modes(u):
    """Four modes of unequal weight, four standard deviations apart."""
    squares = jnp.sum((u[..., None, :] - jnp.asarray(MEANS, u.dtype)) ** 2, axis=-1)
    return logsumexp(jnp.log(jnp.asarray(WEIGHTS, u.dtype)) - squares / (2 * 0.6**2), axis=-1)


def g(u):
    """A flow made by hand; its log-determinant is u_0 / 2."""
    first, second = u[..., 0], u[..., 1]
    return jnp.stack([first, second * jnp.exp(0.5 * first) + 0.5 * first**2], axis=-1)


def tilt(y):
    return 1.2 * jnp.sin(2 * y[..., 0]) + jnp.cos(y[..., 1]) - 0.15 * y[..., 1] ** 2


def tilted_flow(u):
    return tilt(g(u)) - 0.5 * jnp.sum(u**2, axis=-1)


def half_plane(u):
    """A standard normal that is NaN, value and gradient, where the first coordinate exceeds 1."""
    normal = -0.5 * jnp.sum(u**2, axis=-1)
    return normal * jnp.where(u[..., 0] > 1, jnp.nan, 1.0)


DENSITIES = {
    "gaussian": gaussian,
    "funnel": funnel,
    "modes": modes,
    "tilted flow": tilted_flow,
    "half-plane": half_plane,
}


class Target(eqx.Module):
    """One of `DENSITIES`, or a wrong version of it.

    Attributes:
        index: which one.
        sign: -1 takes f for an energy.
        normal: 1 counts the backbone's |u|^2 / 2 twice.
        log_det: 1 leaves the flow's log-determinant in.
    """

    index: jax.Array
    sign: jax.Array
    normal: jax.Array
    log_det: jax.Array

    def __init__(self, name, *, sign=1.0, normal=0.0, log_det=0.0):
        self.index = jnp.asarray(list(DENSITIES).index(name))
        self.sign, self.normal, self.log_det = map(jnp.asarray, (sign, normal, log_det))

    def __call__(self, u):
        value = jax.lax.switch(self.index, list(DENSITIES.values()), u)
        half = 0.5 * jnp.sum(u**2, axis=-1)
        f = value + half + self.log_det * 0.5 * u[..., 0]
        return self.sign * f - (1 + self.normal) * half

    def statistics(self, u):
        """`[..., 9]`: what is compared with the truth, in data space for the flow."""
        is_flow = self.index == list(DENSITIES).index("tilted flow")
        return statistics(jnp.where(is_flow, g(u), u))


def statistics(y):
    """Moments up to the second, and distribution functions of both coordinates."""
    first, second = y[..., 0], y[..., 1]
    below = [coordinate < edge for coordinate in (first, second) for edge in EDGES]
    moments = [first, second, first**2, second**2, first * second]
    return jnp.stack([*moments, *(b.astype(y.dtype) for b in below)], axis=-1)


def cells(lowest, highest, width):
    """Midpoints of the cells between two multiples of `width`."""
    return lowest + width * (np.arange(round((highest - lowest) / width)) + 0.5)


@functools.cache
def truth(name):
    """`[9]`: expectations of the statistics; of the flow's, by change of variables in y."""
    first = cells(-6, 6, 0.02)
    second = cells(-8, 12, 0.02)
    y = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    if name == "tilted flow":
        u1 = (y[:, 1] - 0.5 * y[:, 0] ** 2) * np.exp(-0.5 * y[:, 0])
        log_q = -0.5 * (y[:, 0] ** 2 + u1**2) - 0.5 * y[:, 0]
        log_p = np.asarray(jax.jit(tilt)(jnp.asarray(y)), np.float64) + log_q
    else:
        log_p = np.asarray(jax.jit(DENSITIES[name])(jnp.asarray(y)), np.float64)
    p = np.exp(np.where(np.isnan(log_p), -np.inf, log_p))
    return p @ np.asarray(jax.jit(statistics)(jnp.asarray(y)), np.float64) / p.sum()
