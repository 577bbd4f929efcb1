"""A model's samples against real rows: its backbone's, its own, and the floor.

Samples of a generator are what its decoder makes of z: the noise that gives it a density is left
out. Backbone samples are exact and independent. Those of the tilted model come from fresh chains,
many and short: their errors rest on chains, and the chains are judged like any others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.random as jr
import numpy as np

from tiltflow.errors import InputError, at_least_one, check_seed
from tiltflow.evaluation.mixing import mixing
from tiltflow.evaluation.quality.compare import FEWEST, Quality, quality
from tiltflow.evaluation.quality.features import Features
from tiltflow.evaluation.quality.frechet import PARTS
from tiltflow.evaluation.subsample import evenly
from tiltflow.mcmc.draws import over_chains
from tiltflow.model.exact import exact_points
from tiltflow.model.fitted import FittedModel

LEAST = max(PARTS)  # chains: one for each part
DRAWS = 20  # of each chain at least, so that they can be judged
BACKBONE = 2  # folded into the seed; the numbers below are those of the chains' split


@dataclass(frozen=True)
class QualitySettings:
    """How a model is sampled for the comparison.

    Attributes:
        rows: of each set, where the data have as many.
        chains: of the tilted model, from fresh draws of the backbone.
        warmup: transitions before the first draw.
        thin: transitions a draw.
    """

    rows: int = 5_000
    chains: int = 250
    warmup: int = 200
    thin: int = 10

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work."""
        check_seed(seed)
        at_least_one(self, "thin")
        for name, least in (("rows", FEWEST), ("chains", LEAST), ("warmup", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{getattr(self, name)} {name}; expected at least {least}")


@dataclass(frozen=True, eq=False)
class ModelQuality:
    """What `quality_of` returns.

    Attributes:
        floor, backbone, tilted: compared with the same reference, in the same number.
        samples: rows `[rows, *data_shape]` of `data`, `backbone` and `tilted`, to be looked at.
        mixing, verdict: of the chains that drew the tilted samples.
        seconds: it took.
    """

    floor: Quality
    backbone: Quality
    tilted: Quality
    samples: dict[str, np.ndarray]
    mixing: dict[str, Any]
    verdict: dict[str, Any]
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether the tilted samples are to be believed."""
        return self.verdict["status"] != "failed"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the samples."""
        sets = {"floor": self.floor, "backbone": self.backbone, "tilted": self.tilted}
        shared = ("features", "rows", "reference_rows")
        about = {name: getattr(self.tilted, name) for name in shared}
        blocks = {
            name: {k: v for k, v in found.to_dict().items() if k not in (*shared, "floor")}
            for name, found in sets.items()
        }
        rest = {"mixing": self.mixing, "verdict": self.verdict, "seconds": self.seconds}
        return about | blocks | rest


def quality_of(
    fitted: FittedModel,
    reference: np.ndarray,
    others: np.ndarray,
    features: Features,
    settings: QualitySettings | None = None,
    *,
    seed: int = 0,
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
) -> ModelQuality:
    """Compare samples of a model, and of its backbone, with real rows.

    Args:
        fitted: the model.
        reference: real rows that it has not learned from, `[n, *data_shape]`.
        others: real rows for the floor, such as training rows.
        features: in whose coordinates.
        settings: how many, and how they are drawn.
        seed: of everything random.
        listen: called as (phase, event, **fields) while it goes on.

    Raises:
        InputError: settings that cannot work, too few real rows, or rows that do not fit.
    """
    started = time.monotonic()
    settings = settings or QualitySettings()
    settings.check(seed)
    rows = min(settings.rows, len(reference), len(others))
    # Not the first: rows may lie in the order of their classes.
    reference, others = (fitted.check_rows(x)[evenly(rows, len(x))] for x in (reference, others))
    known = quality(others, reference, features, seed=seed)
    u = exact_points(fitted.model.backbone, jr.fold_in(jr.key(seed), BACKBONE), rows)
    backbone = fitted.push(np.asarray(u), noise=False)
    _, latent = fitted.sample(
        settings.chains,
        max(DRAWS, -(-rows // settings.chains)),
        warmup=settings.warmup,
        thin=settings.thin,
        seed=seed,
        on_chunk=lambda news: listen("sampling", "progress", **news.event()),
    )
    some, groups = over_chains(np.asarray(latent.positions), rows)
    tilted = fitted.push(some, noise=False)
    mixed = mixing(latent, fitted.model)
    return ModelQuality(
        floor=known,
        backbone=quality(backbone, reference, features, floor=known, seed=seed),
        tilted=quality(tilted, reference, features, floor=known, groups=groups, seed=seed),
        samples={"data": reference, "backbone": backbone, "tilted": tilted},
        mixing=mixed.to_dict(),
        verdict=mixed.verdict(),
        seconds=time.monotonic() - started,
    )
