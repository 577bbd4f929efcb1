"""A tilted model of one class: p(x given k) ∝ exp(f(x, k)) q(x), a model as any other."""

import dataclasses

from tiltflow.errors import InputError
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import Tilt
from tiltflow.tilts.classes import of_class as tilt_of_class


def of_class(model: TiltedModel, label: int) -> TiltedModel:
    """The model of the rows of class `label`; chains, log Z and all else work on it.

    Raises:
        InputError: the tilt tells no classes (`tilts.classes`), or not this one.
    """
    if not isinstance(model.tilt, Tilt):
        raise InputError(
            f"a tilt of type {type(model.tilt).__name__} tells no classes; expected a "
            f"tilts.ClassTilt in it"
        )
    return dataclasses.replace(model, tilt=tilt_of_class(model.tilt, label))
