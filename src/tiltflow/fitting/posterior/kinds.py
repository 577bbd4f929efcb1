"""Kinds of parameters: where a value may lie, and the smooth map from free numbers to it.

A kind leads from unconstrained numbers u to a value, and says by how much the density of u differs
from that of the value: log p(u) = log p(value) + log_weight(u). For all kinds but `Angle` the
weight is the log-determinant of the map.
"""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError


@dataclass(frozen=True, init=False)
class Kind(abc.ABC):
    """Where a parameter may lie.

    Attributes:
        shape: of a value.
    """

    shape: tuple[int, ...]
    where: ClassVar[str]
    """The values allowed, in words."""

    def __init__(self, *shape: int) -> None:
        """A parameter of this shape; a scalar by default.

        Raises:
            InputError: a size that is no positive integer.
        """
        object.__setattr__(self, "shape", _checked_shape(type(self).__name__, shape))

    @property
    def size(self) -> int:
        """How many free numbers make a value."""
        return math.prod(self.shape)

    @abc.abstractmethod
    def natural(self, u: Float[Array, " size"]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
        """The value, and the log-weight in nats."""

    @abc.abstractmethod
    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Values `[n, *shape]` to free numbers `[n, size]`; `rng` where many lead there."""

    @abc.abstractmethod
    def inside(self, values: np.ndarray) -> np.ndarray:
        """Whether each of `[n, *shape]` is allowed and not on the edge: `[n]`."""

    def edge(self, values: np.ndarray) -> np.ndarray:
        """How near each number of `[n, ...]` is to a bound, as a share of the range; inf: none."""
        return np.full(values.shape, np.inf)


class Real(Kind):
    """Any real number."""

    where = "finite numbers"

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """The number itself."""
        return u.reshape(self.shape), jnp.zeros((), u.dtype)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same numbers in a row."""
        return values.reshape(len(values), -1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Finite ones."""
        return _all(np.isfinite(values))


class Positive(Kind):
    """A number above 0: the exponential of a free one."""

    where = "numbers above 0"

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """exp(u), whose log-determinant is u."""
        return jnp.exp(u).reshape(self.shape), jnp.sum(u)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The logarithm."""
        return np.log(values).reshape(len(values), -1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Finite and above 0."""
        return _all(np.isfinite(values) & (values > 0))


@dataclass(frozen=True, init=False)
class Interval(Kind):
    """A number between two others.

    Attributes:
        low, high: the bounds.
    """

    low: float
    high: float
    where = "numbers between the bounds"

    def __init__(self, low: float, high: float, *shape: int) -> None:
        """Numbers in (low, high).

        Raises:
            InputError: bounds that are not finite or not in order, or a wrong size.
        """
        super().__init__(*shape)
        numbers = all(isinstance(bound, SupportsFloat) for bound in (low, high))
        if not (numbers and math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(
                f"Interval from {low!r:.40} to {high!r:.40}; expected two finite bounds, the "
                f"lower one first: swap them, or take Positive or Real where there is no bound"
            )
        object.__setattr__(self, "low", float(low))
        object.__setattr__(self, "high", float(high))

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """low + (high - low) / (1 + exp(-u))."""
        value = self.low + (self.high - self.low) * jax.nn.sigmoid(u)
        each = jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u) + math.log(self.high - self.low)
        return value.reshape(self.shape), jnp.sum(each)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The logit."""
        return (np.log(values - self.low) - np.log(self.high - values)).reshape(len(values), -1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Strictly between the bounds."""
        return _all((values > self.low) & (values < self.high))

    def edge(self, values: np.ndarray) -> np.ndarray:
        """The distance to the nearer bound over the width."""
        return np.minimum(values - self.low, self.high - values) / (self.high - self.low)


class Simplex(Kind):
    """Positive numbers along the last axis that sum to 1: `Simplex(3)`, `Simplex(5, 3)`.

    The density is one of the first n - 1 of them (the last is what remains).
    """

    where = "positive numbers that sum to 1 along the last axis"

    def __init__(self, *shape: int) -> None:
        """Shares of this shape; InputError unless the last axis has 2 or more."""
        super().__init__(*shape)
        _at_least_two(self)

    @property
    def size(self) -> int:
        """One less than there are shares."""
        return math.prod(self.shape[:-1]) * (self.shape[-1] - 1)

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """Softmax of (u, 0), whose log-determinant is the sum of all log shares."""
        rows = u.reshape(*self.shape[:-1], -1)
        logs = jax.nn.log_softmax(jnp.concatenate([rows, jnp.zeros_like(rows[..., :1])], -1), -1)
        return jnp.exp(logs), jnp.sum(logs)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Logarithms over that of the last one."""
        return (np.log(values[..., :-1]) - np.log(values[..., -1:])).reshape(len(values), -1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Positive, with a sum of 1 but for rounding."""
        return _all((values > 0).all(axis=-1) & (np.abs(values.sum(axis=-1) - 1) < 1e-4))


class Ordered(Kind):
    """Numbers that grow along the last axis."""

    where = "numbers that grow along the last axis"

    def __init__(self, *shape: int) -> None:
        """Numbers of this shape; InputError unless the last axis has 2 or more."""
        super().__init__(*shape)
        _at_least_two(self)

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """The first, then one exp(u) after the other added."""
        rows = u.reshape(self.shape)
        rises = jnp.concatenate([rows[..., :1], jnp.exp(rows[..., 1:])], axis=-1)
        return jnp.cumsum(rises, axis=-1), jnp.sum(rows[..., 1:])

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The first, and logarithms of the differences."""
        rises = np.log(np.diff(values, axis=-1))
        return np.concatenate([values[..., :1], rises], axis=-1).reshape(len(values), -1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Finite and growing."""
        rise = (np.diff(values, axis=-1) > 0).all(axis=-1)
        return _all(np.asarray(np.isfinite(values).all(axis=-1) & rise))


class Correlation(Kind):
    """A correlation matrix, n x n, positive definite; one only: `Correlation(4)`.

    The density is one of the numbers below the diagonal. Partial correlations tanh(u) build the
    Cholesky factor row by row: Lewandowski, Kurowicka and Joe 2009, "Generating random correlation
    matrices based on vines and extended onion method", section 2.4.
    """

    where = "a positive definite matrix with ones on its diagonal"

    def __init__(self, size: int) -> None:
        """Of so many variables; InputError for fewer than 2."""
        super().__init__(size, size)
        _at_least_two(self)

    @property
    def size(self) -> int:
        """The numbers below the diagonal."""
        return self.shape[0] * (self.shape[0] - 1) // 2

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """The matrix; entry (i, j) of the factor takes tanh(u) of what the row has left."""
        n = self.shape[0]
        rows, columns = np.tril_indices(n, -1)
        partial = jnp.zeros((n, n), u.dtype).at[rows, columns].set(jnp.tanh(u))
        log_left = jnp.zeros((n, n), u.dtype).at[rows, columns].set(_log_one_less_square(u))
        before = jnp.cumsum(log_left, axis=1) - log_left  # of the square of what is left of a row
        left = jnp.exp(0.5 * before)
        factor = jnp.tril(partial * left, -1) + jnp.diag(jnp.diagonal(left))
        # d R_ij / d partial_ij is factor_jj left_ij: rows that are full already count twice.
        log_diagonal = 0.5 * jnp.diagonal(before)
        log_det = log_left[rows, columns] + 0.5 * before[rows, columns] + log_diagonal[columns]
        return factor @ factor.T, jnp.sum(log_det)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Partial correlations, back from the Cholesky factor."""
        n = self.shape[0]
        factor = np.linalg.cholesky(values)
        squares = np.cumsum(factor**2, axis=-1) - factor**2
        rows, columns = np.tril_indices(n, -1)
        return np.arctanh((factor / np.sqrt(np.maximum(1 - squares, 1e-12)))[:, rows, columns])

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Symmetric, with ones on the diagonal, and positive definite."""
        ones = np.abs(np.diagonal(values, axis1=1, axis2=2) - 1) < 1e-4
        even = np.abs(values - np.swapaxes(values, 1, 2)).max(axis=(1, 2)) < 1e-4
        return ones.all(axis=1) & even & (np.linalg.eigvalsh(values).min(axis=1) > 0)


class Angle(Kind):
    """An angle in (-pi, pi], in radians, that goes round: pi and -pi are neighbours.

    Two free numbers make one, as a point in the plane; its radius is a standard Rayleigh variable
    beside the density, of integral 1, so that no wall is put where there is none and the evidence
    stays what it is. An angle about which nothing is known is two standard normal numbers.
    """

    where = "angles in (-pi, pi]"

    @property
    def size(self) -> int:
        """Two an angle."""
        return 2 * math.prod(self.shape)

    def natural(self, u: Float[Array, " size"]) -> tuple[Array, Array]:
        """The direction, and minus half the squared radius."""
        x, y = u.reshape(2, -1)
        return jnp.arctan2(y, x).reshape(self.shape), -0.5 * jnp.sum(u**2)

    def free(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A point in that direction."""
        flat = values.reshape(len(values), -1)
        radius = rng.rayleigh(size=flat.shape)
        return np.concatenate([radius * np.cos(flat), radius * np.sin(flat)], axis=1)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Between -pi and pi."""
        return _all(np.abs(values) <= math.pi + 1e-6)


def _log_one_less_square(u: Array) -> Array:
    """log(1 - tanh(u)^2), without cancellation."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def _all(allowed: np.ndarray) -> np.ndarray:
    return np.asarray(np.all(allowed.reshape(len(allowed), -1), axis=1))


def _checked_shape(name: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in shape):
        raise InputError(f"{name} of shape {shape}; expected positive integers, as in {name}(3)")
    return tuple(int(size) for size in shape)


def _at_least_two(kind: Kind) -> None:
    if not kind.shape or kind.shape[-1] < 2:
        name = type(kind).__name__
        raise InputError(f"{name} of shape {kind.shape}; expected 2 or more, as in {name}(3)")
