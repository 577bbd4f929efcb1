"""Units of columns whose tails are powers: a histogram between them, exact Pareto tails beyond."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from tiltflow.backbones.units.bijections import Units, bin_of, bins_at, normal_at, part_at
from tiltflow.backbones.units.places import at_most

SMALL = -60.0  # logs of masses below which float32's own masses are too small to look at
LARGEST = 80.0  # of shape times the log of a share: beyond it float32 has no such values
HALF_LOG_2PI = 0.9189385332046727


class HeavyTailed(Units):
    """As `Histogram`, but that a column may have a power tail on either side (`tails.py`).

    Between the outermost edges F is piecewise linear. Beyond them, where a tail has a shape s > 0,
    1 - F(u + e) = mass (1 + s e / scale)^(-1 / s), and y = Phi^-1(F) is a bijection onto what is
    left of R; its slope follows from the two densities, exactly. Where the shape is 0, y goes on
    linearly. Masses of tails are kept as logarithms, for they go far below float32's least.
    """

    edges: Float[Array, "dim bins+1"]
    below: Float[Array, "dim bins"]  # mass below a bin
    above: Float[Array, "dim bins"]  # mass above a bin
    mass: Float[Array, "dim bins"]  # mass in a bin
    shape: Float[Array, "dim 2"]  # of the lower and the upper tail; 0: it is normal
    scale: Float[Array, "dim 2"]
    data_shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def levels(self) -> int:
        """The number of bins of a column."""
        return self.mass.shape[-1]

    def _tail(self, upper: Array) -> tuple[Array, Array, Array]:
        """Shape, scale and log-mass of each column's tail: the upper one, or the lower."""
        shape, scale = (jnp.where(upper, of[:, 1], of[:, 0]) for of in (self.shape, self.scale))
        mass = jnp.where(upper, self.above[:, -1], self.below[:, 0])
        return shape, scale, jnp.log(mass)

    def encode_and_log_det(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Data to coordinates, and log|det dy/dx|."""
        x = x.ravel()
        inside = jnp.clip(x, self.edges[:, 0], self.edges[:, -1])
        level = at_most(self.edges[:, 1:-1], inside)
        below, above, mass, low, width = bins_at(self, level)
        y = normal_at(jnp.clip((inside - low) / width, 0.0, 1.0), below, above, mass)
        log_slope = jnp.log(mass) - jnp.log(width) - norm.logpdf(y)
        linear = y + (x - inside) * jnp.exp(log_slope)
        shape, scale, log_mass = self._tail(x > inside)
        power = (shape > 0) & (x != inside)
        shape = jnp.where(shape > 0, shape, 1.0)
        grown = jnp.log1p(shape * jnp.where(power, jnp.abs(x - inside), 0.0) / scale)
        out = normal_of_log(log_mass - grown / shape)  # below 0; of the upper tail, mirrored
        log_power = log_mass - jnp.log(scale) - (1 + 1 / shape) * grown - norm.logpdf(out)
        beyond = jnp.where(x > inside, -out, out)
        return (
            jnp.where(power, beyond, linear),
            jnp.sum(jnp.where(power, log_power, log_slope)),
        )

    def decode(self, y: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Coordinates to data."""
        first, last = ndtri(self.below[:, 0]), -ndtri(self.above[:, -1])
        inside = jnp.clip(y, first, last)
        level = bin_of(inside, self.below, self.above)
        below, above, mass, low, width = bins_at(self, level)
        x = low + width * part_at(inside, below, above, mass)
        linear = x + (y - inside) * jnp.exp(norm.logpdf(inside)) * width / mass
        shape, scale, log_mass = self._tail(y > last)
        power = (shape > 0) & (y != inside)
        shape = jnp.where(shape > 0, shape, 1.0)
        log_share = log_ndtr(-jnp.where(power, jnp.abs(y), 0.0)) - log_mass
        away = scale * jnp.expm1(jnp.clip(-shape * log_share, 0.0, LARGEST)) / shape
        edge = jnp.where(y > last, self.edges[:, -1], self.edges[:, 0])
        far = edge + jnp.where(y > last, away, -away)
        return jnp.where(power, far, linear).reshape(self.data_shape)


@jax.custom_jvp
def normal_of_log(log_p: Float[Array, "..."]) -> Float[Array, "..."]:
    """The y with log Phi(y) = `log_p`, for masses of any size below one half.

    By Newton's rule on Phi's asymptotic series, where float32 has no such mass.
    """
    near = ndtri(jnp.exp(jnp.maximum(log_p, SMALL)))
    far = jnp.minimum(log_p, SMALL)
    t = jnp.sqrt(-2 * far)
    y = -jnp.sqrt(t**2 - 2 * (jnp.log(t) + HALF_LOG_2PI))
    for _ in range(3):
        mills = _mills(y)
        y = y - (jnp.log(mills) - 0.5 * y**2 - HALF_LOG_2PI - far) * mills
    return jnp.where(log_p > SMALL, near, y)


def _mills(y: Array) -> Array:
    """Phi(y) over its density, for y below -10 (Abramowitz and Stegun 1964, 26.2.12)."""
    z = 1 / y**2
    return -(1 - z * (1 - z * (3 - z * (15 - z * 105)))) / y


@normal_of_log.defjvp
def _of_log(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (log_p,), (rate,) = primals, tangents
    y = normal_of_log(log_p)
    return y, jnp.exp(log_p - norm.logpdf(y)) * rate
