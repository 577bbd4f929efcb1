"""Probabilistic PCA with a quadratic tilt: log Z, log p(x) and all moments in closed form.

    z ~ N(0, I),   x = weight z + shift + sigma eps,   c = [z, x] ~ N(m, S)
    f(c) = a.c - c' B c / 2:   p(c) is normal with precision S^-1 + B

(Tipping and Bishop 1999, "Probabilistic principal component analysis", equations 2 to 5).
"""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from tiltflow.backbones import Generator
from tiltflow.tilts import Tilt

WEIGHT = np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -0.6]])
SHIFT = np.array([0.5, -1.0, 2.0])
SIGMA = np.array([0.4, 0.6, 0.5])
Z, X = 2, 3


class Quadratic(Tilt):
    """f(c) = a.c - c' B c / 2."""

    a: jnp.ndarray
    b: jnp.ndarray
    level: jnp.ndarray

    def __call__(self, c, key=None):
        return self.a @ c - 0.5 * c @ self.b @ c - self.level


class Encoder(eqx.Module):
    """The posterior of z with its correlations left out, and a little too wide."""

    gain: jnp.ndarray
    shift: jnp.ndarray
    log_scale: jnp.ndarray

    def __call__(self, y):
        return self.gain @ (y - self.shift), self.log_scale


def linear(z):
    return jnp.asarray(WEIGHT, z.dtype) @ z + jnp.asarray(SHIFT, z.dtype)


def generator(wider=0.1) -> Generator:
    precision = np.eye(Z) + WEIGHT.T @ (WEIGHT / SIGMA[:, None] ** 2)
    gain = np.linalg.solve(precision, WEIGHT.T / SIGMA**2)
    log_scale = -0.5 * np.log(np.diag(precision)) + wider
    arrays = [jnp.asarray(a, jnp.float32) for a in (gain, SHIFT, log_scale)]
    return Generator.from_function(linear, (Z,), noise=SIGMA, encoder=Encoder(*arrays))


@dataclass(frozen=True)
class Case:
    """A tilt of z, of x or of both, and what follows from it."""

    a: np.ndarray
    b: np.ndarray

    @property
    def tilt(self) -> Quadratic:
        return Quadratic(*(jnp.asarray(v, jnp.float32) for v in (self.a, self.b, 0.0)))

    def of(self, part: slice) -> Quadratic:
        """The same tilt as a function of a part of the coordinates."""
        arrays = self.a[part], self.b[part, part], 0.0
        return Quadratic(*(jnp.asarray(v, jnp.float32) for v in arrays))

    @property
    def backbone(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of c under q."""
        mean = np.concatenate([np.zeros(Z), SHIFT])
        lower = np.block([[np.eye(Z), np.zeros((Z, X))], [WEIGHT, np.diag(SIGMA)]])
        return mean, lower @ lower.T

    @property
    def tilted(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of c under p."""
        mean, covariance = self.backbone
        precision = np.linalg.inv(covariance)
        new = np.linalg.inv(precision + self.b)
        return new @ (precision @ mean + self.a), new

    @property
    def log_z(self) -> float:
        mean, covariance = self.backbone
        new_mean, new = self.tilted
        squares = new_mean @ np.linalg.solve(new, new_mean)
        squares -= mean @ np.linalg.solve(covariance, mean)
        return 0.5 * float(squares + np.linalg.slogdet(new)[1] - np.linalg.slogdet(covariance)[1])

    def log_p(self, x: np.ndarray) -> np.ndarray:
        """Log p(x) of `[rows, 3]`."""
        mean, covariance = self.tilted
        return log_normal(x, mean[Z:], covariance[Z:, Z:])

    def log_q(self, x: np.ndarray) -> np.ndarray:
        mean, covariance = self.backbone
        return log_normal(x, mean[Z:], covariance[Z:, Z:])


def log_normal(x, mean, covariance):
    away = x - mean
    squares = np.sum(away * np.linalg.solve(covariance, away.T).T, axis=1)
    return -0.5 * (squares + np.linalg.slogdet(covariance)[1] + len(mean) * np.log(2 * np.pi))


def case(name: str) -> Case:
    """`"z"`, `"x"` or `"both"`."""
    rng = np.random.default_rng(3)
    a = 0.8 * rng.normal(size=Z + X)
    root = 0.5 * rng.normal(size=(Z + X, Z + X))
    reads = {"z": [1] * Z + [0] * X, "x": [0] * Z + [1] * X, "both": [1] * (Z + X)}[name]
    mask = np.asarray(reads, float)
    return Case(a * mask, mask[:, None] * (root @ root.T) * mask)


CASES = ("z", "x", "both")
