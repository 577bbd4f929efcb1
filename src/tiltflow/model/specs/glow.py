"""What a tilted Glow is made of, in plain values."""

from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from jaxtyping import PRNGKeyArray

from tiltflow.backbones.glow import Glow, GlowSizes, checked_scales, image_shape
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError
from tiltflow.model.specs.of_units import units_kind
from tiltflow.model.specs.plain import (
    PlainSpec,
    check_flags,
    check_layers,
    check_numbers,
    check_size,
)
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import ConvSizes, ConvTilt
from tiltflow.tilts.conv import MOST_STAGES


@dataclass(frozen=True)
class GlowSpec(PlainSpec):
    """The architecture of a Glow with a convolutional tilt.

    Attributes:
        scales, steps, width, precision, remat: as in `GlowSizes`.
        tilt_channels, tilt_width, tilt_residual, tilt_spectral, tilt_dropout: as in `ConvSizes`.
    """

    scales: int = 0
    steps: int = 5
    width: int = 64
    precision: str = "float32"
    remat: bool = False
    tilt_channels: int = 16
    tilt_width: int = 128
    tilt_residual: bool = False
    tilt_spectral: float = 0.0
    tilt_dropout: float = 0.0
    kind: ClassVar[str] = "glow"

    @property
    def sizes(self) -> GlowSizes:
        """Those of the flow."""
        return GlowSizes(self.scales, self.steps, self.width, self.precision, self.remat)

    @property
    def tilt_sizes(self) -> ConvSizes:
        """Those of the tilt."""
        prefix = "tilt_"
        return ConvSizes(**{f.name: getattr(self, prefix + f.name) for f in fields(ConvSizes)})

    def flow(self, units: Units, *, key: PRNGKeyArray) -> Glow:
        """The backbone before it has seen data."""
        return Glow(units, self.sizes, key=key)

    def tilt(self, *, key: PRNGKeyArray) -> ConvTilt:
        """The tilt before it is learned: f = 0."""
        return ConvTilt(self.data_shape, self.tilt_sizes, key=key)

    def build(self, units: Units, *, key: PRNGKeyArray) -> TiltedModel:
        """The whole model before anything is learned."""
        return TiltedModel(self.flow(units, key=key), self.tilt(key=key))

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        super().check()
        check_flags(self, "remat", "tilt_residual")
        at_least_one = ("steps", "width", "tilt_channels", "tilt_width")
        counts = {"levels": 0, "scales": 0, **dict.fromkeys(at_least_one, 1)}
        check_numbers(self, counts, ("tilt_dropout",))
        if type(self.tilt_spectral) not in (int, float):
            raise InputError(f"tilt_spectral is {self.tilt_spectral!r:.100}; expected a number")
        check_layers(self, "steps")
        self.sizes.check()
        self.tilt_sizes.check()
        check_size(self._parameters())

    def _parameters(self) -> int:
        """About how many parameters there are, those of the units included."""
        height, width, channels = image_shape(self.data_shape)
        flow, pixels = 0, height * width
        for _ in range(checked_scales(self.data_shape, self.scales)):
            pixels, channels = pixels // 4, 4 * channels
            coupling = self.width * (14 * channels + self.width + pixels)
            flow += (self.steps + 1) * (coupling + 2 * channels**2)
            channels //= 2
        return self.parameters_of_units + flow + self._parameters_of_tilt()

    def _parameters_of_tilt(self) -> int:
        height, width, channels = image_shape(self.data_shape)
        tilt, outputs = 0, self.tilt_channels
        for _ in range(MOST_STAGES):
            if height % 2 or width % 2:
                break
            tilt += 36 * channels * outputs + 18 * self.tilt_residual * outputs**2
            height, width, channels, outputs = height // 2, width // 2, outputs, 2 * outputs
        return tilt + self.tilt_width * height * width * channels


def specify_glow(units: Units, sizes: GlowSizes, tilt: ConvSizes) -> GlowSpec:
    """The specification of a Glow of these `sizes` over fitted `units`, and of its tilt.

    Raises:
        InputError: data that are no images, or that cannot be halved so often.
    """
    kind, levels = units_kind(units)
    plain = asdict(sizes) | {"scales": checked_scales(units.data_shape, sizes.scales)}
    of_tilt = {f"tilt_{name}": value for name, value in asdict(tilt).items()}
    return GlowSpec(kind, units.data_shape, levels, **plain, **of_tilt)
