"""What a Glow is made of (Kingma and Dhariwal 2018, arXiv 1807.03039, section 3), tame for MCMC.

A step towards noise is a normalisation of the activations, a mixing of the channels, and an
affine coupling. As in `coupling.py` networks read bounded inputs and log-scales are bounded, so
that the map has linear tails, and activations are smooth.

All functions take images with any leading axes, `[*batch, height, width, channels]`, and return
log-determinants `[*batch]`. The log-determinant is that of the way towards noise.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.linalg import lu, solve_triangular
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.backbones.convolution import Convolution, pointwise

INPUT_BOUND = 3.0
LARGEST_LOG_SCALE = 2.0
TRIMMED = 0.01  # of the values on either side, before moments are taken
SMALLEST_SCALE = 0.05  # that activations are divided by at the start

Image = Float[Array, "*batch height width channels"]


class Normalisation(eqx.Module):
    """Activation normalisation: a shift and a scale for each channel (section 3.1)."""

    shift: Float[Array, " channels"]
    log_scale: Float[Array, " channels"]

    def __init__(self, channels: int) -> None:
        """The identity."""
        self.shift = jnp.zeros(channels)
        self.log_scale = jnp.zeros(channels)

    def forward(self, z: Image) -> Image:
        """Towards data."""
        return z * jnp.exp(self.log_scale) + self.shift

    def inverse(self, z: Image) -> tuple[Image, Float[Array, ""]]:
        """Towards noise."""
        log_det = -z.shape[-3] * z.shape[-2] * jnp.sum(self.log_scale)
        return (z - self.shift) * jnp.exp(-self.log_scale), log_det

    def initialised(self, z: Float[Array, "rows height width channels"]) -> "Normalisation":
        """One that gives every channel of `z` mean 0 and standard deviation 1.

        Both are taken of values held between their percentiles 1 and 99, so that a few wild ones
        do not decide, and no scale is below 0.05, so that a channel which hardly varies is not
        blown up.
        """
        values = z.reshape(-1, z.shape[-1])
        low, high = jnp.quantile(values, jnp.asarray([TRIMMED, 1 - TRIMMED]), axis=0)
        values = jnp.clip(values, low, high)
        log_scale = jnp.log(jnp.maximum(jnp.std(values, axis=0), SMALLEST_SCALE))
        shift = jnp.mean(values, axis=0)
        return eqx.tree_at(lambda n: (n.shift, n.log_scale), self, (shift, log_scale))


class Mixing(eqx.Module):
    """An invertible 1 x 1 convolution by its PLU decomposition (section 3.2, eq. 10).

    Towards noise each pixel's channels z become W z, W = P L (U + diag(s)).

    Attributes:
        order: of the rows of L (U + diag(s)) in W, which is P.
        lower, upper: the triangles are used, without their diagonals.
        log_diagonal: log |s|.
        sign: of s, kept.
    """

    order: Int[Array, " channels"]
    sign: Int[Array, " channels"]
    lower: Float[Array, "channels channels"]
    upper: Float[Array, "channels channels"]
    log_diagonal: Float[Array, " channels"]

    def __init__(self, channels: int, *, key: PRNGKeyArray) -> None:
        """A random rotation."""
        rotation, _ = jnp.linalg.qr(jr.normal(key, (channels, channels)))
        permutation, self.lower, self.upper = lu(rotation)
        self.order = jnp.argmax(permutation, axis=1).astype(jnp.int32)
        diagonal = jnp.diag(self.upper)
        self.sign = jnp.where(diagonal < 0, -1, 1).astype(jnp.int32)
        self.log_diagonal = jnp.log(jnp.abs(diagonal))

    def _triangles(self) -> tuple[Array, Array]:
        unit = jnp.eye(len(self.order), dtype=self.lower.dtype)
        diagonal = self.sign * jnp.exp(self.log_diagonal)
        return jnp.tril(self.lower, -1) + unit, jnp.triu(self.upper, 1) + diagonal * unit

    def forward(self, z: Image) -> Image:
        """Towards data."""
        lower, upper = self._triangles()
        unordered = jnp.eye(len(self.order), dtype=z.dtype)[self.order].T
        solved = solve_triangular(lower, unordered, lower=True, unit_diagonal=True)
        return _mixed(z, solve_triangular(upper, solved))

    def inverse(self, z: Image) -> tuple[Image, Float[Array, ""]]:
        """Towards noise."""
        lower, upper = self._triangles()
        matrix = jnp.matmul(lower, upper, precision=jax.lax.Precision.HIGHEST)[self.order]
        return _mixed(z, matrix), z.shape[-3] * z.shape[-2] * jnp.sum(self.log_diagonal)


def _mixed(z: Image, matrix: Float[Array, "channels channels"]) -> Image:
    """`matrix` times every pixel; all digits count in a density."""
    with jax.default_matmul_precision("highest"):
        return pointwise(z, matrix.T)


class Conditioner(eqx.Module):
    """The network of a coupling: 3 x 3, 1 x 1 and 3 x 3 convolutions, kept half to the moved one.

    Attributes:
        first, last: the outer convolutions.
        middle: `[width, width]`, the inner one; its bias is zero.
        places: `[height, width, hidden]`, a bias for each pixel: things have their places in
            images that are centred, as faces, digits and shoes are.
    """

    first: Convolution
    middle: eqx.nn.Linear
    last: Convolution
    places: Float[Array, "height width hidden"]
    precision: str = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        moved: int,
        hidden: int,
        precision: str,
        *,
        key: PRNGKeyArray,
    ) -> None:
        """From images of `shape` to log-scale and shift of `moved` channels, zero at the start."""
        height, width, kept = shape
        first_key, middle_key, last_key = jr.split(key, 3)
        self.first = Convolution(kept, hidden, key=first_key)
        self.middle = eqx.nn.Linear(hidden, hidden, key=middle_key)
        last = Convolution(hidden, 2 * moved, key=last_key)
        self.last = jax.tree.map(jnp.zeros_like, last)
        self.places = jnp.zeros((height, width, hidden))
        self.precision = precision

    def __call__(self, kept: Image) -> tuple[Image, Image]:
        """Log-scale, in (-2, 2), and shift, both in the precision of `kept`."""
        dtype = jnp.dtype(self.precision)
        x = (INPUT_BOUND * jnp.tanh(kept / INPUT_BOUND)).astype(dtype)
        x = _silu(self.first(x) + self.places.astype(dtype))
        matrix, bias = self.middle.weight.T.astype(dtype), self.middle.bias
        assert bias is not None
        x = _silu(pointwise(x, matrix) + bias.astype(dtype))
        log_scale, shift = jnp.split(self.last(x).astype(kept.dtype), 2, axis=-1)
        return LARGEST_LOG_SCALE * jnp.tanh(log_scale / LARGEST_LOG_SCALE), shift


def _silu(x: Array) -> Array:
    """x sigmoid(x), by tanh: cheaper on a CPU."""
    return 0.5 * x * (1 + jnp.tanh(0.5 * x))


class Coupling(eqx.Module):
    """The second half of the channels, scaled and shifted given the first (section 3.3).

    A split is a coupling, too: what it has moved towards noise stays behind as noise, normal
    given what goes on, and standard normal on its own.
    """

    conditioner: Conditioner

    def __init__(
        self,
        shape: tuple[int, int, int],
        hidden: int,
        precision: str,
        *,
        key: PRNGKeyArray,
    ) -> None:
        """A coupling of images of `shape`: height, width and an even number of channels."""
        height, width, channels = shape
        half = channels // 2
        self.conditioner = Conditioner((height, width, half), half, hidden, precision, key=key)

    def forward(self, z: Image) -> Image:
        """Towards data."""
        kept, moved = jnp.split(z, 2, axis=-1)
        log_scale, shift = self.conditioner(kept)
        return jnp.concatenate([kept, moved * jnp.exp(log_scale) + shift], axis=-1)

    def inverse(self, z: Image) -> tuple[Image, Float[Array, " *batch"]]:
        """Towards noise."""
        kept, moved = jnp.split(z, 2, axis=-1)
        log_scale, shift = self.conditioner(kept)
        moved = (moved - shift) * jnp.exp(-log_scale)
        return jnp.concatenate([kept, moved], axis=-1), -jnp.sum(log_scale, axis=(-3, -2, -1))


class Step(eqx.Module):
    """Normalisation, mixing and coupling, in this order towards noise."""

    normalisation: Normalisation
    mixing: Mixing
    coupling: Coupling

    def __init__(
        self,
        shape: tuple[int, int, int],
        hidden: int,
        precision: str,
        *,
        key: PRNGKeyArray,
    ) -> None:
        """A step on images of `shape`: height, width and an even number of channels."""
        mixing_key, coupling_key = jr.split(key)
        self.normalisation = Normalisation(shape[-1])
        self.mixing = Mixing(shape[-1], key=mixing_key)
        self.coupling = Coupling(shape, hidden, precision, key=coupling_key)

    def forward(self, z: Image) -> Image:
        """Towards data."""
        return self.normalisation.forward(self.mixing.forward(self.coupling.forward(z)))

    def inverse(self, z: Image) -> tuple[Image, Float[Array, " *batch"]]:
        """Towards noise."""
        z, normalised = self.normalisation.inverse(z)
        z, mixed = self.mixing.inverse(z)
        z, coupled = self.coupling.inverse(z)
        return z, normalised + mixed + coupled
