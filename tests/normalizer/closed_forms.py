"""Tilts of a normal with log Z in closed form, exact draws of p, and chains of known correlation.

    f(u) = level + a.u - u.(b u)/2,  u ~ N(0, I):  p = N(a / (1 + b), 1 / (1 + b))

coordinate by coordinate; a rotation of u would change none of the values of f.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quadratic:
    a: np.ndarray
    b: np.ndarray
    level: float = 0.0

    @property
    def log_z(self) -> float:
        grown = 1.0 + self.b
        return self.level + float(np.sum(self.a**2 / grown - np.log(grown)) / 2)

    def f(self, u):
        """[..., dim] -> [...]."""
        return self.level + u @ self.a - (u * u) @ self.b / 2

    def f_q(self, rng, *shape):
        """f at independent draws of q."""
        return self.f(rng.standard_normal((*shape, len(self.a))))

    def f_p(self, rng, *shape, rho=0.0):
        """f at draws of p, an AR(1) chain of coefficient rho along the last axis of `shape`."""
        noise = rng.standard_normal((*shape, len(self.a)))
        u = noise
        if rho:
            for t in range(1, shape[-1]):
                u[..., t, :] = rho * u[..., t - 1, :] + (1 - rho**2) ** 0.5 * noise[..., t, :]
        return self.f(self.a / (1 + self.b) + u / (1 + self.b) ** 0.5)


def tilt(dim: int, push: float, narrow: float, wide: float = 0.0) -> Quadratic:
    """A shift of total length `push`, curvatures falling from `narrow` to -`wide` (below 1)."""
    a = push * np.ones(dim) / dim**0.5
    return Quadratic(a, np.linspace(narrow, -wide, dim))


def coverage(estimates, truth: float) -> tuple[float, float]:
    """The share of intervals that contain the truth, and the share that hold."""
    inside = [estimate.low <= truth <= estimate.high for estimate in estimates]
    return float(np.mean(inside)), float(np.mean([estimate.holds for estimate in estimates]))


def calibrated(estimates, truth: float) -> bool:
    """The check that twins must fail: 95% intervals cover 91 to 99% of the time, and hold."""
    inside, held = coverage(estimates, truth)
    return 0.91 <= inside <= 0.99 and held >= 0.75
