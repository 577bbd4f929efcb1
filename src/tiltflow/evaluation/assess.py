"""The likelihood of a fitted model on given rows: numbers with intervals, or a refusal.

Chains are started afresh, judged, and used to bracket log Z from both sides; where the verdict
is "failed", every number that depends on what failed is withheld.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax.random as jr
import numpy as np

from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.data import Dataset
from tiltflow.diagnostics.verdict import Check, conclude
from tiltflow.errors import InputError, at_least_one, check_seed
from tiltflow.evaluation.chains import SamplingSettings, suited_sampling
from tiltflow.evaluation.drift import trained_short
from tiltflow.evaluation.enough import enough_chains
from tiltflow.evaluation.generated import has_noise
from tiltflow.evaluation.likelihood import (
    BOUNDS,
    DRAWS,
    Likelihood,
    Scores,
    bits_per_dim,
    gain_block,
    likelihood,
    score,
)
from tiltflow.evaluation.soundness import drawn, soundness
from tiltflow.learning import Rows
from tiltflow.model.fitted import FittedModel
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.normalizer import Interval, LogZ
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.normalizer.gain import CERTAIN

LARGEST_ERROR = 0.5  # nats of log Z beyond which the likelihood is not known


@dataclass(frozen=True)
class LikelihoodSettings:
    """How a likelihood is estimated.

    Attributes:
        sampling: the chains from which log Z is bounded from above, whose leapfrogs are the
            model's own, whatever it says; None: as suits the model.
        ladder: of the bounds; its budget is what `budget` has left.
        dequantisations: of each row of integers.
        bound: `"variational"` or `"importance"`, see `evaluation/likelihood.py`.
        budget: seconds in which to be done, as far as chains already begun allow.
    """

    sampling: SamplingSettings | None = None
    ladder: LadderSettings = field(default_factory=LadderSettings)
    dequantisations: int = DRAWS
    bound: str = "variational"
    budget: float | None = None

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work."""
        check_seed(seed)
        at_least_one(self, "dequantisations")
        self.ladder.check()
        if self.sampling is not None:
            self.sampling.check()
        if self.bound not in BOUNDS:
            raise InputError(f"bound {self.bound!r}; expected {' or '.join(BOUNDS)}")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise InputError(f"the budget is {self.budget} s; expected a positive time")


def assess(
    fitted: FittedModel,
    data: Dataset,
    settings: LikelihoodSettings | None = None,
    *,
    seed: int = 0,
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
) -> dict[str, Any]:
    """Nats per example of `data` under backbone and tilted model.

    Args:
        fitted: the model.
        data: rows that it was not fitted to.
        settings: see there.
        seed: of everything random.
        listen: called as (phase, event, **fields) while it goes on.

    Returns:
        The blocks `log_z`, `backbone`, `tilted`, `gain_nats`, `mixing`, `data`, `seconds` and
        `verdict`, plain values; None for numbers that the verdict withholds. `bound` says which
        bound the likelihoods are, of integers and of a generator; None: they are exact.

    Raises:
        InputError: rows that do not fit the model, or settings that cannot work.
    """
    settings = settings or LikelihoodSettings()
    settings.check(seed)
    fitted.check_rows(data.values)
    started = time.monotonic()
    sound_key, chain_key, ladder_key, score_key = jr.split(jr.key(seed), 4)
    values = np.asarray(data.values, np.float32)
    rows = Rows(
        values if fitted.grid is None else fitted.grid.to_cells(values),
        fitted.model.backbone.units,
        fitted.integers,
        steps=None if fitted.grid is None else fitted.grid.step,
        atoms=atom_cells(fitted.grid),
    )
    scores = score(fitted.model, rows, score_key, settings.dequantisations)
    checks = soundness(fitted.model, drawn(fitted.model, sound_key))
    checks += [finite(scores), *trained_short(fitted.protocol)]
    dim = math.prod(fitted.model.backbone.data_shape)
    bound = settings.bound if fitted.is_dequantised or has_noise(fitted.model.backbone) else None
    told = {"data": {"name": data.name, "rows": data.rows, "dim": dim}, "bound": bound}
    if not all(check.ok for check in checks if check.part != "tilt"):
        seconds = _since(started)
        return {**told, **_withheld(), "seconds": seconds, "verdict": conclude(checks)}

    sampling = settings.sampling or suited_sampling(fitted.model)
    sampling = replace(sampling, leapfrogs=fitted.leapfrogs)
    draws, mixed = enough_chains(
        fitted.model, sampling, chain_key, listen, step_size=fitted.step_size
    )
    left = None if settings.budget is None else settings.budget - (time.monotonic() - started)
    log_z = log_normalizer(
        fitted.model,
        key=ladder_key,
        draws=np.asarray(draws.positions),
        exact_draws=sampling.exact_draws,
        settings=replace(settings.ladder, budget=left),
        on_round=lambda done, total, lower, upper: listen(
            "ladder", "round", step=done, steps=total, lower=lower, upper=upper
        ),
    )
    verdict = mixed.verdict([*checks, known(log_z)])
    found = likelihood(scores, log_z, settings.bound) if math.isfinite(log_z.mean) else None
    if verdict["status"] == "failed":
        backbone = likelihood(scores, CERTAIN, settings.bound).backbone
        blocks = {**_withheld(), "backbone": _block(backbone, dim)}
    else:
        assert found is not None  # log Z holds
        blocks = _blocks(found, log_z, dim)
    return {
        **told,
        **blocks,
        "mixing": mixed.to_dict(),
        "seconds": _since(started),
        "verdict": verdict,
    }


def _blocks(found: Likelihood, log_z: LogZ, dim: int) -> dict[str, Any]:
    return {
        "log_z": log_z.to_dict(),
        "backbone": _block(found.backbone, dim),
        "tilted": _block(found.tilted, dim),
        "gain_nats": gain_block(found.gain),
    }


def _block(nll: Interval, dim: int) -> dict[str, float]:
    """A negative log-likelihood; the two reasons to doubt it apart."""
    return {
        "nll": nll.mean,
        "low": nll.low,
        "high": nll.high,
        "se_log_z": nll.se_estimator,
        "se_test": nll.se_test,
        "bits_per_dim": bits_per_dim(nll.mean, dim),
    }


def _withheld() -> dict[str, Any]:
    """The blocks of a model that has no likelihood to report."""
    score = dict.fromkeys(("nll", "low", "high", "se_log_z", "se_test", "bits_per_dim"))
    return {
        "log_z": dict.fromkeys(("mean", "low", "high", "standard_error", "lower", "upper")),
        "backbone": dict(score),
        "tilted": dict(score),
        "gain_nats": dict.fromkeys(("mean", "low", "high", "se_log_z", "se_test")),
    }


def finite(scores: Scores) -> Check:
    """Whether all rows have a density under the model."""
    return Check(
        name="rows scored, share not finite",
        value=scores.bad,
        limit=0.0,
        ok=scores.bad == 0.0,
        part="data",
        rests_on=("backbone", "tilt"),
        severity="failed",
        means="Some rows have no finite density under the model.",
        try_="Look for rows far outside the data that the model was fitted to.",
    )


def known(log_z: LogZ) -> Check:
    """Whether log Z is known well enough for a likelihood to be reported."""
    error = log_z.standard_error
    return Check(
        name="log Z, standard error",
        value=error if math.isfinite(error) else math.inf,
        limit=LARGEST_ERROR,
        ok=log_z.holds and error <= LARGEST_ERROR,
        part="log Z",
        severity="failed",
        means="The likelihood of the tilted model is not known."
        if log_z.holds
        else f"The likelihood of the tilted model is not known. {log_z.words}",
        try_="Draw longer chains, or learn for fewer steps.",
    )


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
