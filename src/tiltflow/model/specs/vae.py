"""What a tilted variational autoencoder is made of, in plain values."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import jax.random as jr
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Generator, Prior
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.vae import NETWORKS, VAESizes, make_vae
from tiltflow.errors import InputError
from tiltflow.model.specs.of_units import units_kind, units_skeleton
from tiltflow.model.specs.plain import (
    PlainSpec,
    check_flags,
    check_layers,
    check_numbers,
    check_size,
)
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import (
    ConvSizes,
    ConvTilt,
    Frozen,
    MixtureTilt,
    MLPTilt,
    OfData,
    OfLatent,
    Sum,
)


@dataclass(frozen=True)
class VAESpec(PlainSpec):
    """The architecture of a variational autoencoder, tilted in z, or in z and then in x.

    Attributes:
        network, z_dim, width, channels, floor, scalar_noise: as in `VAESizes`.
        components: of a Gaussian mixture over z, the first part of the tilt; 0: there is none.
        tilt_width, tilt_depth, tilt_dropout: of the network that reads z.
        data_width: of the hidden layers of a second tilt, which reads x; 0: there is none, and the
            chains are over z alone.
        data_channels: of its first convolution (`tilts/conv.py`); 0: it is a perceptron.
    """

    network: str = "mlp"
    z_dim: int = 16
    width: int = 512
    channels: int = 16
    floor: float = 0.02
    scalar_noise: bool = False
    components: int = 0
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.0
    data_width: int = 0
    data_channels: int = 0
    kind: ClassVar[str] = "vae"

    def generator(self, units: Units, *, key: PRNGKeyArray) -> Generator:
        """The generator before it is learned."""
        known = {field.name for field in fields(VAESizes)}
        return make_vae(
            units, VAESizes(**{k: v for k, v in asdict(self).items() if k in known}), key=key
        )

    def tilt(self, mixture: MixtureTilt | None = None, *, key: PRNGKeyArray) -> MLPTilt | Sum:
        """The tilt of z before it is learned: f = 0, or that of the `mixture`, which is kept."""
        network = MLPTilt(
            self.z_dim,
            width=self.tilt_width,
            depth=self.tilt_depth,
            dropout=self.tilt_dropout,
            key=key,
        )
        if not self.components:
            return network
        mixture = MixtureTilt.standard(self.components, self.z_dim) if mixture is None else mixture
        return Sum(Frozen(mixture), network)

    def second_tilt(self, first: MLPTilt | Sum, *, key: PRNGKeyArray) -> Sum:
        """The learned tilt of z, kept, and one of x that is zero."""
        if self.data_channels:
            sizes = ConvSizes(channels=self.data_channels, width=self.data_width)
            of_data = ConvTilt(self.data_shape, sizes, key=key)
        else:
            of_data = MLPTilt(self.dim, width=self.data_width, dropout=self.tilt_dropout, key=key)
        return Sum(Frozen(OfLatent(first, self.z_dim)), OfData(of_data, self.z_dim))

    def build(self, units: Units, *, key: PRNGKeyArray) -> TiltedModel:
        """The whole model before anything is learned."""
        generator, tilt = self.generator(units, key=key), self.tilt(key=key)
        if self.data_width:
            return TiltedModel(generator, self.second_tilt(tilt, key=key))
        return TiltedModel(Prior(generator), tilt)

    def skeleton(self) -> TiltedModel:
        """A model of the right shapes and of no particular values, whose noise is a value."""
        units = units_skeleton(self.units, self.data_shape, self.levels)
        return self.build(units, key=jr.key(0))

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        super().check()
        if self.network not in NETWORKS:
            raise InputError(f"network {self.network!r:.100} of a saved model is unknown")
        check_flags(self, "scalar_noise")
        at_least_one = ("z_dim", "width", "channels", "tilt_width", "tilt_depth")
        from_zero = ("levels", "components", "data_width", "data_channels")
        counts = {**dict.fromkeys(from_zero, 0), **dict.fromkeys(at_least_one, 1)}
        check_numbers(self, counts, ("tilt_dropout", "floor"))
        check_layers(self, "tilt_depth")
        widest = max(self.tilt_width, self.z_dim)
        features = self.dim if self.network == "mlp" else self.dim * self.channels // 8
        size = (
            self.parameters_of_units
            + 2 * self.width * (features + self.width + self.z_dim)
            + 72 * self.channels * (2 * self.channels + self.data_shape[-1])
            + self.tilt_depth * self.tilt_width * widest
            + self.components * self.z_dim * (self.z_dim + 1)
            + self.data_width * (self.dim * max(1, self.data_channels) + self.data_width)
            + 9 * 36 * self.data_channels**2
        )
        check_size(size)


def specify_vae(units: Units, sizes: VAESizes, **tilt: Any) -> VAESpec:
    """The specification of a generator of these `sizes` over fitted `units`."""
    kind, levels = units_kind(units)
    plain = {k: v for k, v in asdict(sizes).items() if k != "noise"}
    return VAESpec(kind, units.data_shape, levels, **plain, **tilt)
