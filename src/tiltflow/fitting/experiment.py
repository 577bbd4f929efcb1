"""From a data set to a trusted model: backbone, tilt, chains, log Z, verdict.

`fit` is what `tiltflow fit` runs. Everything random comes from its one seed, and nothing
depends on the clock, so that the same seed gives the same numbers on the same machine, however
often the fit was interrupted and gone on with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from tiltflow.backbones import Flow
from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.data import Dataset, Splits, load, split
from tiltflow.data.checks import refuse_constant_in_training
from tiltflow.data.dependent import refuse_dependent
from tiltflow.data.kinds import KEEP
from tiltflow.diagnostics.verdict import Check
from tiltflow.errors import InputError
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
from tiltflow.evaluation.quality import suited as suited_features
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
from tiltflow.fitting.own_parts import OwnParts, chosen
from tiltflow.fitting.recipes import units_for
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.training import Learned, train
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.rows import in_little_memory, noise_of
from tiltflow.mcmc.draws import Draws
from tiltflow.model.fitted import FittedModel
from tiltflow.model.log_normalizer import exact_f, from_exact, log_normalizer
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ, from_values
from tiltflow.normalizer.gain import CERTAIN
from tiltflow.parallel.memory_maps import let_go_if_many

KEYS = (
    "flow", "backbone", "tilt", "learn", "chains", "bank", "score", "evidence",
    "again", "ladder", "generated", "stages",
)  # fmt: skip


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


def fit(
    data: Dataset | np.ndarray | str | Path,
    settings: Settings | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    atoms: str = "keep",
    backbone: Any = None,
    tilt: Any = None,
    learner: Any = None,
    seed: int = 0,
    parts: Splits | None = None,
    listen: Callable[..., Any] = silent,
    keeper: Keeper | None = None,
) -> Result:
    """Fit a tilted flow to `data` and say how far to trust it.

    Args:
        data: from `tiltflow.load_data`, or what it takes: an array `[rows, *event_shape]`, ...
        settings: those that suit the size of the data, if None (`settings.suited`).
        columns: what columns are, whatever they look like, by name: `"continuous"`, `"grid"`,
            `"grid:0.05"` or `"category"`; as in `tiltflow.load_data`, which a `Dataset` has been
            through.
        atoms: `"separate"` sets values apart that many rows of a continuous column share, likewise.
        backbone: `"coupling"`, `"ensemble"`, `"gaussian"`, `"glow"` or `"vae"`; or an object: a
            flow or a distribution of flowjax, which are learned; one of them in `backbones.Kept`,
            or a generator, which are taken as they are; or a function of (units, key=key), such as
            a class of flows, that makes a flow over units fitted to the data.
        tilt: `"mlp"`, `"conv"`, or `"classes"`, which tells the labels of the data apart, so that
            the likelihood of both is learned, and `metrics["classes"]` has accuracy and
            calibration (`tilts.ClassTilt`); or an object: a `tilts.Tilt`, such as a network in
            `tilts.NetworkTilt`, which reads coordinates; or a function or module of one example x
            in data units. What has arrays of floats in it is learned, from f = 0; what has none is
            f as it is.
        learner: `"population"`, `"persistent"`, `"nce"` or `"nce+mle"`; a `TiltSettings`; or a
            `learning.Learner`.
        seed: of everything random but the split.
        parts: training, validation and test rows; None: as `tiltflow.data.split` has them.
        listen: called as (phase, event, **fields) while it goes on, as `EventLog.write`.
        keeper: of the states of backbone, tilt, final chains and the ladder, and asked for them
            first.

    Raises:
        InputError: data, settings or parts that cannot work.
        Interrupted: the keeper was asked to stop.
    """
    let_go_if_many()
    if not isinstance(data, Dataset):
        data = load(data, columns=columns, atoms=atoms)
    elif columns is not None or atoms != KEEP:
        raise InputError(
            f"{data.name} is read already, and its columns are to be of other kinds; expected "
            f"these in tiltflow.load_data(..., columns=..., atoms=...)"
        )
    keeper = keeper or KeepsNothing()
    parts = split(data) if parts is None else parts
    refuse_constant_in_training(data, parts.train)
    settings, own = chosen(backbone, tilt, learner, settings, len(parts.train), data.shape)
    settings.check(seed)
    keys = dict[str, PRNGKeyArray](zip(KEYS, jr.split(jr.key(seed), len(KEYS)), strict=True))
    train_values = data.take(parts.train).values
    noise = noise_of(train_values, settings.model.noise)
    if noise is None:
        refuse_dependent(data, parts.train)
        train_values = _cells_of(data, parts.train)
    else:  # rows plus noise are continuous, whatever they were
        if data.grid is not None and data.grid.levels:
            raise InputError(
                f"noise is {settings.model.noise:g}, and {data.name} has categories, whose labels "
                f"are no numbers to add it to; expected 0: leave the noise out, or the columns"
            )
        data = replace(data, integers=False, grid=None)
        rng = np.random.default_rng(seed)
        train_values = train_values + (noise * rng.standard_normal(train_values.shape)).astype("f4")
    units = own.units or units_for(
        settings.model,
        train_values,
        integers=data.integers,
        limits=(float(data.values.min()), float(data.values.max())),
        grid=data.grid,
    )
    if units.data_shape != data.shape:
        raise InputError(
            f"the backbone makes data of shape {units.data_shape}; expected {data.shape}, that of "
            f"one example of the data"
        )
    own, names, labels = _classes(own, data)
    rows = {
        name: Rows(
            in_little_memory(_cells_of(data, index), integers=data.integers),
            units,
            data.integers,
            noise=noise,
            steps=None if data.grid is None else data.grid.step,
            labels=None if labels is None else labels[index],
            atoms=atom_cells(data.grid),
        )
        for name, index in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    }
    learned = train(
        rows["train"],
        rows["val"],
        settings,
        features=suited_features(data.take(parts.val).values),
        keys=keys,
        listen=listen,
        keeper=keeper,
        own=own,
    )

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
        protocol=getattr(own.stage, "protocol", None),
        dropped=data.dropped,
    )
    seen = _look(fitted, judged, learned, data, parts, rows, settings, keys, hear)
    judgement, calibration = learned.judgement, judged.calibration
    draw_key, trust_key, line_key = (jr.fold_in(keys["evidence"], n) for n in (1, 2, 3))
    exact = drawn(fitted.model, draw_key)
    checks = soundness(fitted.model, exact)
    if judged.draws.gradients:  # exact draws alone have no use for a force
        checks += smoothness(fitted.model.tilt, exact.y, line_key)
    checks += against_weighted(judged.draws, exact.u, exact.f)
    checks += between_sides(judged.log_z, judged.f_backbone, judged.draws.summaries["f"])
    if noise is None:
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
        simple, check = _beside_simple_models(judged, rows, seed, hear)
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
        "seed": seed,
        "seconds": seconds_of(learned.ended, sampling_ended, keeper.clock()),
    }
    if labels is not None:
        log_probs = class_log_probs(fitted.model, rows["test"], jr.fold_in(keys["score"], 2))
        told = classified(log_probs, labels[parts.test], seed=seed)
        metrics["classes"] = {**told.to_dict(), "names": names}
    if are_bytes_of_images(data):
        add_bits(metrics, int(np.prod(data.shape)))
    metrics["backbone"]["nll_val"] = learned.nll_val
    metrics["gain_nats"]["val_by_witnesses"] = float(judgement.gain_val)
    return Result(fitted, metrics, seen.evidence)


def _classes(
    own: OwnParts, data: Dataset
) -> tuple[OwnParts, list[int], Int[np.ndarray, " rows"] | None]:
    """For a tilt that tells them apart: how many, their names, and each row's, counted from 0.

    Raises:
        InputError: the data have no labels.
    """
    if not own.tells_classes:
        return own, [], None
    if data.labels is None:
        raise InputError(
            f"{data.name} has no labels for a tilt that tells classes apart; expected labelled "
            f"data, such as an .npz file with x and y, or another tilt"
        )
    names, labels = np.unique(data.labels, return_inverse=True)
    return replace(own, classes=len(names)), [int(name) for name in names], labels


def _cells_of(data: Dataset, index: np.ndarray) -> np.ndarray:
    """Rows as the lower ends of their cells, float32."""
    values = data.take(index).values
    return values if data.grid is None else data.grid.to_cells(values)


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
    keys: dict[str, PRNGKeyArray],
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
    check = not_behind(ahead, is_bound=is_bound, alone=alone)
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
    data: Dataset,
    parts: Splits,
    rows: dict[str, Rows],
    settings: Settings,
    keys: dict[str, PRNGKeyArray],
    hear: Callable[..., Any],
) -> _Seen:
    """At samples: of a generator, of two tilts, of images."""
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
            replace(settings.sampling, kernel=None),
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
    keys: dict[str, PRNGKeyArray],
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
