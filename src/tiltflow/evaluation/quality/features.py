"""Features: a named function of rows, in whose coordinates samples are compared with data.

A distance is one on these features and on no others, so the name goes wherever the number goes.
Either the embedded classifier's, or the rows themselves, or any function the user brings.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tiltflow.errors import InputError
from tiltflow.evaluation.quality import classifier


@dataclass(frozen=True, eq=False)
class Features:
    """A named function of rows.

    Attributes:
        name: said with every number that rests on it, as in "frechet distance on NAME features".
        of_rows: from rows `[n, *shape]`, data units, to features `[n, d]`.
        shape: of one row, where the function needs a certain one.
        classify: from features `[n, d]` to classes `[n]`, integers; None if there are none.
        classes: their names, in the order of these integers.
    """

    name: str
    of_rows: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...] | None = None
    classify: Callable[[np.ndarray], np.ndarray] | None = None
    classes: tuple[str, ...] = ()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The features of `rows` as float64 `[n, d]`.

        Raises:
            InputError: rows of another shape; features that are no numbers, not one row each, or
                not finite.
        """
        rows = np.asarray(rows)
        if self.shape is not None and rows.shape[1:] != self.shape:
            raise InputError(
                f"rows of shape {rows.shape[1:]}; the features {self.name!r} expect {self.shape}: "
                f"bring features of your own"
            )
        found = np.asarray(self.of_rows(rows), np.float64)
        if found.ndim != 2 or len(found) != len(rows):
            raise InputError(
                f"the features {self.name!r} have shape {found.shape} for {len(rows)} rows; "
                f"expected [{len(rows)}, features]"
            )
        bad = ~np.isfinite(found).all(axis=1)
        if bad.any():
            raise InputError(
                f"the features {self.name!r} are not finite for {bad.sum()} of {len(rows)} rows, "
                f"first for row {np.argmax(bad)}; expected finite features: look at these rows"
            )
        return found


def fashion_mnist() -> Features:
    """The embedded classifier's 64 features and 10 classes, for images `[28, 28]`, 0 to 255.

    Calling it raises InputError for images that are not black and have no value above 1.
    """
    network = classifier.load()

    def of_rows(rows: np.ndarray) -> np.ndarray:
        if 0 < np.max(rows) <= 1:
            raise InputError(
                f"the images' largest value is {np.max(rows):g}; expected 0 to 255, as the "
                f"classifier has seen them: multiply by 255"
            )
        return classifier.features_of(network, rows)

    return Features(
        name="fashion-mnist classifier",
        of_rows=of_rows,
        shape=classifier.SHAPE,
        classify=lambda features: classifier.classes_of(network, features),
        classes=classifier.CLASSES,
    )


def suited(reference: np.ndarray) -> Features:
    """The classifier's for bytes of its shape, `[n, 28, 28]`, and else the rows themselves."""
    if reference.shape[1:] == classifier.SHAPE and _are_bytes(reference):
        return fashion_mnist()
    return values(reference)


def _are_bytes(rows: np.ndarray) -> bool:
    """Whether images have the range that the classifier has seen, and not 0 to 1."""
    return bool(np.min(rows) >= 0 and 1 < np.max(rows) <= 255)


def values(reference: np.ndarray) -> Features:
    """The rows themselves, less the mean and in units of the spread of `reference`, `[n, *shape]`.

    Columns of a table each have their own; all pixels of an image have one.
    """
    axis = 0 if np.ndim(reference) == 2 else None
    mean = np.mean(reference, axis=axis, dtype=np.float64)
    spread = np.std(reference, axis=axis, dtype=np.float64)
    unit = np.where(spread > 0, spread, 1.0)
    return Features(
        name="standardised value",
        of_rows=lambda rows: ((np.asarray(rows, np.float64) - mean) / unit).reshape(len(rows), -1),
        shape=reference.shape[1:],
    )
