"""Rising maps of a coordinate: an affine map and a rational-quadratic spline, by raw parameters.

Durkan et al. 2019 (arXiv 1906.04032), eq. 4 to 8. At parameters of zero they are the identity.
Log-scales are bounded and splines end in straight lines, so that tails are those of the base.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BINS = 8
BOUND = 4.0  # beyond it the spline is the identity
LEAST = 1e-3  # width and height of a bin, as shares, and slope at a knot
SCALE_BOUND = 3.0
OUTPUTS = 2 + 3 * BINS - 1


class _Knots(eqx.Module):
    """Where a spline goes through: `[BINS + 1]` places on either axis, and slopes there."""

    data: Array
    base: Array
    slopes: Array


def _parameters(raw: Float[Array, " outputs"]) -> tuple[Array, Array, _Knots]:
    """Log-scale, shift and spline of one coordinate."""
    log_scale, shift = SCALE_BOUND * jnp.tanh(raw[0] / SCALE_BOUND), raw[1]
    widths, heights, slopes = jnp.split(raw[2:], [BINS, 2 * BINS])
    data, base = (
        jnp.concatenate([jnp.array([-BOUND]), -BOUND + 2 * BOUND * jnp.cumsum(shares)])
        for shares in (
            LEAST + (1 - LEAST * BINS) * jax.nn.softmax(raw) for raw in (widths, heights)
        )
    )
    # At zero a softplus of this is 1: the identity.
    inner = LEAST + jax.nn.softplus(slopes + math.log(math.expm1(1 - LEAST)))
    one = jnp.ones(1)
    return log_scale, shift, _Knots(data, base, jnp.concatenate([one, inner, one]))


def backward(y: Array, raw: Float[Array, " outputs"]) -> tuple[Array, Array]:
    """A coordinate to its base, and the log of the slope of that."""
    log_scale, shift, knots = _parameters(raw)
    x = (y - shift) * jnp.exp(-log_scale)
    inside = jnp.clip(x, -BOUND, BOUND)
    k = jnp.clip(jnp.sum(inside >= knots.data[1:-1]), 0, BINS - 1)
    low, high, below, above, first, second = _bin(knots, k)
    share = (inside - low) / (high - low)
    chord = (above - below) / (high - low)
    between = share * (1 - share)
    bottom = chord + (first + second - 2 * chord) * between
    value = below + (above - below) * (chord * share**2 + first * between) / bottom
    top = second * share**2 + 2 * chord * between + first * (1 - share) ** 2
    log_slope = 2 * jnp.log(chord) + jnp.log(top) - 2 * jnp.log(bottom)
    is_inside = x == inside
    z = jnp.where(is_inside, value, x)
    return z, jnp.where(is_inside, log_slope, 0.0) - log_scale


def forward(z: Array, raw: Float[Array, " outputs"]) -> Array:
    """The inverse of `backward`: a root of a quadratic (Durkan et al. 2019, eq. 6 to 8)."""
    log_scale, shift, knots = _parameters(raw)
    inside = jnp.clip(z, -BOUND, BOUND)
    k = jnp.clip(jnp.sum(inside >= knots.base[1:-1]), 0, BINS - 1)
    low, high, below, above, first, second = _bin(knots, k)
    chord, risen = (above - below) / (high - low), inside - below
    bent = first + second - 2 * chord
    a = (above - below) * (chord - first) + risen * bent
    b = (above - below) * first - risen * bent
    c = -chord * risen
    root = jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0.0))
    x = low + (high - low) * 2 * c / (-b - root)
    return jnp.where(z == inside, x, z) * jnp.exp(log_scale) + shift


def _bin(knots: _Knots, k: Array) -> tuple[Array, ...]:
    """Ends of bin `k` on either axis, and the slopes there."""
    ends = (knots.data, knots.base, knots.slopes)
    return tuple(values[i] for values in ends for i in (k, k + 1))
