"""What a tilted normal density is made of, in plain values."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Gaussian
from tiltflow.backbones.units.bijections import Units
from tiltflow.model.specs.of_units import units_kind
from tiltflow.model.specs.plain import PlainSpec, check_layers, check_numbers, check_size
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import ClassTilt, Frozen, MixtureTilt, MLPTilt, Sum


@dataclass(frozen=True)
class GaussianSpec(PlainSpec):
    """The architecture of a normal density with a tilt.

    Attributes:
        components: of a Gaussian mixture, the first part of the tilt, which is kept; 0: none.
        classes: that the tilt tells apart (`tilts.ClassTilt`); 0: none.
        tilt_width, tilt_depth, tilt_dropout: of the tilt's network.
    """

    components: int = 0
    classes: int = 0
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.0
    kind: ClassVar[str] = "gaussian"

    def flow(self, units: Units, *, key: PRNGKeyArray) -> Gaussian:
        """The backbone, in which nothing is random: its units are all there is to it."""
        return Gaussian(units)

    def tilt(
        self, mixture: MixtureTilt | None = None, *, key: PRNGKeyArray
    ) -> MLPTilt | ClassTilt | Sum:
        """The tilt before it is learned: f = 0, or that of the `mixture`, which is kept."""
        sizes = {"width": self.tilt_width, "depth": self.tilt_depth, "dropout": self.tilt_dropout}
        if self.classes:
            network = ClassTilt(self.dim, self.classes, **sizes, key=key)
        else:
            network = MLPTilt(self.dim, **sizes, key=key)
        if not self.components:
            return network
        mixture = MixtureTilt.standard(self.components, self.dim) if mixture is None else mixture
        return Sum(Frozen(mixture), network)

    def build(self, units: Units, *, key: PRNGKeyArray) -> TiltedModel:
        """The whole model before anything is learned."""
        return TiltedModel(self.flow(units, key=key), self.tilt(key=key))

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        super().check()
        counts = {"levels": 0, "components": 0, "classes": 0, "tilt_width": 1, "tilt_depth": 1}
        check_numbers(self, counts, ("tilt_dropout",))
        check_layers(self, "tilt_depth")
        check_size(
            self.parameters_of_units
            + self.components * self.dim * (self.dim + 1)
            + self.tilt_depth * self.tilt_width * max(self.tilt_width, self.dim)
            + self.tilt_width * self.classes
        )


def specify_gaussian(units: Units, **sizes: Any) -> GaussianSpec:
    """The specification of a model over fitted `units`, with `sizes` as in `GaussianSpec`."""
    kind, levels = units_kind(units)
    return GaussianSpec(kind, units.data_shape, levels, **sizes)
