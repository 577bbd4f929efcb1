"""A variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114) as a generator.

It is a `Generator` with networks: this is how one is made, before it is learned
(`learning/fit_vae.py`).
"""

from dataclasses import dataclass

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones.generator import Generator
from tiltflow.backbones.networks import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
)
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError, at_least_one

NETWORKS = ("conv", "mlp")


@dataclass(frozen=True)
class VAESizes:
    """The networks of a variational autoencoder.

    Attributes:
        network: `"mlp"`, or `"conv"` for images with sides divisible by 4.
        z_dim: size of z.
        width: of the hidden layers.
        channels: of the first convolution; the second has twice as many.
        noise: sigma at the start, in coordinates.
        floor: sigma's least value, in coordinates.
        scalar_noise: whether all outputs share one sigma.
    """

    network: str = "mlp"
    z_dim: int = 16
    width: int = 512
    channels: int = 16
    noise: float = 0.3
    floor: float = 0.02
    scalar_noise: bool = False

    def check(self) -> None:
        """Raises InputError for the first size that cannot be."""
        at_least_one(self, "z_dim", "width", "channels")
        if self.network not in NETWORKS:
            raise InputError(f"network {self.network!r}; expected one of {', '.join(NETWORKS)}")


def make_vae(units: Units, sizes: VAESizes, *, key: PRNGKeyArray) -> Generator:
    """The generator over `units`, its weights drawn.

    Raises:
        InputError: sizes that cannot be, or convolutions for data that are no images.
    """
    sizes.check()
    encoder_key, decoder_key = jr.split(key)
    shape, z_dim, width = units.data_shape, sizes.z_dim, sizes.width
    dim = int(np.prod(shape))
    if sizes.network == "conv":
        encoder = ConvEncoder(shape, z_dim, width, sizes.channels, key=encoder_key)
        decoder = ConvDecoder(shape, z_dim, width, sizes.channels, key=decoder_key)
    else:
        encoder = MLPEncoder(dim, z_dim, width, key=encoder_key)
        decoder = MLPDecoder(dim, z_dim, width, key=decoder_key)
    noise = np.full(() if sizes.scalar_noise else (dim,), sizes.noise)  # no part of a program
    return Generator(units, decoder, encoder, z_dim=z_dim, noise=noise, floor=sizes.floor)
