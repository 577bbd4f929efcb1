"""What a tilted coupling flow is made of, in plain values."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import (
    AutoregressiveFlow,
    CelledFlow,
    CouplingFlow,
    Density,
    Ensemble,
    MixtureDensity,
)
from tiltflow.backbones.cells import MOST, Cells
from tiltflow.backbones.copula import CopulaDensity, OrderedCells
from tiltflow.backbones.coupling import check_splits, splits_of
from tiltflow.backbones.splines import OUTPUTS
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.fitting import KINDS
from tiltflow.backbones.units.normal import standard
from tiltflow.errors import InputError
from tiltflow.model.specs.of_units import units_kind
from tiltflow.model.specs.plain import (
    MOST_LAYERS,
    PlainSpec,
    check_flags,
    check_layers,
    check_numbers,
    check_size,
)
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import LinearTilt, MLPTilt


@dataclass(frozen=True)
class ModelSpec(PlainSpec):
    """The architecture of a tilted coupling flow.

    Attributes:
        blocks: of two couplings each; 0: the flow is its base, beneath an ensemble.
        flow_width: hidden units of each conditioner.
        flow_dropout: share of them dropped in training.
        splits: blocks from one permutation to the next; 1, as in models of former versions, unless
            `specify` chooses.
        base: whether the flow starts from a normal density with a full covariance.
        components: of the Gaussian mixture beside the flow; 0: the flow is alone.
        bases: components of the mixture that each autoregressive flow starts at, in turn.
        cells: of those flows, where columns lie in cells: how many columns are of many cells, and
            how many ends of them there is room for; and the same of few. Empty: none does.
        copula: of a copula beside them: how many columns are in cells, and how many ends of them
            there is room for. Empty: there is none.
        member_width, member_depth, member_dropout: of their networks.
        linear: whether the tilt is one of the members' log-densities; else it is a network.
        contrast: whether such a tilt has a network as one more feature.
        kinds: whether such a tilt has the components of the mixture as features.
        tilt_width, tilt_depth, tilt_dropout: of that network.
    """

    blocks: int = 2
    flow_width: int = 256
    flow_dropout: float = 0.2
    splits: int = 1
    base: bool = False
    components: int = 0
    bases: tuple[int, ...] = ()
    cells: tuple[int, ...] = ()
    copula: tuple[int, ...] = ()
    member_width: int = 64
    member_depth: int = 2
    member_dropout: float = 0.0
    linear: bool = False
    contrast: bool = False
    kinds: bool = False
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

    def members(self, *, key: PRNGKeyArray) -> tuple[Density, ...]:
        """What stands beside the flow, of the right shapes."""
        if not self.components:
            return ()
        flows = [
            self._flow_member(components, jr.fold_in(key, number))
            for number, components in enumerate(self.bases)
        ]
        mixture = MixtureDensity.standard(self.components, self.dim)
        return (mixture, *flows, *([self._copula()] if self.copula else []))

    def _copula(self) -> CopulaDensity:
        free = jnp.zeros(self.dim - self.copula[0])
        cells = OrderedCells.nothing(*self.copula)
        square = jnp.zeros((self.dim, self.dim))
        return CopulaDensity(free, free, square, cells, jnp.arange(self.dim))

    def _flow_member(self, components: int, key: PRNGKeyArray) -> Density:
        width, depth, dropout = self.member_width, self.member_depth, self.member_dropout
        sizes: dict[str, Any] = {"width": width, "depth": depth, "dropout": dropout, "key": key}
        if not self.cells:
            base = MixtureDensity.standard(components, self.dim)
            return AutoregressiveFlow(base, self.dim, **sizes)
        many, few = Cells.nothing(*self.cells[:2]), Cells.nothing(*self.cells[2:])
        base = MixtureDensity.standard(components, self.dim - len(many.ends) - len(few.ends))
        return CelledFlow(base, many, few, jnp.arange(self.dim), **sizes)

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
        flow, members = self.flow(units, key=key), self.members(key=key)
        if not members:
            return TiltedModel(flow, self.tilt(key=key))
        ensemble = Ensemble(flow, members, jnp.zeros(1 + len(members)))
        if not self.linear:
            return TiltedModel(ensemble, self.tilt(key=key))
        network = self.tilt(key=key) if self.contrast else None
        return TiltedModel(ensemble, LinearTilt.zero(ensemble, network, kinds=self.kinds))

    @classmethod
    def from_dict(cls, values: Any) -> "ModelSpec":
        """As `PlainSpec.from_dict`; InputError too for sizes of members that are no list."""
        for name in ("bases", "cells", "copula"):
            if isinstance(values, dict) and name in values:
                if not isinstance(values[name], list | tuple):
                    raise InputError(f"{name} is {values[name]!r:.100}; expected a list of sizes")
                values = {**values, name: tuple(values[name])}
        return super().from_dict(values)

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        super().check()
        counts = {
            "levels": 0,
            "blocks": 0,
            "flow_width": 1,
            "splits": 1,
            "tilt_width": 1,
            "tilt_depth": 1,
        }
        counts |= {"components": 0, "member_width": 1, "member_depth": 1}
        check_numbers(self, counts, ("flow_dropout", "tilt_dropout", "member_dropout"))
        if len(self.bases) > MOST_LAYERS or any(type(n) is not int or n < 1 for n in self.bases):
            raise InputError(
                f"bases is {self.bases!r:.100}; expected at most {MOST_LAYERS} numbers of "
                f"components, of at least 1"
            )
        self._check_cells()
        check_flags(self, "base", "linear", "contrast", "kinds")
        if self.linear and not self.components:
            raise InputError("linear is True without members; expected an ensemble of them")
        check_layers(self, "blocks", "tilt_depth", "member_depth")
        check_splits(self.splits, self.dim)
        if self.units in ("gaussianise", "histogram", "tails") and not self.levels:
            raise InputError(f"levels is 0; expected at least 1 for units {self.units!r}")
        wide = max(self.tilt_width, self.dim)
        levels = 1 + self.cells[3] if self.cells else 0
        size = (
            self.parameters_of_units
            + (2 * self.dim**2 if self.base else 0)
            + (self.components + sum(self.bases)) * self.dim * (self.dim + 1)
            + len(self.bases)
            * self.member_width
            * (
                self.dim * (2 + levels + max(OUTPUTS, levels))
                + self.member_depth * self.member_width
            )
            + (self.dim**2 + 5 * self.copula[0] * (1 + self.copula[1]) if self.copula else 0)
            + 3 * self.blocks * self.dim * self.flow_width
            + self.tilt_depth * self.tilt_width * wide
        )
        check_size(size)

    def _check_cells(self) -> None:
        """Raises InputError for cells that no flow, or no copula, can have."""
        if self.copula:
            are_counts = all(type(n) is int and n >= 1 for n in self.copula)
            if len(self.copula) != 2 or not are_counts or self.copula[0] > self.dim:
                raise InputError(
                    f"copula is {self.copula!r:.100}; expected how many columns of {self.dim} are "
                    f"in cells, and the ends of these"
                )
        if not self.cells:
            return
        are_counts = all(type(n) is int and n >= 0 for n in self.cells)
        if (
            len(self.cells) != 4
            or not are_counts
            or self.cells[0] + self.cells[2] > self.dim
            or max(self.cells[1], self.cells[3]) > MOST + 1
        ):
            raise InputError(
                f"cells is {self.cells!r:.100}; expected two numbers of columns, of {self.dim} in "
                f"all, each followed by that of the ends of their cells, at most {MOST + 1}"
            )


def specify(units: Units, **sizes: Any) -> ModelSpec:
    """The specification of a model over fitted `units`, with `sizes` as in `ModelSpec`."""
    kind, levels = units_kind(units)
    splits = splits_of(int(np.prod(units.data_shape)))
    given: dict[str, Any] = {"splits": splits} | sizes
    return ModelSpec(kind, units.data_shape, levels, **given)
