"""What is looked at where the backbone is a generator: its pictures, its noise, its log Z twice.

A gain in nats need not be seen: a tilt of x can spend it on noise. And a gain that is seen need
not be true: chains may have followed one class. So beside the likelihood stand distances on named
features, with the shares of classes, for the generator's own draws and the tilted model's; the
noise's width before and after; and the gain of the bound by bridge sampling and by annealing, which
have to agree.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone, Generator, Prior
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.noise import noise_width
from tiltflow.evaluation.quality import Features, quality, suited
from tiltflow.evaluation.quality.compare import FEWEST
from tiltflow.mcmc.draws import Draws, over_chains
from tiltflow.model.fitted import FittedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.annealed import LadderSettings, annealed

ROWS = 5_000  # of each set that is compared, where there are as many
AGREE = 0.3  # nats between the two ways to log Z
PART = 1024  # rows that are decoded at a time
GROUPS = 16  # of the ladder's particles: few and large, for a small group's log-mean is too low
LADDER = LadderSettings(particles=8_192, least_rounds=1, most_rounds=2)
FEWER = 2_048  # of them where the ladder leads through the generator's noise, too


@dataclass(frozen=True, eq=False)
class Generated:
    """What `look_at` returns.

    Attributes:
        metrics: the blocks `quality`, if there are rows enough, `noise` and `annealed`.
        checks: for the verdict.
    """

    metrics: dict[str, Any]
    checks: list[Check]


def has_noise(backbone: Backbone) -> bool:
    """Whether the backbone is a generator with noise."""
    return isinstance(backbone, Prior | Generator)


def look_at(
    fitted: FittedModel,
    draws: Draws,
    by_bridge: LogZ,
    f_test: float,
    test: np.ndarray,
    train: np.ndarray,
    *,
    key: PRNGKeyArray,
    listen: Callable[..., Any],
) -> Generated:
    """Look at the model's own chains and at fresh draws of its generator.

    Args:
        fitted: the model, over a generator with noise.
        draws: its fresh chains.
        by_bridge: log Z from them; by the ladder, where no bridge holds.
        f_test: the mean of f over held-out rows and draws of the encoder, so that the gain of
            the bound is f_test - log Z.
        test, train: rows to compare with, and for the floor.
        key: random key.
        listen: called as (phase, event, **fields).
    """
    ladder_key, draw_key = jr.split(key)
    positions = np.asarray(draws.positions)
    by_ladder = annealed(
        fitted.model.latent_log_densities,
        grouped(positions),
        key=ladder_key,
        settings=LADDER
        if isinstance(fitted.model.backbone, Prior)
        else replace(LADDER, particles=FEWER),
        mixture=fitted.model.mixture,
        on_round=lambda done, most, lower, upper: listen(
            "ladder", "round", step=done, steps=most, lower=lower, upper=upper
        ),
    )
    told = {
        "noise": noise_width(fitted.model, positions).to_dict(),
        "annealed": {
            "gain": f_test - by_ladder.mean,
            "gain_by_bridge": None if by_bridge.method == "ladder" else f_test - by_bridge.mean,
            "log_z": by_ladder.to_dict(),
        },
    }
    rows = min(ROWS, len(test), len(train))
    if rows >= FEWEST:
        listen("quality", "started", rows=rows)
        told["quality"] = _quality(fitted, positions, test[:rows], train[:rows], draw_key)
    return Generated(told, agreement(by_bridge, by_ladder))


def grouped(positions: np.ndarray) -> np.ndarray:
    """Draws `[chains, draws, ...]` with some chains joined, so that there are about `GROUPS`."""
    chains, draws = positions.shape[:2]
    each = next((n for n in range(max(1, chains // GROUPS), 0, -1) if chains % n == 0), 1)
    return positions.reshape(chains // each, each * draws, *positions.shape[2:])


def _quality(
    fitted: FittedModel,
    positions: np.ndarray,
    test: np.ndarray,
    train: np.ndarray,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    """Floor, backbone and tilted model against test rows, on features that suit them."""
    features = suited(test)
    u = jr.normal(key, (len(test), *positions.shape[2:]))
    floor = quality(train, test, features)
    some, of_chain = over_chains(positions, len(test))
    found = {"floor": floor} | {
        name: quality(fitted.push(latent, noise=False), test, features, floor=floor, groups=groups)
        for name, latent, groups in (
            ("backbone", np.asarray(u), None),
            ("tilted", some, of_chain),
        )
    }
    return {"features": features.name, "rows": len(test)} | {
        name: {
            "frechet": one.frechet.value,
            "kernel": one.kernel.value,
            "precision": one.neighbours.precision.value,
            "recall": one.neighbours.recall.value,
        }
        | (
            {}
            if one.classes is None
            else {
                "class_share_min": one.classes.smallest[1],
                "class_share_max": one.classes.largest[1],
            }
        )
        for name, one in found.items()
    }


def agreement(by_bridge: LogZ, by_ladder: LogZ) -> list[Check]:
    """Whether two ways to log Z agree, where there are two: a bridge that failed is a ladder."""
    if by_bridge.method == "ladder":
        return []
    apart = abs(by_bridge.mean - by_ladder.mean)
    check = Check(
        name="log Z, bridge against annealing",
        value=apart,
        limit=AGREE,
        ok=by_ladder.holds and apart <= AGREE,
        part="log Z",
        severity="failed",
        means="Two ways to log Z disagree, in nats"
        + ("." if by_ladder.holds else f": {by_ladder.words}"),
        try_="Draw longer chains; a bridge is to be believed only where annealing agrees.",
    )
    return [check]


def classes_of(
    backbone: Backbone, features: Features
) -> tuple[int, Callable[[Array], np.ndarray]] | None:
    """The number of classes and a labeller of coordinates `[n, dim]`, for `learning.swings`.

    None where the features know no classes, or the backbone is no generator with noise.
    """
    classify = features.classify
    if classify is None or not has_noise(backbone):
        return None

    def labels(c: Array) -> np.ndarray:
        return classify(features(np.asarray(_expected(backbone, c))))

    return len(features.classes), labels


@eqx.filter_jit
def _expected(backbone: Backbone, c: Array) -> Array:
    return jax.lax.map(backbone.expected, c, batch_size=PART)
