"""From a data set to a trusted model: backbone, tilt, chains, log Z, verdict.

`fit` is what `tiltflow fit` runs. Everything random comes from its one seed, and nothing
depends on the clock, so that the same seed gives the same numbers on the same machine, however
often the fit was interrupted and gone on with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.random as jr
import numpy as np

from tiltflow.data import Dataset, Splits, split
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.chains import fresh_chains
from tiltflow.evaluation.evidence import gather_evidence
from tiltflow.evaluation.generated import ROWS, classes_of, has_noise, look_at
from tiltflow.evaluation.likelihood import Likelihood, bits_per_dim, likelihood, score
from tiltflow.evaluation.mixing import mixing
from tiltflow.evaluation.quality import suited as suited_features
from tiltflow.fitted import FittedModel
from tiltflow.learning import Rows, fit_tilt
from tiltflow.learning.fit_mixture import fit_mixture
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.rows import in_little_memory
from tiltflow.learning.witnesses import Judgement
from tiltflow.normalizer import Interval, LogZ, from_values
from tiltflow.normalizer.log_normalizer import exact_f, from_exact, log_normalizer
from tiltflow.recipes import begin_backbone, begin_tilt, learn_backbone, specification, units_for
from tiltflow.settings import Settings, suited
from tiltflow.spec_vae import VAESpec
from tiltflow.tilted import TiltedModel
from tiltflow.tilts import MixtureTilt

KEYS = ("flow", "backbone", "tilt", "learn", "chains", "bank", "score", "evidence")
HONEST = 0.3  # nats between the witnesses' log Z and that of fresh chains


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
    data: Dataset,
    settings: Settings | None = None,
    *,
    seed: int = 0,
    parts: Splits | None = None,
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
    keeper: Keeper | None = None,
) -> Result:
    """Fit a tilted flow to `data` and say how far to trust it.

    Args:
        data: from `tiltflow.load_data`.
        settings: those that suit the size of the data, if None (`settings.suited`).
        seed: of everything random but the split.
        parts: training, validation and test rows; None: as `tiltflow.data.split` has them.
        listen: called as (phase, event, **fields) while it goes on, as `EventLog.write`.
        keeper: of the states of backbone and tilt, and asked for them first; chains, which
            follow from the tilt, are begun again.

    Raises:
        InputError: data or settings that cannot work.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    parts = split(data) if parts is None else parts
    settings = settings or suited(len(parts.train), int(np.prod(data.shape)))
    settings.check(seed)
    keys = dict(zip(KEYS, jr.split(jr.key(seed), len(KEYS)), strict=True))
    ladder_key = jr.fold_in(jr.key(seed), 1)
    units = units_for(
        settings.model,
        data.take(parts.train).values,
        integers=data.integers,
        limits=(float(data.values.min()), float(data.values.max())),
    )
    train, val, test = (
        Rows(
            in_little_memory(data.take(index).values, integers=data.integers), units, data.integers
        )
        for index in (parts.train, parts.val, parts.test)
    )
    spec = specification(settings.model, units)
    backbone = begin_backbone(spec, units, key=keys["flow"])
    backbone, found = _stage(
        keeper,
        "backbone",
        backbone,
        lambda: learn_backbone(
            backbone, train, val, settings, key=keys["backbone"], listen=listen, keeper=keeper
        ),
    )
    nll_val, backbone_ended = found["value"], found["ended"]
    mixture = None
    if isinstance(spec, VAESpec) and spec.components:
        listen("mixture", "started", components=spec.components)
        mixture, _ = _stage(
            keeper,
            "mixture",
            MixtureTilt.standard(spec.components, spec.z_dim),
            lambda: (
                fit_mixture(
                    train.through(backbone), spec.components, key=jr.fold_in(keys["tilt"], 2)
                ),
                None,
            ),
        )
    tilt, start = begin_tilt(spec, mixture, settings.tilt.particles, key=keys["tilt"])
    (tilt, judgement), found = _stage(
        keeper,
        "tilt",
        (tilt, Judgement.nothing()),
        lambda: (
            fit_tilt(
                backbone, tilt, train, val, settings.tilt, key=keys["learn"], listen=listen,
                keeper=keeper, start=start,
                classes=classes_of(backbone, suited_features(data.values)),
            )[:2],
            None,
        ),
    )  # fmt: skip
    tilt_ended = found["ended"]
    model = TiltedModel(backbone, tilt)

    def hear(phase: str, event: str, **fields: Any) -> None:
        listen(phase, event, **fields)
        keeper.listen()

    draws = fresh_chains(model, settings.sampling, keys["chains"], hear)
    mixed = mixing(draws)
    f_backbone = np.asarray(exact_f(model, settings.sampling.exact_draws, keys["bank"]))
    log_z = (
        from_values(f_backbone, draws.summaries["f"])
        if model.mixture is None
        else from_exact(model, np.asarray(draws.positions), len(f_backbone), keys["bank"])
    )
    if not log_z.holds:
        log_z = log_normalizer(
            model,
            key=ladder_key,
            draws=np.asarray(draws.positions),
            exact_draws=settings.sampling.exact_draws,
        )
    scores = score(model, test, keys["score"])
    found = likelihood(scores, log_z)
    sampling_ended = keeper.clock()

    fitted = FittedModel(
        model, spec, log_z, data.integers, float(draws.step_size), settings.sampling.leapfrogs
    )
    generated = None
    if has_noise(backbone):
        generated = look_at(
            fitted,
            draws,
            log_z,
            float(scores.f.mean()),
            data.take(parts.test).values,
            data.take(parts.train[:ROWS]).values,
            key=jr.fold_in(jr.key(seed), 2),
            listen=hear,
        )
    evidence = gather_evidence(
        fitted, data.take(parts.test), draws, mixed, scores, f_backbone, key=keys["evidence"]
    )
    metrics = {
        "data": {
            "name": data.name,
            "train": len(parts.train),
            "val": len(parts.val),
            "test": len(parts.test),
            "shape": list(data.shape),
            "integers": data.integers,
        },
        **_likelihood(found, log_z),
        "learning": {
            "log_z_witnesses": float(judgement.log_z),
            "log_z_running": float(judgement.running),
            "log_z_learners": float(judgement.learners),
        },
        "mixing": mixed.to_dict(),
        **({} if generated is None else generated.metrics),
        "verdict": mixed.verdict(
            [
                *_checks(log_z, judgement, found.gain),
                *([] if generated is None else generated.checks),
            ]
        ),
        "seed": seed,
        "seconds": {
            "backbone": round(backbone_ended, 2),
            "tilt": round(tilt_ended - backbone_ended, 2),
            "sampling": round(sampling_ended - tilt_ended, 2),
            "total": round(keeper.clock(), 2),
        },
    }
    if _are_bytes_of_images(data):
        _add_bits(metrics, int(np.prod(data.shape)))
    metrics["backbone"]["nll_val"] = nll_val
    metrics["gain_nats"]["val_by_witnesses"] = float(judgement.gain_val)
    return Result(fitted, metrics, evidence)


def _stage(
    keeper: Keeper, name: str, like: Any, run: Callable[[], tuple[Any, float | None]]
) -> tuple[Any, dict[str, Any]]:
    """The result of a stage, as it was found or as `run` makes it: a pytree, and a number.

    Beside the pytree are `value`, the number, and `ended`, the keeper's clock at the end.
    """
    if (found := keeper.finished(name, like)) is not None:
        return found
    tree, value = run()
    plain = {"value": value, "ended": keeper.clock()}
    keeper.finish(name, tree, plain)
    return tree, plain


def _likelihood(found: Likelihood, log_z: LogZ) -> dict[str, Any]:
    """The blocks `backbone`, `tilted`, `gain_nats` and `log_z` of the metrics."""
    return {
        "backbone": {"nll_test": found.backbone.mean},
        "tilted": {
            "nll_test": found.tilted.mean,
            "nll_low": found.tilted.low,
            "nll_high": found.tilted.high,
        },
        "gain_nats": {
            "mean": found.gain.mean,
            "low": found.gain.low,
            "high": found.gain.high,
            "se_log_z": found.gain.se_estimator,
            "se_test": found.gain.se_test,
        },
        "log_z": log_z.to_dict(),
    }


def _are_bytes_of_images(data: Dataset) -> bool:
    """Whether they are images of 8-bit integers."""
    in_bytes = data.integers and data.values.min() >= 0 and data.values.max() <= 255
    return bool(in_bytes) and len(data.shape) > 1


def _add_bits(metrics: dict[str, Any], dim: int) -> None:
    """Bits per dimension beside the nats per example."""
    for block, nats, bits in (
        ("backbone", "nll_test", "bpd"),
        ("tilted", "nll_test", "bpd"),
        ("tilted", "nll_low", "bpd_low"),
        ("tilted", "nll_high", "bpd_high"),
    ):
        metrics[block][bits] = bits_per_dim(metrics[block][nats], dim)


def _checks(log_z: LogZ, judgement: Judgement, gained: Interval) -> list[Check]:
    """What is judged beside the chains: log Z, and whether learning has told the truth."""
    apart = abs(log_z.mean - float(judgement.log_z))
    allowed = max(HONEST, 3 * log_z.standard_error)
    return [
        Check(
            name="log Z, standard error",
            value=log_z.standard_error,
            limit=0.5,
            ok=log_z.holds and log_z.standard_error <= 0.5,
            severity="failed",
            means="The likelihood of the tilted model is not known."
            if log_z.holds
            else f"The likelihood of the tilted model is not known. {log_z.words}",
            try_="Draw longer chains, or learn for fewer steps.",
        ),
        Check(
            name="witnesses against fresh chains",
            value=apart,
            limit=allowed,
            ok=apart <= allowed,
            severity="caution" if apart <= 3 * allowed else "failed",
            means="Learning and chains started afresh disagree about log Z, in nats: the gain "
            "that learning showed is not the model's.",
            try_="Trust the numbers of the fresh chains; learn with more particles, or at a lower "
            "rate.",
        ),
        Check(
            name="gain, lower end",
            value=gained.low,
            limit=0.0,
            ok=gained.low > 0,
            severity="caution",
            means="No gain over the backbone is certain: the tilt has not made the model better.",
            try_="Bring more data, learn for more steps, or use the backbone alone.",
        ),
    ]
