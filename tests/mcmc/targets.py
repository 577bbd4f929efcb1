"""Targets with known answers, and the check that every kernel goes through.

A check compares means of test functions with the truth, in standard errors that come from the
chains' own scatter: 64 independent chains, so no model of autocorrelation is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

STANDARD_ERRORS = 4.5  # of the largest of some ten test functions


@dataclass(frozen=True)
class Target:
    """A density, and the truth about some functions of its draws."""

    log_density: Callable  # [chains, dim] -> [chains]
    dim: int
    functions: Callable  # [..., dim] -> [..., functions]
    truth: np.ndarray


def correlated(dim: int, rho: float) -> Target:
    """A Gaussian with all correlations `rho` and mean 1: means, squares, products, quantiles."""
    covariance = np.full((dim, dim), rho) + (1 - rho) * np.eye(dim)
    precision = jnp.asarray(np.linalg.inv(covariance), jnp.float32)

    def log_density(x):
        return -0.5 * jnp.einsum("ci,ij,cj->c", x - 1, precision, x - 1)

    def functions(x):
        z = x - 1
        return np.stack(
            [
                x[..., 0],
                x[..., -1],
                z[..., 0] ** 2,
                z[..., 0] * z[..., 1],
                (z[..., 0] - z[..., 1]) ** 2,
                z[..., 0] < -1.2816,
                z[..., 0] < 0.6745,
            ],
            axis=-1,
        )

    truth = np.array([1, 1, 1, rho, 2 * (1 - rho), 0.1, 0.75])
    return Target(log_density, dim, functions, truth)


def mixture() -> Target:
    """Four Gaussians of unequal weight, near enough for a leapfrog to pass between them."""
    means = np.array([[1.5, 1.5], [-1.5, 1.5], [-1.5, -1.5], [1.5, -1.5]])
    weights = np.array([0.4, 0.3, 0.2, 0.1])

    def log_density(x):
        squares = jnp.sum((x[:, None] - jnp.asarray(means, jnp.float32)) ** 2, axis=-1)
        return logsumexp(jnp.log(jnp.asarray(weights)) - 0.5 * squares, axis=1)

    def functions(x):
        return np.concatenate([x, x**2, x[..., :1] * x[..., 1:]], axis=-1)

    first, second = weights @ means, 1 + weights @ means**2
    product = weights @ (means[:, 0] * means[:, 1])
    return Target(log_density, 2, functions, np.array([*first, *second, product]))


def tilted(f: Callable) -> Target:
    """A standard normal in the plane, tilted by `f`; the truth by quadrature."""

    def log_density(x):
        return f(x) - 0.5 * jnp.sum(x**2, axis=-1)

    def functions(x):
        return np.concatenate([x, x**2, np.asarray(f(x))[..., None]], axis=-1)

    axis = np.linspace(-7, 7, 561)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.exp(np.asarray(log_density(jnp.asarray(grid)), np.float64))
    truth = (weights / weights.sum()) @ functions(grid)
    return Target(log_density, 2, functions, truth)


def wave(x):
    """A tilt with several bumps."""
    return 2.0 * jnp.sin(2 * x[..., 0]) + jnp.cos(3 * x[..., 1]) * x[..., 0]


def worst_error(target: Target, draws: np.ndarray) -> float:
    """The largest deviation from the truth, in standard errors; draws `[chains, draws, dim]`."""
    means = target.functions(np.asarray(draws, np.float64)).mean(axis=1)  # [chains, functions]
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return float(np.max(np.abs(means.mean(axis=0) - target.truth) / error))


def check_target(target: Target, draws: np.ndarray) -> None:
    """Fails if any mean is further from the truth than chance allows."""
    worst = worst_error(target, draws)
    assert worst < STANDARD_ERRORS, f"{worst:.1f} standard errors from the truth"
