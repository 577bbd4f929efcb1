"""The networks of a variational autoencoder: data's coordinates to a normal of z, z to their mean.

Perceptrons for tables; convolutions for images whose sides are divisible by four: squares of 2 x 2
pixels go to channels before each, or come from them after it. Activations are smooth, so that
leapfrog keeps its order behind a decoder.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.convolution import Convolution, squeeze, unsqueeze
from tiltflow.errors import InputError

SMALLEST_LOG_SCALE = -7.0  # of the encoder, softly


class MLPEncoder(eqx.Module):
    """Two hidden layers."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, dim: int, z_dim: int, width: int, *, key: PRNGKeyArray) -> None:
        """`[dim]` to mean and log standard deviation, `[z_dim]` each."""
        self.layers = _linears((dim, width, width, 2 * z_dim), key)

    def __call__(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean and log standard deviation of z."""
        return _as_normal(_perceptron(self.layers, y))


class MLPDecoder(eqx.Module):
    """Two hidden layers."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, dim: int, z_dim: int, width: int, *, key: PRNGKeyArray) -> None:
        """`[z_dim]` to `[dim]`."""
        self.layers = _linears((z_dim, width, width, dim), key)

    def __call__(self, z: Float[Array, " z"]) -> Float[Array, " dim"]:
        """The mean of the data's coordinates."""
        return _perceptron(self.layers, z)


class ConvEncoder(eqx.Module):
    """Two convolutions, each of half the sides, and a hidden layer."""

    convolutions: tuple[Convolution, Convolution]
    layers: tuple[eqx.nn.Linear, ...]
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        data_shape: tuple[int, ...],
        z_dim: int,
        width: int,
        channels: int,
        *,
        key: PRNGKeyArray,
    ) -> None:
        """Images `data_shape`, height first, colours last if there are any."""
        self.shape = image_shape(data_shape)
        height, width_of, colours = self.shape
        keys = jr.split(key, 3)
        self.convolutions = (
            Convolution(4 * colours, channels, key=keys[0]),
            Convolution(4 * channels, 2 * channels, key=keys[1]),
        )
        features = 2 * channels * (height // 4) * (width_of // 4)
        self.layers = _linears((features, width, 2 * z_dim), keys[2])

    def __call__(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean and log standard deviation of z."""
        image = y.reshape(self.shape)
        for convolution in self.convolutions:
            image = jax.nn.silu(convolution(squeeze(image)))
        return _as_normal(_perceptron(self.layers, image.ravel()))


class ConvDecoder(eqx.Module):
    """The encoder backwards."""

    layers: tuple[eqx.nn.Linear, ...]
    convolutions: tuple[Convolution, Convolution]
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        data_shape: tuple[int, ...],
        z_dim: int,
        width: int,
        channels: int,
        *,
        key: PRNGKeyArray,
    ) -> None:
        """`[z_dim]` to the coordinates of images `data_shape`."""
        self.shape = image_shape(data_shape)
        height, width_of, colours = self.shape
        keys = jr.split(key, 3)
        features = 2 * channels * (height // 4) * (width_of // 4)
        self.layers = _linears((z_dim, width, features), keys[0])
        self.convolutions = (
            Convolution(2 * channels, 4 * channels, key=keys[1]),
            Convolution(channels, 4 * colours, key=keys[2]),
        )

    def __call__(self, z: Float[Array, " z"]) -> Float[Array, " dim"]:
        """The mean of the data's coordinates."""
        height, width, _ = self.shape
        first, second = self.convolutions
        image = jax.nn.silu(_perceptron(self.layers, z)).reshape(height // 4, width // 4, -1)
        return unsqueeze(second(jax.nn.silu(unsqueeze(first(image))))).ravel()


def image_shape(data_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and colours; raises InputError for what the convolutions cannot halve twice."""
    shape = (*data_shape, 1) if len(data_shape) == 2 else data_shape
    if len(shape) != 3 or shape[0] % 4 or shape[1] % 4:
        raise InputError(
            f"data of shape {data_shape}; expected images with sides divisible by 4: use the "
            f"perceptron (network 'mlp')"
        )
    return shape[0], shape[1], shape[2]


def _as_normal(out: Float[Array, " two_z"]) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
    """Mean and log standard deviation, the latter softly above its least value."""
    mean, log_scale = jnp.split(out, 2)
    return mean, SMALLEST_LOG_SCALE + jax.nn.softplus(log_scale - SMALLEST_LOG_SCALE)


def _linears(sizes: tuple[int, ...], key: PRNGKeyArray) -> tuple[eqx.nn.Linear, ...]:
    """Layers between `sizes`, weights normal with variance 1 / inputs, biases zero."""
    layers = []
    for inputs, outputs, k in zip(sizes[:-1], sizes[1:], jr.split(key, len(sizes)), strict=False):
        layer = eqx.nn.Linear(inputs, outputs, key=k)
        weight = jr.normal(k, layer.weight.shape) / math.sqrt(inputs)
        replaced = (weight, jnp.zeros(outputs))
        layers.append(eqx.tree_at(lambda lin: (lin.weight, lin.bias), layer, replaced))
    return tuple(layers)


def _perceptron(layers: tuple[eqx.nn.Linear, ...], value: Array) -> Array:
    for layer in layers[:-1]:
        value = jax.nn.silu(layer(value))
    return layers[-1](value)
