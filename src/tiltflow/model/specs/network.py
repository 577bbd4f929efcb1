"""A tilt of this library over any backbone, in plain values."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from jaxtyping import PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.model.specs.plain import (
    check_flags,
    check_layers,
    check_numbers,
    check_size,
    checked_shape,
)
from tiltflow.tilts import ClassTilt, ConvSizes, ConvTilt, MLPTilt

TILTS = ("mlp", "conv", "classes")


@dataclass(frozen=True)
class NetworkSpec:
    """The network of a tilt.

    Attributes:
        network: one of `TILTS`.
        shape: of what it reads: `[dim]`, or that of images.
        width, depth, dropout: of its hidden layers; a convolutional one has a single one.
        channels, residual, spectral: of a convolutional one, as in `ConvSizes`.
        classes: that it tells apart, where it is `tilts.ClassTilt`; else 0.
    """

    network: str
    shape: tuple[int, ...]
    width: int = 256
    depth: int = 2
    dropout: float = 0.0
    channels: int = 16
    residual: bool = False
    spectral: float = 0.0
    classes: int = 0

    def build(self, *, key: PRNGKeyArray) -> MLPTilt | ConvTilt | ClassTilt:
        """The tilt before it is learned: f = 0."""
        if self.network == "conv":
            sizes = ConvSizes(self.channels, self.width, self.residual, self.spectral, self.dropout)
            return ConvTilt(self.shape, sizes, key=key)
        sizes = {"width": self.width, "depth": self.depth, "dropout": self.dropout}
        if self.network == "classes":
            return ClassTilt(self.shape[0], self.classes, **sizes, key=key)
        return MLPTilt(self.shape[0], **sizes, key=key)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"shape": list(self.shape)}
        if self.network != "classes":  # as former versions have it
            del values["classes"]
        return values

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The specification in `values`, which may be a stranger's; InputError if it is none."""
        known = {field.name for field in fields(cls)} - {"classes"}
        if isinstance(values, dict) and values.get("network") == "classes":
            known |= {"classes"}
        if not isinstance(values, dict) or set(values) != known:
            raise InputError(
                f"the tilt's specification is {values!r:.200}; expected {', '.join(sorted(known))}"
            )
        spec = cls(**{**values, "shape": checked_shape(values["shape"])})
        if spec.network not in TILTS:
            raise InputError(f"tilt {spec.network!r:.100}; expected one of {', '.join(TILTS)}")
        counts = {"width": 1, "depth": 1, "channels": 1}
        counts |= {"classes": 2 if spec.network == "classes" else 0}
        check_numbers(spec, counts, ("dropout",))
        check_flags(spec, "residual")
        check_layers(spec, "depth")
        if type(spec.spectral) not in (int, float):
            raise InputError(f"spectral is {spec.spectral!r:.100}; expected a number")
        size = 1
        for side in spec.shape:
            size *= side
        check_size(
            spec.width * (max(size, spec.width) * spec.depth + size * spec.channels)
            + spec.width * spec.classes
            + 500 * spec.channels**2
        )
        return spec
