"""Traps for `posterior.py`: densities that look easier than they are; most evidences are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from posterior_cases import LOG_2PI, Case, nearest, normal_start
from posterior_targets import funnel
from scipy.integrate import quad
from scipy.stats import norm

from tiltflow import Real


def unequal_scales(dim: int = 3, narrow: float = 1 / 8, beyond: str = "") -> Case:
    """A trap: one mode eight times narrower than the other, of the same mass."""
    shares, wide = (0.5, 0.5), 1.0
    means = np.stack([np.full(dim, -3.0), np.full(dim, 3.0)])
    at = jnp.asarray(means)

    def log_density(x):
        square = jnp.sum((x - at) ** 2, axis=-1)
        sds = jnp.asarray([wide, narrow])
        each = -0.5 * square / sds**2 - dim * (jnp.log(sds) + 0.5 * LOG_2PI) + math.log(0.5)
        return jax.nn.logsumexp(each)

    return Case(
        log_density, dim, normal_start(dim, 5), 0.0, shares=shares, part=nearest(means),
        beyond=beyond,
    )  # fmt: skip


def needle() -> Case:
    """A trap: 12 times narrower in four dimensions; its basin is some 10^-4 of the start.

    0.5 exp(-72 r^2) (12^2 / 2 pi)^2 is more than the other mode's density up to r = 1.07.
    """
    return unequal_scales(4, 1 / 12)


def lost_needle() -> Case:
    """A trap: 30 times narrower in eight dimensions; its basin is a 10^-11 of the start."""
    return unequal_scales(8, 1 / 30, "a needle that no ascent and no particle comes near")


def hidden_mode() -> Case:
    """A trap: a mode at the rim of what the start covers, four deviations out."""
    shares, dim = (0.4, 0.6), 6
    means = np.stack([np.zeros(dim), np.full(dim, 40.0)])
    at = jnp.asarray(means)

    def log_density(x):
        each = -0.5 * jnp.sum((x - at) ** 2, axis=-1) + jnp.log(jnp.asarray(shares))
        return jax.nn.logsumexp(each) - dim / 2 * LOG_2PI

    return Case(log_density, dim, normal_start(dim, 10), 0.0, shares=shares, part=nearest(means))


def bends() -> Case:
    """A trap: a chain of bends, each coordinate bent by the one before."""
    dim = 8

    def log_density(x):
        middle = 2 * jnp.log1p(0.5 * x[:-1] ** 2) - 1
        first = -0.5 * x[0] ** 2 - 0.5 * LOG_2PI
        return first + jnp.sum(-0.5 * ((x[1:] - middle) / 0.3) ** 2 - math.log(0.3) - 0.5 * LOG_2PI)

    return Case(log_density, dim, normal_start(dim, 3), 0.0)


def exploding_bends() -> Case:
    """A trap: parabolas; from |x_0| > 2.41 on, 1.6% of the mass, they grow doubly exponentially.

    Most of that lies where float32 cannot resolve the density: to be doubted is all that can be.
    """
    dim = 8

    def log_density(x):
        middle = 0.5 * (x[:-1] ** 2 - 1.0)
        first = -0.5 * x[0] ** 2 - 0.5 * LOG_2PI
        return first + jnp.sum(-0.5 * ((x[1:] - middle) / 0.3) ** 2 - math.log(0.3) - 0.5 * LOG_2PI)

    return Case(log_density, dim, normal_start(dim, 3), 0.0)


def student() -> Case:
    """A trap: tails of Student's t with two degrees of freedom, in each of four dimensions."""

    def log_density(x):
        return jnp.sum(-1.5 * jnp.log1p(x**2 / 2)) - 4 * 1.5 * math.log(2)

    return Case(log_density, 4, normal_start(4, 3), 0.0)


def quartic() -> Case:
    """A trap: a double well of x^4 in each of six dimensions: 64 modes that touch."""

    def log_density(x):
        return -jnp.sum((x**2 - 3.0) ** 2 / 2.5 + 0.1 * x)

    one = quad(lambda x: math.exp(-((x**2 - 3) ** 2) / 2.5 - 0.1 * x), -6, 6)[0]
    return Case(log_density, 6, normal_start(6, 3), 6 * math.log(one))


def improper() -> Case:
    """A trap: nothing is known of the last coordinate."""

    def log_density(x):
        return -0.5 * jnp.sum(x[:-1] ** 2)

    return Case(log_density, 4, normal_start(4, 3), math.nan)


def deep_funnel() -> Case:
    """A trap: a funnel deeper than a flow of bounded scales reaches."""
    return funnel(dim=16, sd=5.0)


def walls() -> Case:
    """A trap: a normal density cut by walls that the user has not told as bounds."""

    def log_density(x):
        inside = jnp.all((x > -0.5) & (x < 1.0))
        return jnp.where(inside, -0.5 * jnp.sum(x**2) - 1.5 * LOG_2PI, -jnp.inf)

    truth = 3 * math.log(norm.cdf(1) - norm.cdf(-0.5))
    doubt = "draws stop at walls that nobody has told of"
    return Case(log_density, 3, normal_start(3, 1), truth, doubt=doubt)


def nan_region() -> Case:
    """A trap: a logarithm of what is negative in a third of the space."""

    def log_density(a, b):
        return jnp.log(a + 0.5) - 0.5 * a**2 - 0.5 * b**2

    mass = quad(lambda a: (a + 0.5) * math.exp(-0.5 * a**2), -0.5, 12)[0]
    return Case(
        log_density, {"a": Real(), "b": Real()},
        lambda rng: {"a": rng.standard_normal(2_000), "b": rng.standard_normal(2_000)},
        math.log(mass) + 0.5 * LOG_2PI, doubt="a third of the space is not a number",
    )  # fmt: skip


def constant() -> Case:
    """A trap: a curved density with a constant of -1e9."""

    def log_density(x):
        return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - 0.5 * x[0] ** 2) / 0.5) ** 2 - 1e9

    return Case(log_density, 2, None, math.log(2 * math.pi * 0.5) - 1e9)


TRAPS = {
    "unequal-scales": unequal_scales,
    "needle": needle,
    "lost-needle": lost_needle,
    "hidden-mode": hidden_mode,
    "bends": bends,
    "exploding-bends": exploding_bends,
    "student": student,
    "quartic": quartic,
    "improper": improper,
    "deep-funnel": deep_funnel,
    "walls": walls,
    "nan-region": nan_region,
    "constant": constant,
}
