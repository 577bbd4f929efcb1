"""Posteriors of the kinds of posteriordb, for `posterior.py`, their data made here.

What can be integrated in closed form is; two or three numbers are left for a grid, whose
refinement changes log Z by less than 0.001.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from posterior_cases import LOG_2PI, Case
from scipy.special import expit, gammaln, logsumexp

from tiltflow import Interval, Positive, Real


def on_a_grid(log_density: Callable[..., np.ndarray], *axes: tuple[float, float, int]) -> float:
    """log of the integral over a box: midpoints, of functions that are 0 at its faces."""
    ticks = [low + (np.arange(n) + 0.5) * (high - low) / n for low, high, n in axes]
    cells = math.prod((high - low) / n for low, high, n in axes)
    rows = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return float(logsumexp(log_density(*rows.T)) + math.log(cells))


def half_normal(value, scale):
    return math.log(2) - 0.5 * (value / scale) ** 2 - math.log(scale) - 0.5 * LOG_2PI


def regression() -> Case:
    """Linear, five coefficients, 60 rows; normal and inverse gamma priors: closed form."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((60, 5)) @ np.diag([1, 2, 0.5, 1, 3])
    y = x @ np.array([1.0, -0.5, 0.0, 2.0, 0.3]) + 0.7 * rng.standard_normal(60)
    design, seen = jnp.asarray(x), jnp.asarray(y)
    a, b, wide = 2.0, 1.0, 3.0  # beta ~ N(0, wide^2 s2), s2 ~ inverse gamma(a, b)

    def log_density(beta, s2):
        prior = a * math.log(b) - math.lgamma(a) - (a + 1) * jnp.log(s2) - b / s2
        prior += -0.5 * jnp.sum(beta**2) / (wide**2 * s2)
        prior -= 2.5 * (LOG_2PI + 2 * math.log(wide) + jnp.log(s2))
        away = seen - design @ beta
        return prior - 0.5 * jnp.sum(away**2) / s2 - 30 * (LOG_2PI + jnp.log(s2))

    precision = x.T @ x + np.eye(5) / wide**2
    at = np.linalg.solve(precision, x.T @ y)
    after = b + 0.5 * (y @ y - at @ precision @ at)
    log_z = a * math.log(b) - gammaln(a) + gammaln(a + 30) - (a + 30) * math.log(after)
    log_z += -30 * LOG_2PI - 5 * math.log(wide) - 0.5 * np.linalg.slogdet(precision)[1]
    return Case(log_density, {"beta": Real(5), "s2": Positive()}, None, float(log_z))


def logistic() -> Case:
    """Logistic regression, three coefficients, 80 rows."""
    rng = np.random.default_rng(12)
    x = np.column_stack([np.ones(80), rng.standard_normal((80, 2))])
    y = (rng.random(80) < expit(x @ np.array([-0.5, 1.5, -1.0]))).astype(float)
    design, sign = jnp.asarray(x), jnp.asarray(2 * y - 1)

    def log_density(beta):
        prior = -0.5 * jnp.sum(beta**2) / 9 - 3 * math.log(3) - 1.5 * LOG_2PI
        return prior + jnp.sum(jax.nn.log_sigmoid(sign * (design @ beta)))

    def of_rows(*columns):
        beta = np.stack(columns, axis=1)
        prior = -0.5 * np.sum(beta**2, axis=1) / 9 - 3 * math.log(3) - 1.5 * LOG_2PI
        return prior - np.logaddexp(0, -(2 * y - 1) * (beta @ x.T)).sum(axis=1)

    truth = on_a_grid(of_rows, (-4, 2, 70), (-1, 6, 70), (-5, 2, 70))
    return Case(log_density, {"beta": Real(3)}, None, truth)


def centred_schools() -> Case:
    """Rubin's eight schools, centred: a funnel of theta about mu."""
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    s = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])

    def log_density(mu, tau, theta):
        prior = -0.5 * (mu / 5) ** 2 - math.log(5) - 0.5 * LOG_2PI
        prior += math.log(2 / (5 * math.pi)) - jnp.log1p((tau / 5) ** 2)
        prior += jnp.sum(-0.5 * ((theta - mu) / tau) ** 2 - jnp.log(tau) - 0.5 * LOG_2PI)
        return prior + jnp.sum(-0.5 * ((y - theta) / s) ** 2 - jnp.log(s) - 0.5 * LOG_2PI)

    def given(t):  # mu integrated in closed form; tau = exp(t)
        variance = s**2 + np.exp(2 * t)[:, None]
        precision = np.sum(1 / variance, axis=1) + 1 / 25
        at = np.sum(y / variance, axis=1) / precision
        value = -0.5 * np.sum(y**2 / variance + np.log(variance) + LOG_2PI, axis=1) - math.log(5)
        value += 0.5 * at**2 * precision - 0.5 * np.log(precision)
        return value + math.log(2 / (5 * math.pi)) - np.log1p((np.exp(t) / 5) ** 2) + t

    kinds = {"mu": Real(), "tau": Positive(), "theta": Real(8)}
    return Case(log_density, kinds, None, on_a_grid(given, (-25, 12, 20_000)), within=0.03)


def two_groups() -> Case:
    """The means of two normal groups of known shares: two modes, since labels can be exchanged."""
    rng = np.random.default_rng(13)
    y = np.concatenate([rng.normal(-1.2, 1, 26), rng.normal(1.2, 1, 24)])

    def log_density(mu):
        prior = -0.5 * jnp.sum(mu**2) / 9 - 2 * math.log(3) - LOG_2PI
        first = math.log(0.5) - 0.5 * (y - mu[0]) ** 2
        second = math.log(0.5) - 0.5 * (y - mu[1]) ** 2
        return prior + jnp.sum(jnp.logaddexp(first, second) - 0.5 * LOG_2PI)

    def of_rows(a, b):
        prior = -0.5 * (a**2 + b**2) / 9 - 2 * math.log(3) - LOG_2PI
        first, second = (-0.5 * (y[:, None] - m[None]) ** 2 for m in (a, b))
        return prior + np.sum(np.logaddexp(first, second) + math.log(0.5) - 0.5 * LOG_2PI, axis=0)

    truth = on_a_grid(of_rows, (-5, 5, 200), (-5, 5, 200))
    return Case(
        log_density, {"mu": Real(2)}, None, truth, shares=(0.5, 0.5), draws=10_000,
        part=lambda draws: (draws["mu"][..., 0] > draws["mu"][..., 1]).astype(int),
    )  # fmt: skip


def latent_walk() -> Case:
    """A latent autoregression of 20 steps under noise, with its coefficient and its scale."""
    rng, steps, noise = np.random.default_rng(14), 20, 0.5
    state = [0.0]
    for _ in range(steps):
        state.append(0.8 * state[-1] + 0.6 * rng.standard_normal())
    y = np.array(state[1:]) + noise * rng.standard_normal(steps)

    def log_density(phi, scale, x):
        before = jnp.concatenate([jnp.zeros(1), x[:-1]])
        prior = half_normal(scale, 1.0) - math.log(2)  # phi is uniform
        prior += jnp.sum(-0.5 * ((x - phi * before) / scale) ** 2 - jnp.log(scale) - 0.5 * LOG_2PI)
        return prior + jnp.sum(-0.5 * ((y - x) / noise) ** 2 - math.log(noise) - 0.5 * LOG_2PI)

    def of_rows(phi, scale):
        lag = np.subtract.outer(np.arange(steps), np.arange(steps))
        found = []
        for p, s in zip(phi, scale, strict=True):
            powers = np.where(lag >= 0, p ** np.maximum(lag, 0), 0.0)
            covariance = s**2 * powers @ powers.T + noise**2 * np.eye(steps)
            factor = np.linalg.cholesky(covariance)
            away = np.linalg.solve(factor, y)
            log_det = 2 * np.log(np.diagonal(factor)).sum()
            found.append(-0.5 * (away @ away + log_det + steps * LOG_2PI))
        return np.array(found) + half_normal(scale, 1.0) - math.log(2)

    truth = on_a_grid(of_rows, (-1, 1, 100), (0, 3, 150))
    kinds = {"phi": Interval(-1, 1), "scale": Positive(), "x": Real(steps)}
    return Case(log_density, kinds, None, truth)


def growth() -> Case:
    """An ordinary differential equation, y' = r y (1 - y / K), 15 noisy values: r, K, sigma."""
    rng, step = np.random.default_rng(15), 0.05  # ten steps from value to value

    def stepped(y, r, top):
        """Runge and Kutta's fourth order."""
        k1 = r * y * (1 - y / top)
        k2 = r * (y + step / 2 * k1) * (1 - (y + step / 2 * k1) / top)
        k3 = r * (y + step / 2 * k2) * (1 - (y + step / 2 * k2) / top)
        k4 = r * (y + step * k3) * (1 - (y + step * k3) / top)
        return y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def solved(r, top):
        y, found = 0.2 + 0.0 * r, []
        for number in range(1, 151):
            y = stepped(y, r, top)
            found += [y] if number % 10 == 0 else []
        return np.stack(found)

    seen = solved(np.array(1.0), np.array(2.0)) + 0.1 * rng.standard_normal(15)

    def traced(r, top):
        def to_next(y, _):
            y = jax.lax.fori_loop(0, 10, lambda _, y: stepped(y, r, top), y)
            return y, y

        return jax.lax.scan(to_next, 0.2 + 0.0 * r, None, length=15)[1]

    def terms(away, r, top, sigma, xp):
        prior = half_normal(r, 2.0) + half_normal(top, 5.0) + half_normal(sigma, 0.5)
        square = xp.sum(away**2, axis=0)
        return prior - 0.5 * square / sigma**2 - 15 * (xp.log(sigma) + 0.5 * LOG_2PI)

    def log_density(r, top, sigma):
        return terms(seen - traced(r, top), r, top, sigma, jnp)

    def of_rows(r, top, sigma):
        return terms(seen[:, None] - solved(r, top), r, top, sigma, np)

    truth = on_a_grid(of_rows, (0.5, 1.6, 60), (1.5, 2.8, 60), (0.03, 0.4, 60))
    kinds = {"r": Positive(), "top": Positive(), "sigma": Positive()}
    return Case(log_density, kinds, None, truth)


def process() -> Case:
    """A Gaussian process of 20 values: amplitude, length, noise; their logarithms are normal."""
    rng, x = np.random.default_rng(16), np.linspace(0, 5, 20)
    y = np.sin(1.5 * x) + 0.3 * rng.standard_normal(20)
    square = (x[:, None] - x[None]) ** 2

    def log_density(logs):
        amplitude, length, noise = jnp.exp(logs)
        covariance = amplitude**2 * jnp.exp(-0.5 * square / length**2)
        factor = jnp.linalg.cholesky(covariance + (noise**2 + 1e-5) * jnp.eye(20))
        away = jax.scipy.linalg.solve_triangular(factor, jnp.asarray(y), lower=True)
        value = -0.5 * jnp.sum(away**2) - jnp.sum(jnp.log(jnp.diagonal(factor))) - 10 * LOG_2PI
        return value - 0.5 * jnp.sum((logs + jnp.array([0.0, 0.0, 1.0])) ** 2) - 1.5 * LOG_2PI

    def of_rows(*columns):
        logs, found = np.stack(columns, axis=1), []
        for part in np.array_split(logs, 64):
            amplitude, length, noise = np.exp(part.T)[..., None, None]
            covariance = amplitude**2 * np.exp(-0.5 * square / length**2)
            factor = np.linalg.cholesky(covariance + (noise**2 + 1e-5) * np.eye(20))
            away = np.linalg.solve(factor, np.broadcast_to(y[:, None], (len(part), 20, 1)))[..., 0]
            log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
            value = -0.5 * np.sum(away**2, axis=1) - log_det - 10 * LOG_2PI
            found.append(
                value - 0.5 * np.sum((part + np.array([0, 0, 1])) ** 2, axis=1) - 1.5 * LOG_2PI
            )
        return np.concatenate(found)

    truth = on_a_grid(of_rows, (-3.5, 4, 44), (-4, 4, 56), (-4.5, 2.5, 48))
    return Case(log_density, {"logs": Real(3)}, None, truth)


MODELS = {
    "regression": regression,
    "logistic": logistic,
    "centred-schools": centred_schools,
    "two-groups": two_groups,
    "latent-walk": latent_walk,
    "growth": growth,
    "process": process,
}
