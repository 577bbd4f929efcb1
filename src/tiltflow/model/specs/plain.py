"""What all specifications share: plain values, which may come from a stranger."""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.fitting import KINDS
from tiltflow.errors import InputError
from tiltflow.model.specs.of_units import units_skeleton
from tiltflow.model.tilted import TiltedModel

LARGEST = 100_000_000  # parameters; a folder that asks for more is refused
MOST_LAYERS = 256  # blocks of a flow, or layers of a tilt: each is compiled


@dataclass(frozen=True)
class PlainSpec(ABC):
    """The architecture of a tilted model.

    Attributes:
        units: `"censored"`, `"gaussianise"`, `"histogram"`, `"logit"`, `"standardise"`,
            `"tails"` or `"whiten"`; for images `"scale"` too.
        data_shape: of one example; channels last, if it is an image that has any.
        levels: integer values for `"gaussianise"`, bins for `"histogram"` and `"tails"`; else 0.
    """

    units: str
    data_shape: tuple[int, ...]
    levels: int = 0
    kind: ClassVar[str] = ""  # what a saved specification is told by; a coupling flow has none
    units_known: ClassVar[tuple[str, ...]] = (*KINDS, "scale")

    @abstractmethod
    def build(self, units: Units, *, key: PRNGKeyArray) -> TiltedModel:
        """The whole model before anything is learned."""

    @abstractmethod
    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        if self.units not in self.units_known:
            raise InputError(f"units {self.units!r:.100} of a saved model are unknown")

    @property
    def dim(self) -> int:
        """The number of coordinates of an example."""
        return math.prod(self.data_shape)

    @property
    def parameters_of_units(self) -> int:
        """About how many numbers the units hold: tables, and a full matrix with its inverse."""
        full = 2 * self.dim**2 if self.units in ("standardise", "whiten") else 0
        return 4 * self.dim * self.levels + full

    def skeleton(self) -> TiltedModel:
        """A model of shapes and dtypes only (`jax.ShapeDtypeStruct`): nothing is allocated."""

        def build(key: jax.Array) -> TiltedModel:
            return self.build(units_skeleton(self.units, self.data_shape, self.levels), key=key)

        return eqx.filter_eval_shape(build, jr.key(0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kind = {"kind": self.kind} if self.kind else {}
        return asdict(self) | kind | {"data_shape": list(self.data_shape)}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The specification in `values`, plain values with or without their `kind`.

        Raises:
            InputError: it is no table, lacks units or data_shape, a key is unknown, a value is of
                the wrong type or out of range, or the model would have more than 100 million
                parameters.
        """
        known = {field.name for field in fields(cls)}
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if name != "kind"}
        if not isinstance(values, dict) or not {"units", "data_shape"} <= set(values) <= known:
            raise InputError(
                f"the model's specification is {values!r:.200}; expected units, data_shape and "
                f"otherwise only {', '.join(sorted(known - {'units', 'data_shape'}))}"
            )
        spec = cls(**{**values, "data_shape": checked_shape(values["data_shape"])})
        spec.check()
        return spec


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The shape of data in a saved specification; InputError if it is none."""
    if not (
        isinstance(shape, list)
        and 1 <= len(shape) <= 3
        and all(type(n) is int and n >= 1 for n in shape)
    ):
        raise InputError(f"data_shape is {shape!r:.100}; expected one to three sizes")
    return tuple(shape)


def check_numbers(spec: Any, counts: dict[str, int], shares: tuple[str, ...]) -> None:
    """InputError for the first of `counts` that is no whole number, of its least value or more.

    And for the first of `shares` that is no number in [0, 1).
    """
    for name, least in counts.items():
        value = getattr(spec, name)
        if type(value) is not int or value < least:
            raise InputError(f"{name} is {value!r:.100}; expected a whole number >= {least}")
    for name in shares:
        value = getattr(spec, name)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise InputError(f"{name} is {value!r:.100}; expected a number in [0, 1)")


def check_flags(spec: Any, *names: str) -> None:
    """InputError for the first of these that is neither true nor false."""
    for name in names:
        if type(getattr(spec, name)) is not bool:
            raise InputError(f"{name} is {getattr(spec, name)!r:.100}; expected true or false")


def check_layers(spec: Any, *names: str) -> None:
    """InputError for the first of these numbers that is more than layers may be."""
    for name in names:
        if getattr(spec, name) > MOST_LAYERS:
            raise InputError(
                f"{name} is {getattr(spec, name)!r:.100}; expected at most {MOST_LAYERS}"
            )


def check_size(size: int) -> None:
    """InputError for a model of more parameters than a folder may ask for."""
    if size > LARGEST:
        raise InputError(
            f"the model would have about {size:,} parameters; expected at most {LARGEST:,}: "
            f"the file is damaged, or the settings are too large"
        )
