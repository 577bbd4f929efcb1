"""Reading a specification of plain values that may come from a stranger."""

from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar

from tiltflow.errors import InputError

S = TypeVar("S", bound="Plain")
LARGEST = 100_000_000  # parameters; a folder that asks for more is refused
MOST_LAYERS = 256  # blocks of a flow, or layers of a tilt: each is compiled


class Plain(Protocol):
    """A dataclass of plain values that says what a model is made of."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        ...


def read_spec(cls: type[S], values: Any) -> S:
    """The specification of class `cls` in `values`, plain values with or without its `kind`.

    Raises:
        InputError: it is no table, lacks units or data_shape, has other keys than `cls`, or fails
            the check of `cls`.
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
