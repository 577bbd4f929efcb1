"""Which classes samples belong to, as a classifier tells: a class that is gone, or everywhere."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.evaluation.quality.groups import numbered, share_error


@dataclass(frozen=True)
class Classes:
    """Shares of classes among the samples and in the reference.

    Attributes:
        names: of the classes.
        shares: of each among the samples.
        standard_errors: of these; above zero for a class that no sample is in, too.
        in_reference: shares in the reference, as the same classifier tells.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    standard_errors: tuple[float, ...]
    in_reference: tuple[float, ...]

    @property
    def smallest(self) -> tuple[str, float]:
        """The rarest class and its share."""
        return self._at(int(np.argmin(self.shares)))

    @property
    def largest(self) -> tuple[str, float]:
        """The most frequent class and its share."""
        return self._at(int(np.argmax(self.shares)))

    @property
    def apart(self) -> float:
        """Total variation between samples and reference: 0 alike, 1 no class in common."""
        return 0.5 * float(np.abs(np.subtract(self.shares, self.in_reference)).sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            "share_min": self.smallest[1],
            "share_max": self.largest[1],
            "apart": self.apart,
        }

    def _at(self, i: int) -> tuple[str, float]:
        return self.names[i], self.shares[i]


def class_shares(
    told: np.ndarray,
    reference: np.ndarray,
    names: tuple[str, ...],
    *,
    groups: ArrayLike | None = None,
) -> Classes:
    """Shares of classes among the samples and in the reference.

    Args:
        told: classes of the samples, `[n]`, integers below `len(names)`.
        reference: those of the reference, `[m]`.
        names: of the classes.
        groups: the chain of each sample, integers `[n]`; None: samples are independent.
    """
    inside = told[:, None] == np.arange(len(names))
    errors = share_error(inside, numbered(groups, len(told)))
    known = np.bincount(reference, minlength=len(names)) / len(reference)
    found = (inside.mean(axis=0), errors, known)
    return Classes(names, *(tuple(map(float, row)) for row in found))
