"""What a tilted coupling flow is made of, in plain values."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.coupling import check_splits, splits_of
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.fitting import KINDS
from tiltflow.backbones.units.normal import standard
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
from tiltflow.tilts import MLPTilt


@dataclass(frozen=True)
class ModelSpec(PlainSpec):
    """The architecture of a tilted coupling flow.

    Attributes:
        blocks: of two couplings each.
        flow_width: hidden units of each conditioner.
        flow_dropout: share of them dropped in training.
        splits: blocks from one permutation to the next; 1, as in models of former versions, unless
            `specify` chooses.
        base: whether the flow starts from a normal density with a full covariance.
        tilt_width, tilt_depth, tilt_dropout: of the tilt's network.
    """

    blocks: int = 2
    flow_width: int = 256
    flow_dropout: float = 0.2
    splits: int = 1
    base: bool = False
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3
    units_known: ClassVar[tuple[str, ...]] = KINDS

    def flow(self, units: Units, *, key: PRNGKeyArray) -> CouplingFlow:
        """The backbone before it is fitted."""
        return CouplingFlow(
            units,
            num_blocks=self.blocks,
            width=self.flow_width,
            dropout=self.flow_dropout,
            splits=self.splits,
            base=standard(self.dim) if self.base else None,
            key=key,
        )

    def tilt(self, *, key: PRNGKeyArray) -> MLPTilt:
        """The tilt before it is learned: f = 0."""
        return MLPTilt(
            self.dim,
            width=self.tilt_width,
            depth=self.tilt_depth,
            dropout=self.tilt_dropout,
            key=key,
        )

    def build(self, units: Units, *, key: PRNGKeyArray) -> TiltedModel:
        """The whole model before anything is learned."""
        return TiltedModel(self.flow(units, key=key), self.tilt(key=key))

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        super().check()
        counts = {
            "levels": 0,
            "blocks": 1,
            "flow_width": 1,
            "splits": 1,
            "tilt_width": 1,
            "tilt_depth": 1,
        }
        check_numbers(self, counts, ("flow_dropout", "tilt_dropout"))
        check_flags(self, "base")
        check_layers(self, "blocks", "tilt_depth")
        check_splits(self.splits, self.dim)
        if self.units in ("gaussianise", "histogram") and not self.levels:
            raise InputError(f"levels is 0; expected at least 1 for units {self.units!r}")
        wide = max(self.tilt_width, self.dim)
        size = (
            self.parameters_of_units
            + (2 * self.dim**2 if self.base else 0)
            + 3 * self.blocks * self.dim * self.flow_width
            + self.tilt_depth * self.tilt_width * wide
        )
        check_size(size)


def specify(units: Units, **sizes: Any) -> ModelSpec:
    """The specification of a model over fitted `units`, with `sizes` as in `ModelSpec`."""
    kind, levels = units_kind(units)
    splits = splits_of(int(np.prod(units.data_shape)))
    return ModelSpec(kind, units.data_shape, levels, **({"splits": splits} | sizes))
