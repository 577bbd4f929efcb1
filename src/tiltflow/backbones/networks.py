"""The networks of a variational autoencoder: data's coordinates to a normal of z, z to their mean.

Perceptrons for tables; strided convolutions (and their transposes) for images whose sides are
divisible by four. Activations are smooth, so that leapfrog keeps its order behind a decoder.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

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
    """Two strided convolutions and a hidden layer."""

    convolutions: tuple[eqx.nn.Conv2d, ...]
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
        colours, height, width_of = self.shape
        keys = jr.split(key, 3)
        self.convolutions = (
            eqx.nn.Conv2d(colours, channels, 4, stride=2, padding=1, key=keys[0]),
            eqx.nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, key=keys[1]),
        )
        features = 2 * channels * (height // 4) * (width_of // 4)
        self.layers = _linears((features, width, 2 * z_dim), keys[2])

    def __call__(self, y: Float[Array, " dim"]) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean and log standard deviation of z."""
        colours, height, width = self.shape
        image = y.reshape(height, width, colours).transpose(2, 0, 1)
        for convolution in self.convolutions:
            image = jax.nn.silu(convolution(image))
        return _as_normal(_perceptron(self.layers, image.ravel()))


class ConvDecoder(eqx.Module):
    """The encoder backwards."""

    layers: tuple[eqx.nn.Linear, ...]
    convolutions: tuple[eqx.nn.ConvTranspose2d, ...]
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
        colours, height, width_of = self.shape
        keys = jr.split(key, 3)
        features = 2 * channels * (height // 4) * (width_of // 4)
        self.layers = _linears((z_dim, width, features), keys[0])
        self.convolutions = (
            eqx.nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1, key=keys[1]),
            eqx.nn.ConvTranspose2d(channels, colours, 4, stride=2, padding=1, key=keys[2]),
        )

    def __call__(self, z: Float[Array, " z"]) -> Float[Array, " dim"]:
        """The mean of the data's coordinates."""
        _, height, width = self.shape
        hidden = jax.nn.silu(_perceptron(self.layers, z))
        image = hidden.reshape(-1, height // 4, width // 4)
        first, second = self.convolutions
        image = second(jax.nn.silu(first(image)))
        return image.transpose(1, 2, 0).ravel()


def image_shape(data_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Colours, height and width; raises InputError for what the convolutions cannot halve twice."""
    shape = (*data_shape, 1) if len(data_shape) == 2 else data_shape
    if len(shape) != 3 or shape[0] % 4 or shape[1] % 4:
        raise InputError(
            f"data of shape {data_shape}; expected images with sides divisible by 4: use the "
            f"perceptron (network 'mlp')"
        )
    return shape[2], shape[0], shape[1]


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
