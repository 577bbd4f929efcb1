"""What a model is made of, some parts of which are the user's own.

A folder holds no code, so that it is safe to open. Of a part of the user's own it holds the arrays,
and the name of its type; whoever opens it hands in an object of that type and of the same sizes, a
skeleton, whose arrays are replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax.random as jr

from tiltflow.backbones import Backbone
from tiltflow.backbones.own import as_backbone
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError
from tiltflow.model.specs.network import NetworkSpec
from tiltflow.model.specs.of_units import units_kind, units_skeleton
from tiltflow.model.specs.plain import PlainSpec, check_size, checked_shape
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import Tilt, as_tilt
from tiltflow.tilts.data import as_learned

if TYPE_CHECKING:
    from tiltflow.model.specs import Spec


@dataclass(frozen=True)
class PartsSpec:
    """A model by its two parts.

    Attributes:
        backbone: the specification that it is of; or the name of its own type.
        tilt: the same.
        behind_gate: whether learning has put something around the tilt (`tilts.data.as_learned`).
        units, levels, data_shape: of the backbone, as in `PlainSpec`; they matter to an own one
            that was made over fitted units.
    """

    backbone: PlainSpec | str
    tilt: NetworkSpec | str
    behind_gate: bool
    units: str
    levels: int
    data_shape: tuple[int, ...]
    kind: ClassVar[str] = "parts"

    @property
    def own(self) -> dict[str, str]:
        """The user's own parts, `"backbone"`, `"tilt"` or both, and the names of their types."""
        parts = {"backbone": self.backbone, "tilt": self.tilt}
        return {name: part for name, part in parts.items() if isinstance(part, str)}

    def skeleton(self, backbone: Any = None, tilt: Any = None) -> TiltedModel:
        """A model of the right shapes and of no particular values, from the user's own parts.

        Raises:
            InputError: one is missing, or one too many.
        """
        for name, given in (("backbone", backbone), ("tilt", tilt)):
            if name in self.own and given is None:
                raise InputError(
                    f"the {name} of this model is of a type of your own, {self.own[name]!r:.80}, "
                    f"and a folder holds no code; expected an object of that type and of the same "
                    f"sizes, whose arrays are replaced: load_model(folder, {name}=...)"
                )
            if name not in self.own and given is not None:
                raise InputError(
                    f"{name} is given, but this model's is of the library; expected none"
                )
        q = self._backbone(backbone)
        if isinstance(self.tilt, NetworkSpec):
            return TiltedModel(q, self.tilt.build(key=jr.key(0)))
        return TiltedModel(q, as_learned(tilt, q) if self.behind_gate else as_tilt(tilt, q))

    def _backbone(self, own: Any) -> Backbone:
        if isinstance(self.backbone, PlainSpec):
            return self.backbone.skeleton().backbone
        return as_backbone(own, units_skeleton(self.units, self.data_shape, self.levels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

        def plain(part: Any) -> Any:
            return {"own": part} if isinstance(part, str) else part.to_dict()

        return {
            "kind": self.kind,
            "backbone": plain(self.backbone),
            "tilt": plain(self.tilt),
            "behind_gate": self.behind_gate,
            "units": self.units,
            "levels": self.levels,
            "data_shape": list(self.data_shape),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], spec_from: Callable[[Any], Spec]) -> Self:
        """The specification in `values`, which may come from a stranger.

        Raises:
            InputError: it is none, or asks for too large a model.
        """
        known = {"kind", "backbone", "tilt", "behind_gate", "units", "levels", "data_shape"}
        if set(values) != known:
            raise InputError(
                f"the model's specification is {values!r:.200}; expected {', '.join(sorted(known))}"
            )
        shape, levels = checked_shape(values["data_shape"]), values["levels"]
        if type(levels) is not int or levels < 0 or type(values["behind_gate"]) is not bool:
            raise InputError(
                f"levels is {levels!r:.100} and behind_gate {values['behind_gate']!r:.100}; "
                f"expected a whole number >= 0, and true or false"
            )
        if values["units"] not in PlainSpec.units_known:
            raise InputError(f"units {values['units']!r:.100} of a saved model are unknown")
        backbone = _own(values["backbone"])
        if backbone is None:
            backbone = spec_from(values["backbone"])
            if isinstance(backbone, PartsSpec):
                raise InputError("the backbone's specification is one of parts; expected another")
        tilt = _own(values["tilt"]) or NetworkSpec.from_dict(values["tilt"])
        spec = cls(backbone, tilt, values["behind_gate"], values["units"], levels, shape)
        spec.check()
        return spec

    def check(self) -> None:
        """Raises InputError for units that are too large to be."""
        size = 1
        for side in self.data_shape:
            size *= side
        full = 2 * size**2 if self.units in ("standardise", "whiten") else 0
        check_size(4 * size * self.levels + full if "backbone" in self.own else 0)


def of_parts(
    model: TiltedModel,
    backbone: PlainSpec | str | None = None,
    tilt: NetworkSpec | str | None = None,
) -> PartsSpec:
    """The specification of a model; a part that none is given of is the user's own."""
    units: Units = model.backbone.units
    kind, levels = units_kind(units)
    return PartsSpec(
        backbone=backbone or type(model.backbone).__name__,
        tilt=tilt or type_of(model.tilt),
        behind_gate=isinstance(model.tilt, Tilt),
        units=kind,
        levels=levels,
        data_shape=model.backbone.data_shape,
    )


def type_of(tilt: Any) -> str:
    """The name of the user's own type, or function, in a tilt."""
    inner = tilt
    for _ in range(3):  # what `as_learned` puts around it
        for name in ("network", "function", "tilt"):
            if type(inner).__module__.startswith("tiltflow.") and hasattr(inner, name):
                inner = getattr(inner, name)
    return getattr(inner, "__name__", type(inner).__name__)


def _own(values: Any) -> str | None:
    """The name of an own part's type; None: it is a part of the library."""
    if isinstance(values, dict) and set(values) == {"own"} and isinstance(values["own"], str):
        return values["own"] or "?"
    return None
