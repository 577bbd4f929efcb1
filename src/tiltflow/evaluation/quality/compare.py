"""The quality of samples: how near they are to data, on named features, beside real data's own.

Real rows are not at distance zero from other real rows: the floor is what `quality` says of real
rows in the samples' place, as many of them, and a model whose numbers reach it cannot be told from
the data by these features. Two models can be compared only on the same features, with the same
reference and the same number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.errors import InputError, check_seed
from tiltflow.evaluation.quality.classes import Classes, class_shares
from tiltflow.evaluation.quality.features import Features
from tiltflow.evaluation.quality.frechet import Frechet, frechet
from tiltflow.evaluation.quality.groups import numbered
from tiltflow.evaluation.quality.kernel import BLOCKS, KernelDistance, kernel_distance
from tiltflow.evaluation.quality.neighbours import Neighbours, neighbours

FEWEST = 8 * BLOCKS
"""Rows of each set: enough for every block and every part to have a few."""


@dataclass(frozen=True, eq=False)
class Quality:
    """What `quality` returns.

    Attributes:
        features: the name of what everything rests on.
        rows, reference_rows: how many were compared.
        frechet: Frechet distance, with its bias.
        kernel: kernel distance, unbiased.
        neighbours: precision, recall, density and coverage.
        classes: their shares, where the features come with a classifier.
        floor: the same of real rows in the samples' place, if they were given.
    """

    features: str
    rows: int
    reference_rows: int
    frechet: Frechet
    kernel: KernelDistance
    neighbours: Neighbours
    classes: Classes | None
    floor: Quality | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, parts by their names."""
        return {
            "features": self.features,
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "frechet": self.frechet.to_dict(),
            "kernel": self.kernel.to_dict(),
            "neighbours": self.neighbours.to_dict(),
            "classes": None if self.classes is None else self.classes.to_dict(),
            "floor": None if self.floor is None else self.floor.to_dict(),
        }


def quality(
    samples: np.ndarray,
    reference: np.ndarray,
    features: Features,
    *,
    floor: Quality | np.ndarray | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Quality:
    """Compare `samples` with real rows.

    Args:
        samples: `[n, *shape]`, data units.
        reference: real rows, `[m, *shape]`; held-out ones, or a model that has learned its data
            by heart looks best.
        features: in whose coordinates.
        floor: other real rows, as many as samples; or what `quality` has said of them, so that
            it is computed once for several models.
        groups: the chain of each sample, integers `[n]`, if they are draws of chains: errors
            then rest on chains, not on rows. None: samples are independent.
        seed: of the order of the rows, and of the bootstrap.

    Raises:
        InputError: too few rows, rows that do not fit the features, groups that do not fit the
            rows, or a floor of another number of rows or on other features.
    """
    check_seed(seed)
    for name, rows in (("samples", samples), ("reference", reference)):
        if len(rows) < FEWEST:
            raise InputError(f"{len(rows)} rows of {name}; expected at least {FEWEST}: bring more")
    of_rows = numbered(groups, len(samples))
    rng = np.random.default_rng(seed)
    known = features(reference)
    if floor is not None:
        floor = _floor(floor, len(samples), known, features, rng.spawn(1)[0])
    return _compare(features(samples), of_rows, known, features, floor, rng)


def _floor(
    floor: Quality | np.ndarray,
    rows: int,
    known: np.ndarray,
    features: Features,
    rng: np.random.Generator,
) -> Quality:
    """The floor, if it is one for so many samples on these features."""
    if isinstance(floor, Quality):
        found, name, against = floor.rows, floor.features, floor.reference_rows
    else:
        found, name, against = len(floor), features.name, len(known)
    if (found, name, against) != (rows, features.name, len(known)):
        raise InputError(
            f"the floor is that of {found} rows against {against} on {name!r}; expected {rows} "
            f"against {len(known)} on {features.name!r}, as for the samples: distances depend on "
            f"all three"
        )
    if isinstance(floor, Quality):
        return floor
    return _compare(features(floor), np.arange(rows), known, features, None, rng)


def _compare(
    found: np.ndarray,
    groups: np.ndarray,
    known: np.ndarray,
    features: Features,
    floor: Quality | None,
    rng: np.random.Generator,
) -> Quality:
    """Compare features `[n, d]`, of groups `[n]`, with those of the reference, `[m, d]`."""
    if found.shape[1] != known.shape[1]:
        raise InputError(
            f"the features {features.name!r} are {found.shape[1]} numbers for samples and "
            f"{known.shape[1]} for the reference; expected as many"
        )
    order = rng.permutation(len(found))
    found, groups, known = found[order], groups[order], rng.permutation(known)
    classes = None
    if features.classify is not None:
        told, in_reference = features.classify(found), features.classify(known)
        classes = class_shares(told, in_reference, features.classes, groups=groups)
    return Quality(
        features=features.name,
        rows=len(found),
        reference_rows=len(known),
        frechet=frechet(found, known, rng=rng, groups=groups),
        kernel=kernel_distance(found, known, groups=groups),
        neighbours=neighbours(found, known, groups=groups),
        classes=classes,
        floor=floor,
    )
