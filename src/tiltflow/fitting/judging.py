"""What is said of a learned model: chains started afresh, log Z, held-out rows, and a verdict.

Nothing is learned here, but for a scale of the tilt (`evaluation/calibration.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from tiltflow.backbones import Flow
from tiltflow.data import Dataset, Splits
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.assess import finite
from tiltflow.evaluation.by_stage import gains_by_stage
from tiltflow.evaluation.calibration import SCALABLE, Calibration, calibrate, scaled
from tiltflow.evaluation.classified import class_log_probs, classified
from tiltflow.evaluation.copies import copies
from tiltflow.evaluation.cross_checks import against_weighted, between_sides
from tiltflow.evaluation.drift import drift, trained_short
from tiltflow.evaluation.enough import enough_chains
from tiltflow.evaluation.generated import ROWS, has_noise, look_at
from tiltflow.evaluation.interpolation import interpolation
from tiltflow.evaluation.kept_chains import KeptRounds
from tiltflow.evaluation.likelihood import Likelihood, Scores, likelihood, score
from tiltflow.evaluation.mixing import Mixing
from tiltflow.evaluation.report_arrays import gather_evidence
from tiltflow.evaluation.shared_values import no_atoms
from tiltflow.evaluation.simple_models import ahead_of, block_of, not_behind, simple_models
from tiltflow.evaluation.smoothness import smoothness
from tiltflow.evaluation.soundness import drawn, soundness
from tiltflow.evaluation.trust import trust
from tiltflow.fitting.metrics import (
    add_bits,
    are_bytes_of_images,
    checks_of,
    is_backbone,
    of_data,
    of_likelihood,
    seconds_of,
)
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.training import Learned
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.keeping import Keeper
from tiltflow.mcmc.draws import Draws
from tiltflow.model.fitted import FittedModel
from tiltflow.model.log_normalizer import exact_f, from_exact, log_normalizer
from tiltflow.model.short_run import Protocol
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ, from_values
from tiltflow.normalizer.gain import CERTAIN


@dataclass(frozen=True, eq=False)
class Result:
    """What `fit` returns.

    Attributes:
        model: to sample, score and save.
        metrics: the numbers of `metrics.json`.
        evidence: the arrays that the report draws.
    """

    model: FittedModel
    metrics: dict[str, Any]
    evidence: dict[str, np.ndarray]

    @property
    def converged(self) -> bool:
        """Whether the verdict is anything but failed."""
        return self.metrics["verdict"]["status"] != "failed"


class Classes(NamedTuple):
    """The labels of the test rows, and what they stand for.

    Attributes:
        names: of the classes.
        labels: `[test rows]`, counted from 0.
    """

    names: list[int]
    labels: Int[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is judged by: data and settings of a fit.

    Attributes:
        data, parts: all rows, and which of them are for learning, choosing and testing.
        rows: these, as `"train"`, `"val"` and `"test"`.
        settings: of the fit.
        keys: random keys, by name.
        seed: of the fit.
        protocol: of a short run, if the tilt was learned by one.
        classes: of the test rows, if the tilt tells them apart.
    """

    data: Dataset
    parts: Splits
    rows: dict[str, Rows]
    settings: Settings
    keys: Mapping[str, PRNGKeyArray]
    seed: int
    protocol: Protocol | None
    classes: Classes | None


def judge(learned: Learned, asked: Asked, listen: Callable[..., Any], keeper: Keeper) -> Result:
    """Chains, log Z, scores and checks of a learned model.

    Args:
        learned: what `train` has returned.
        asked: what it is judged by.
        listen: called as (phase, event, **fields) while it goes on.
        keeper: of the states of chains and the ladder.

    Raises:
        Interrupted: the keeper was asked to stop.
    """
    data, parts, rows = asked.data, asked.parts, asked.rows
    settings, keys = asked.settings, asked.keys

    def hear(phase: str, event: str, **fields: Any) -> None:
        listen(phase, event, **fields)
        keeper.listen()

    judged = _judge(learned.model, rows, settings, keys, listen, keeper)
    sampling_ended = keeper.clock()
    fitted = FittedModel(
        judged.model,
        learned.spec,
        judged.log_z,
        data.integers,
        float(judged.draws.step_size),
        settings.sampling.leapfrogs,
        grid=data.grid,
        columns=data.columns,
        protocol=asked.protocol,
        dropped=data.dropped,
    )
    seen = _look(fitted, judged, learned, asked, hear)
    judgement, calibration = learned.judgement, judged.calibration
    draw_key, trust_key, line_key = (jr.fold_in(keys["evidence"], n) for n in (1, 2, 3))
    exact = drawn(fitted.model, draw_key)
    checks = soundness(fitted.model, exact)
    if judged.draws.gradients:  # exact draws alone have no use for a force
        checks += smoothness(fitted.model.tilt, exact.y, line_key)
    checks += against_weighted(judged.draws, exact.u, exact.f)
    checks += between_sides(judged.log_z, judged.f_backbone, judged.draws.summaries["f"])
    if rows["train"].noise is None:
        checks.append(no_atoms(data, parts.train))
    checks += checks_of(judged.log_z, judgement, judged.found.gain, calibration)
    checks += trained_short(fitted.protocol)
    drifted = drift(
        fitted.model,
        rows["train"],
        settings.sampling,
        judged.draws.step_size,
        jr.fold_in(keys["evidence"], 4),
        protocol=fitted.protocol,
    )
    simple: dict[str, Any] = {}
    if judged.scores.bad:
        checks.append(finite(judged.scores))
    else:
        simple, check = _beside_simple_models(judged, rows, asked.seed, hear)
        checks += [*trust(judged.scores, fitted.model, rows, trust_key), check]
    metrics = {
        "data": of_data(data, parts),
        **of_likelihood(judged.found, judged.log_z),
        **simple,
        "learning": {
            "log_z_witnesses": float(judgement.log_z),
            "log_z_running": float(judgement.running),
            "log_z_learners": float(judgement.learners),
        },
        "mixing": judged.mixed.to_dict(),
        "drift": drifted.to_dict(),
        **seen.metrics,
        **({} if calibration is None else {"calibration": calibration.to_dict()}),
        "verdict": _verdict(judged, [*checks, *seen.checks]),
        "seed": asked.seed,
        "seconds": seconds_of(learned.ended, sampling_ended, keeper.clock()),
    }
    if (classes := asked.classes) is not None:
        log_probs = class_log_probs(fitted.model, rows["test"], jr.fold_in(keys["score"], 2))
        told = classified(log_probs, classes.labels, seed=asked.seed)
        metrics["classes"] = {**told.to_dict(), "names": classes.names}
    if are_bytes_of_images(data):
        add_bits(metrics, int(np.prod(data.shape)))
    metrics["backbone"]["nll_val"] = learned.nll_val
    metrics["gain_nats"]["val_by_witnesses"] = float(judgement.gain_val)
    return Result(fitted, metrics, seen.evidence)


def foresee(model: TiltedModel, asked: Asked) -> None:
    """The programs that `judge` will need of a model of these shapes (`parallel/ahead.py`)."""
    sampling, rows, key = asked.settings.sampling, asked.rows, asked.keys["evidence"]
    draws, _ = enough_chains(model, sampling, key, silent)
    exact_f(model, sampling.exact_draws, key)
    scores = score(model, rows["test"], key)
    drawn(model, key)
    trust(scores, model, rows, key)
    drift(model, rows["train"], sampling, draws.step_size, key, protocol=asked.protocol)


class _Judged(NamedTuple):
    """What chains started afresh, and test rows, say of a model.

    Attributes:
        model: as it was learned, or scaled by `calibration`.
        draws, mixed: of the chains.
        f_backbone: f at exact draws of the backbone.
        log_z, scores, found: the likelihood of the test rows, and what it is made of.
    """

    model: TiltedModel
    calibration: Calibration | None
    draws: Draws
    mixed: Mixing
    f_backbone: np.ndarray
    log_z: LogZ
    scores: Scores
    found: Likelihood


def _judge(
    model: TiltedModel,
    rows: dict[str, Rows],
    settings: Settings,
    keys: Mapping[str, PRNGKeyArray],
    listen: Callable[..., Any],
    keeper: Keeper,
) -> _Judged:
    draws, mixed = enough_chains(model, settings.sampling, keys["chains"], listen, keeper=keeper)
    calibration = None
    if settings.sampling.calibrate and isinstance(model.tilt, SCALABLE):
        few = rows["val"].first(settings.tilt.judge_rows)
        f_val = score(model, few, jr.fold_in(keys["score"], 1), settings.tilt.judge_draws).f
        calibration = calibrate(f_val, draws.summaries["f"])
        if calibration.matters:
            model = TiltedModel(model.backbone, scaled(model.tilt, calibration.beta))
            draws, mixed = enough_chains(
                model, settings.sampling, keys["again"], listen, keeper=keeper, stage="again"
            )
    f_backbone = np.asarray(exact_f(model, settings.sampling.exact_draws, keys["bank"]))
    log_z = _log_z(model, draws, f_backbone, keys, listen, keeper)
    scores = score(model, rows["test"], keys["score"])
    found = Likelihood.unknown() if scores.bad else likelihood(scores, log_z)
    return _Judged(model, calibration, draws, mixed, f_backbone, log_z, scores, found)


def _beside_simple_models(
    judged: _Judged, rows: dict[str, Rows], seed: int, hear: Callable[..., Any]
) -> tuple[dict[str, Any], Check]:
    """Their block of the metrics, and the check that none of them is ahead of the model."""
    hear("simple", "started")
    simple = simple_models(rows, seed=seed)
    log_q, log_p = judged.scores.of_rows()
    ahead, alone = ahead_of(log_p, judged.log_z, simple), ahead_of(log_q, CERTAIN, simple)
    is_bound = not isinstance(judged.model.backbone, Flow)
    check = not_behind(ahead, is_bound=is_bound, alone=alone, gained=judged.found.gain)
    return {"simple_models": block_of(simple, ahead)}, check


def _verdict(judged: _Judged, checks: Sequence[Check]) -> dict[str, Any]:
    verdict = judged.mixed.verdict(checks)
    if is_backbone(judged.found.gain):
        verdict["text"] += " The tilt gains nothing: the model is its backbone."
    elif judged.found.gain.low <= 0 <= judged.found.gain.high:
        verdict["text"] += " No gain over the backbone is certain: it alone may be as good."
    return verdict


class _Seen(NamedTuple):
    """What a closer look has found: blocks of the metrics, checks, and arrays for the report."""

    metrics: dict[str, Any]
    checks: Sequence[Check]
    evidence: dict[str, np.ndarray]


def _look(
    fitted: FittedModel,
    judged: _Judged,
    learned: Learned,
    asked: Asked,
    hear: Callable[..., Any],
) -> _Seen:
    """At samples: of a generator, of two tilts, of images."""
    data, parts, rows, keys = asked.data, asked.parts, asked.rows, asked.keys
    draws, scores, log_z = judged.draws, judged.scores, judged.log_z
    test, metrics, checks = data.take(parts.test), {}, []
    if has_noise(fitted.model.backbone):
        generated = look_at(
            fitted,
            draws,
            log_z,
            float(scores.f.mean()),
            test.values,
            data.take(parts.train[:ROWS]).values,
            key=keys["generated"],
            listen=hear,
        )
        metrics |= generated.metrics
        checks = generated.checks
    stages = None
    if learned.first is not None and not scores.bad:
        stages = gains_by_stage(
            learned.first,
            rows["test"],
            scores,
            log_z,
            replace(asked.settings.sampling, kernel=None),
            keys=(keys["score"], keys["stages"]),
            listen=hear,
        )
    evidence = gather_evidence(
        fitted, test, draws, judged.mixed, scores, judged.f_backbone, key=keys["evidence"]
    )
    if len(data.shape) > 1:
        positions = np.asarray(draws.positions)
        hear("copies", "started", training=len(parts.train))
        copied = copies(fitted, positions, test.values, rows["train"].array())
        hear("interpolation", "started")
        evidence |= copied.evidence | interpolation(fitted, positions, test.values)
        metrics["copies"] = copied.metrics
    if stages is not None:
        metrics["stages"] = stages.to_dict()
    return _Seen(metrics, checks, evidence)


def _log_z(
    model: TiltedModel,
    draws: Draws,
    f_backbone: np.ndarray,
    keys: Mapping[str, PRNGKeyArray],
    listen: Callable[..., Any],
    keeper: Keeper,
) -> LogZ:
    """log Z from fresh chains and exact draws; by the ladder, where these do not suffice."""
    positions, exact_draws = np.asarray(draws.positions), len(f_backbone)
    if model.mixture is None or not model.backbone.is_normal:
        found = from_values(f_backbone, draws.summaries["f"])
    else:
        found = from_exact(model, positions, exact_draws, keys["bank"])
    # Exact draws of an ensemble are as near as its ladder begins, which is dear to climb.
    if found.holds or not model.backbone.is_normal:
        return found
    return log_normalizer(
        model,
        key=keys["ladder"],
        draws=positions,
        exact_draws=exact_draws,
        on_round=lambda done, total, lower, upper: listen(
            "ladder", "round", step=done, steps=total, lower=lower, upper=upper
        ),
        rounds=KeptRounds(keeper),
    )
