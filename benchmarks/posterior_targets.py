"""Densities whose evidence is known, for `posterior.py`: usual hard ones.

Each is written for itself: closed forms, a quadrature, or a transfer matrix say what log Z is.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from posterior_cases import LOG_2PI, Case, box_start, nearest, normal_start
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp

from tiltflow import Interval, Positive, Real


def gaussian() -> Case:
    """Ten dimensions, standard deviations from 1 to 1,000^(1/2) and a random rotation."""
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((10, 10)))[0]
    scale = np.geomspace(1000**-0.25, 1000**0.25, 10)
    whiten = jnp.asarray((rotation / scale).T)
    constant = -float(np.sum(np.log(scale))) - 5 * LOG_2PI

    def log_density(x):
        return constant - 0.5 * jnp.sum((whiten @ x) ** 2)

    return Case(
        log_density, 10, normal_start(10, 10), 0.0, within=0.006, most=(0.005, 20),
        frugal=(100_000, 0.05),
    )  # fmt: skip


def mixture() -> Case:
    """Four normal modes in ten dimensions, 12 deviations apart, .05 .15 .3 .5 of the mass."""
    corners = np.random.default_rng(2).choice([-1.0, 1.0], (4, 10))
    means = 12 / np.sqrt(2 * 10) * corners
    shares = (0.05, 0.15, 0.3, 0.5)
    log_shares, at = jnp.log(jnp.asarray(shares)), jnp.asarray(means)

    def log_density(x):
        each = log_shares - 0.5 * jnp.sum((x - at) ** 2, axis=-1) - 5 * LOG_2PI
        return jax.nn.logsumexp(each)

    return Case(
        log_density, 10, normal_start(10, 10), 0.0, shares=shares, part=nearest(means),
        most=(0.02, 20), most_tv=0.01, frugal=(150_000, 0.05),
    )  # fmt: skip


def funnel(dim: int = 10, sd: float = 3.0) -> Case:
    """Neal's funnel."""

    def log_density(x):
        v, rest = x[0], x[1:]
        inner = -0.5 * jnp.sum(rest**2) * jnp.exp(-v) - 0.5 * (dim - 1) * (v + LOG_2PI)
        return -0.5 * (v / sd) ** 2 - math.log(sd) - 0.5 * LOG_2PI + inner

    return Case(
        log_density, dim, normal_start(dim, 5), 0.0, within=0.03, most=(0.03, 30),
        frugal=(300_000, 0.05),
    )  # fmt: skip


def rosenbrock() -> Case:
    """Four pairs."""

    def log_density(x):
        a, b = x[0::2], x[1::2]
        return -jnp.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)

    return Case(
        log_density, 8, box_start(8, -10, 10), 4 * math.log(math.pi / 10), most=(0.02, 30),
        frugal=(300_000, 0.05),
    )  # fmt: skip


def log_gamma() -> Case:
    """Ten dimensions: two of two modes each, four skew, four normal (Feroz et al. 2019)."""

    def skew(x, at):
        z = (x - at) * 3
        return z - jnp.exp(z) + math.log(3)

    def bell(x, at):
        return -4.5 * (x - at) ** 2 + math.log(3) - 0.5 * LOG_2PI

    def log_density(x):
        first = jnp.logaddexp(skew(x[0], 10.0), skew(x[0], -10.0)) - math.log(2)
        second = jnp.logaddexp(bell(x[1], 10.0), bell(x[1], -10.0)) - math.log(2)
        return first + second + jnp.sum(skew(x[2:6], 10.0)) + jnp.sum(bell(x[6:], 10.0))

    def part(draws):
        return 2 * (draws["x"][..., 0] > 0) + (draws["x"][..., 1] > 0)

    return Case(
        log_density, 10, box_start(10, -30, 30), 0.0, shares=(0.25,) * 4, part=part,
        within=0.016, most=(0.015, 20), most_tv=0.01, frugal=(200_000, 0.05),
    )  # fmt: skip


def eggbox() -> Case:
    """Eighteen modes of (2 + cos(x/2) cos(y/2))^5 on a square, uniform prior."""
    grid = (np.arange(4_000) + 0.5) / 4_000 * 10 * math.pi
    field = 5 * np.log(2 + np.cos(grid / 2)[:, None] * np.cos(grid / 2)[None])
    truth = float(np.log(np.mean(np.exp(field))))
    corners = [(i, j) for i in range(6) for j in range(6) if (i + j) % 2 == 0]
    means = 2 * math.pi * np.array(corners)
    plane = np.stack(np.meshgrid(grid[::20], grid[::20], indexing="ij"), axis=-1)
    near = np.argmin(((plane[..., None, :] - means) ** 2).sum(axis=-1), axis=-1)
    weights = np.exp(field[::20, ::20])
    shares = tuple(np.bincount(near.ravel(), weights.ravel()) / weights.sum())
    side = Interval(0, 10 * math.pi, 2)

    def log_density(x):
        return 5 * jnp.log(2 + jnp.cos(x[0] / 2) * jnp.cos(x[1] / 2)) - 2 * math.log(10 * math.pi)

    return Case(
        log_density, side, box_start(2, 0, 10 * math.pi), truth, shares=shares,
        part=nearest(means), most=(0.02, 15), most_tv=0.02, frugal=(50_000, 0.05),
        draws=20_000,
    )  # fmt: skip


def shells() -> Case:
    """Two thin shells in five dimensions, .3 and .7 of the mass."""
    radius, width, dim = 2.0, 0.1, 5
    centres = np.zeros((2, dim))
    centres[:, 0] = -3.5, 3.5
    at, log_shares = jnp.asarray(centres), jnp.log(jnp.asarray([0.3, 0.7]))

    def log_density(x):
        away = jnp.sqrt(jnp.sum((x - at) ** 2, axis=-1))
        return jax.nn.logsumexp(log_shares - 0.5 * ((away - radius) / width) ** 2)

    surface = math.log(2) + dim / 2 * math.log(math.pi) - gammaln(dim / 2)
    inside = quad(lambda r: r ** (dim - 1) * math.exp(-0.5 * ((r - radius) / width) ** 2), 1, 3)[0]
    return Case(
        log_density, dim, box_start(dim, -6, 6), surface + math.log(inside), shares=(0.3, 0.7),
        part=nearest(centres), within=0.014, most=(0.01, 20), most_tv=0.005, frugal=(100_000, 0.05),
        draws=10_000,
    )  # fmt: skip


def phi_four(dim: int = 32, field: float = 0.02) -> Case:
    """A chain of phi-four in a field, ends held at 0: two modes (Gabrié et al. 2022, eq. 15)."""
    a, beta = 0.1, 20.0
    stiff, well = beta * a * dim / 2, beta / (4 * a * dim)

    def log_density(x):
        padded = jnp.concatenate([jnp.zeros(1), x, jnp.zeros(1)])
        return (
            -stiff * jnp.sum(jnp.diff(padded) ** 2)
            - well * jnp.sum((1 - x**2) ** 2)
            + field * jnp.sum(x)
        )

    grid = np.linspace(-3, 3, 1_201)
    step = grid[1] - grid[0]
    site = -well * (1 - grid**2) ** 2 + field * grid
    link = -stiff * (grid[:, None] - grid[None]) ** 2
    forward = [-stiff * grid**2 + site]
    for _ in range(dim - 1):
        forward.append(logsumexp(forward[-1][:, None] + link, axis=0) + site + math.log(step))
    log_z = float(logsumexp(forward[-1] - stiff * grid**2) + math.log(step))
    backward = -stiff * grid**2
    middle = dim // 2
    for _ in range(dim - 1 - middle):
        backward = logsumexp(link + (site + backward)[None], axis=1) + math.log(step)
    marginal = forward[middle] + backward + math.log(step) - log_z
    up = float(np.exp(logsumexp(marginal[grid > 0])) + 0.5 * np.exp(marginal[grid == 0]).sum())

    return Case(
        log_density, dim, normal_start(dim, 1.0), log_z, shares=(1 - up, up),
        part=lambda draws: (draws["x"][..., middle] > 0).astype(int), within=0.016,
        most=(0.015, 30), most_tv=0.005, frugal=(500_000, 0.05),
    )  # fmt: skip


def eight_schools() -> Case:
    """Rubin's eight schools, not centred, as in posteriordb."""
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    s = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])

    def log_density(mu, tau, theta):
        prior = -0.5 * (mu / 5) ** 2 - math.log(5) - 0.5 * LOG_2PI
        prior += math.log(2 / (5 * math.pi)) - jnp.log1p((tau / 5) ** 2)
        prior += jnp.sum(-0.5 * theta**2 - 0.5 * LOG_2PI)
        away = (y - mu - tau * theta) / s
        return prior + jnp.sum(-0.5 * away**2 - jnp.log(s) - 0.5 * LOG_2PI)

    def inner(tau):  # mu integrated in closed form
        variance = s**2 + tau**2
        precision = np.sum(1 / variance) + 1 / 25
        at = np.sum(y / variance) / precision
        value = -0.5 * np.sum(y**2 / variance + np.log(variance) + LOG_2PI) - math.log(5)
        value += 0.5 * at**2 * precision - 0.5 * math.log(precision)
        return math.exp(value + 30) * 2 / (5 * math.pi) / (1 + (tau / 5) ** 2)

    log_z = math.log(quad(inner, 0, np.inf, limit=400)[0]) - 30

    def start(rng):
        return {
            "mu": 5 * rng.standard_normal(2_000),
            "tau": 5 * np.abs(rng.standard_cauchy(2_000)) + 1e-6,
            "theta": rng.standard_normal((2_000, 8)),
        }

    kinds = {"mu": Real(), "tau": Positive(), "theta": Real(8)}
    return Case(
        log_density, kinds, start, log_z, within=0.006, most=(0.005, 15), frugal=(30_000, 0.02)
    )


def autoregression() -> Case:
    """Five lags, 195 observations, wide priors: posteriordb's arK with data made here."""
    rng = np.random.default_rng(5)
    series = list(rng.standard_normal(5))
    for _ in range(195):
        series.append(float(np.dot([0.5, -0.2, 0.1, 0.1, 0.05], series[-1:-6:-1])) + rng.normal())
    x = np.array(series)
    lags = np.stack([np.ones(195), *(x[5 - k : 200 - k] for k in range(1, 6))], axis=1)
    y = x[5:]
    design, seen = jnp.asarray(lags), jnp.asarray(y)

    def log_density(alpha, beta, sigma):
        prior = -0.5 * ((alpha / 10) ** 2 + jnp.sum((beta / 10) ** 2))
        prior -= 6 * (math.log(10) + 0.5 * LOG_2PI)
        prior += math.log(2 / (2.5 * math.pi)) - jnp.log1p((sigma / 2.5) ** 2)
        away = seen - design @ jnp.concatenate([alpha[None], beta])
        return prior - 0.5 * jnp.sum(away**2) / sigma**2 - 195 * (jnp.log(sigma) + 0.5 * LOG_2PI)

    def given(sigma):  # coefficients integrated in closed form
        precision = lags.T @ lags / sigma**2 + np.eye(6) / 100
        at = np.linalg.solve(precision, lags.T @ y / sigma**2)
        value = -0.5 * (y @ y / sigma**2 - at @ precision @ at) - 195 * math.log(sigma)
        value -= 0.5 * np.linalg.slogdet(precision)[1] + 6 * math.log(10) + 97.5 * LOG_2PI
        return value + math.log(2 / (2.5 * math.pi)) - math.log1p((sigma / 2.5) ** 2)

    sigmas = np.linspace(0.6, 1.6, 4_001)
    log_z = float(logsumexp([given(v) for v in sigmas]) + math.log(sigmas[1] - sigmas[0]))

    def start(rng):
        return {
            "alpha": 10 * rng.standard_normal(2_000),
            "beta": 10 * rng.standard_normal((2_000, 5)),
            "sigma": 2.5 * np.abs(rng.standard_cauchy(2_000)) + 1e-6,
        }

    kinds = {"alpha": Real(), "beta": Real(5), "sigma": Positive()}
    return Case(
        log_density, kinds, start, log_z, within=0.006, most=(0.005, 15), frugal=(80_000, 0.05)
    )


TARGETS = {
    "gaussian": gaussian,
    "mixture": mixture,
    "funnel": funnel,
    "rosenbrock": rosenbrock,
    "log-gamma": log_gamma,
    "eggbox": eggbox,
    "shells": shells,
    "phi-four": phi_four,
    "eight-schools": eight_schools,
    "autoregression": autoregression,
}
