"""What a tilted coupling flow is made of, in plain values."""

from dataclasses import asdict, dataclass
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.coupling import check_splits, splits_of
from tiltflow.backbones.fit_units import KINDS
from tiltflow.backbones.units import Units
from tiltflow.errors import InputError
from tiltflow.specs.of_units import units_kind, units_skeleton
from tiltflow.specs.plain import check_layers, check_numbers, check_size, read_spec
from tiltflow.tilted import TiltedModel
from tiltflow.tilts import MLPTilt


@dataclass(frozen=True)
class ModelSpec:
    """The architecture of a tilted coupling flow.

    Attributes:
        units: `"gaussianise"`, `"histogram"`, `"logit"`, `"standardise"` or `"whiten"`.
        data_shape: of one example.
        levels: integer values for `"gaussianise"`, bins for `"histogram"`; 0 otherwise.
        blocks: of two couplings each.
        flow_width: hidden units of each conditioner.
        flow_dropout: share of them dropped in training.
        splits: blocks from one permutation to the next; 1, as in models of former versions, unless
            `specify` chooses.
        tilt_width, tilt_depth, tilt_dropout: of the tilt's network.
    """

    units: str
    data_shape: tuple[int, ...]
    levels: int = 0
    blocks: int = 2
    flow_width: int = 256
    flow_dropout: float = 0.2
    splits: int = 1
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return int(np.prod(self.data_shape))

    def flow(self, units: Units, *, key: PRNGKeyArray) -> CouplingFlow:
        """The backbone before it is fitted."""
        return CouplingFlow(
            units,
            num_blocks=self.blocks,
            width=self.flow_width,
            dropout=self.flow_dropout,
            splits=self.splits,
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

    def skeleton(self) -> TiltedModel:
        """A model of shapes and dtypes only (`jax.ShapeDtypeStruct`): nothing is allocated."""

        def build() -> TiltedModel:
            key = jr.key(0)
            units = units_skeleton(self.units, self.data_shape, self.levels)
            return TiltedModel(self.flow(units, key=key), self.tilt(key=key))

        return eqx.filter_eval_shape(build)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"data_shape": list(self.data_shape)}

    @classmethod
    def from_dict(cls, values: Any) -> "ModelSpec":
        """The specification in `values`.

        Raises:
            InputError: a key is unknown, a value of the wrong type or out of range, or the model
                would have more than 100 million parameters.
        """
        return read_spec(cls, values)

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        if self.units not in KINDS:
            raise InputError(f"units {self.units!r:.100} of a saved model are unknown")
        counts = {
            "levels": 0,
            "blocks": 1,
            "flow_width": 1,
            "splits": 1,
            "tilt_width": 1,
            "tilt_depth": 1,
        }
        check_numbers(self, counts, ("flow_dropout", "tilt_dropout"))
        check_layers(self, "blocks", "tilt_depth")
        check_splits(self.splits, self.dim)
        if self.units in ("gaussianise", "histogram") and not self.levels:
            raise InputError(f"levels is 0; expected at least 1 for units {self.units!r}")
        wide = max(self.tilt_width, self.dim)
        size = (
            4 * self.dim * self.levels
            + 3 * self.blocks * self.dim * self.flow_width
            + self.tilt_depth * self.tilt_width * wide
            + (2 * self.dim**2 if self.units in ("standardise", "whiten") else 0)
        )
        check_size(size)


def specify(units: Units, **sizes: Any) -> ModelSpec:
    """The specification of a model over fitted `units`, with `sizes` as in `ModelSpec`."""
    kind, levels = units_kind(units)
    splits = splits_of(int(np.prod(units.data_shape)))
    return ModelSpec(kind, units.data_shape, levels, **({"splits": splits} | sizes))
