"""From a data set to a trusted model: backbone, tilt, chains, log Z, verdict.

`fit` is what `tiltflow fit` runs. Everything random comes from its one seed, and nothing
depends on the clock, so that the same seed gives the same numbers on the same machine.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones import fit_units
from tiltflow.backbones.units import KINDS
from tiltflow.data import Dataset, split
from tiltflow.diagnostics.verdict import Check
from tiltflow.errors import InputError, at_least_one, check_seed
from tiltflow.evaluation.evidence import gather_evidence
from tiltflow.evaluation.likelihood import Scores, score
from tiltflow.evaluation.mixing import mixing
from tiltflow.fitted import FittedModel
from tiltflow.latent import chain_summary
from tiltflow.learning import BackboneSettings, Rows, TiltSettings, fit_backbone, fit_tilt
from tiltflow.learning.witnesses import Judgement
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.news import News
from tiltflow.mcmc.run import sample as run_chains
from tiltflow.normalizer import Interval, LogZ, gain, interval_of_nll, log_normalizer
from tiltflow.spec import specify
from tiltflow.tilted import TiltedModel

HONEST = 0.3  # nats between the witnesses' log Z and that of fresh chains


@dataclass(frozen=True)
class ModelSettings:
    """The sizes of the networks, and the units; as in `spec.ModelSpec`."""

    units: str = "auto"
    blocks: int = 3
    flow_width: int = 64
    flow_dropout: float = 0.2
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3


@dataclass(frozen=True)
class SamplingSettings:
    """The final chains, started from fresh backbone draws.

    Attributes:
        chains: run side by side.
        draws: kept of each.
        warmup: transitions before that.
        leapfrogs: in a transition.
        exact_draws: of the backbone, for log Z.
    """

    chains: int = 32
    draws: int = 2_500
    warmup: int = 300
    leapfrogs: int = 8
    exact_draws: int = 200_000


@dataclass(frozen=True)
class Settings:
    """All settings of `fit`; each part has its defaults and explanations in its own class."""

    model: ModelSettings = field(default_factory=ModelSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    tilt: TiltSettings = field(default_factory=TiltSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work, or a negative seed."""
        check_seed(seed)
        at_least_one(self.model, "blocks", "flow_width", "tilt_width", "tilt_depth")
        at_least_one(self.backbone, "steps", "batch", "patience")
        self.tilt.check()
        at_least_one(self.sampling, "leapfrogs", "exact_draws")
        if self.sampling.warmup < 0:
            raise InputError(f"warmup is {self.sampling.warmup}; expected 0 or more")
        for name in ("flow_dropout", "tilt_dropout"):
            if not 0 <= getattr(self.model, name) < 1:
                raise InputError(f"{name} is {getattr(self.model, name)}; expected [0, 1)")
        if self.model.units not in ("auto", *KINDS):
            raise InputError(f"units {self.model.units!r}; expected auto, {', '.join(KINDS)}")
        for name in ("chains", "draws"):
            if getattr(self.sampling, name) < 4:
                raise InputError(f"{getattr(self.sampling, name)} {name}; expected at least 4")


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
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
) -> Result:
    """Fit a tilted flow to `data` and say how far to trust it.

    Args:
        data: from `tiltflow.load_data`; split by `tiltflow.data.split`.
        settings: the defaults are for small data on a laptop.
        seed: of everything random but the split.
        listen: called as (phase, event, **fields) while it goes on, as `EventLog.write`.

    Raises:
        InputError: data or settings that cannot work.
    """
    settings = settings or Settings()
    settings.check(seed)
    started = time.monotonic()
    keys = dict(zip(("flow", "backbone", "tilt", "learn", "chains", "bank", "score", "evidence"),
                    jr.split(jr.key(seed), 8), strict=True))  # fmt: skip
    parts = split(data.rows, name=data.name)
    units = fit_units(
        settings.model.units,
        data.values[parts.train],
        integers=data.integers,
        limits=(float(data.values.min()), float(data.values.max())),
    )
    train, val, test = (
        Rows(jnp.asarray(data.values[index]), units, data.integers)
        for index in (parts.train, parts.val, parts.test)
    )
    sizes = {k: v for k, v in vars(settings.model).items() if k != "units"}
    spec = specify(units, **sizes)

    flow, nll_val = fit_backbone(
        spec.flow(units, key=keys["flow"]),
        train,
        val,
        settings.backbone,
        key=keys["backbone"],
        listen=listen,
    )
    backbone_done = time.monotonic()
    tilt, judgement, _ = fit_tilt(
        flow,
        spec.tilt(key=keys["tilt"]),
        train,
        val,
        settings.tilt,
        key=keys["learn"],
        listen=listen,
    )
    model = TiltedModel(flow, tilt)
    tilt_done = time.monotonic()

    draws = fresh_chains(model, settings.sampling, keys["chains"], listen)
    mixed = mixing(draws)
    f_backbone = np.asarray(exact_f(model, settings.sampling.exact_draws, keys["bank"]))
    log_z = log_normalizer(f_backbone, draws.summaries["f"])
    scores = score(model, test, keys["score"])
    sampling_done = time.monotonic()

    fitted = FittedModel(
        model, spec, log_z, data.integers, float(draws.step_size), settings.sampling.leapfrogs
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
        **_likelihood(scores, log_z),
        "mixing": mixed.to_dict(),
        "verdict": mixed.verdict(_checks(log_z, judgement, gain(scores.f, log_z))),
        "seed": seed,
        "seconds": {
            "backbone": round(backbone_done - started, 2),
            "tilt": round(tilt_done - backbone_done, 2),
            "sampling": round(sampling_done - tilt_done, 2),
            "total": round(time.monotonic() - started, 2),
        },
    }
    metrics["backbone"]["nll_val"] = nll_val
    metrics["gain_nats"]["val_by_witnesses"] = float(judgement.gain_val)
    return Result(fitted, metrics, evidence)


def fresh_chains(
    model: TiltedModel, settings: SamplingSettings, key: jax.Array, listen: Callable[..., Any]
) -> Draws:
    """The final chains, from fresh draws of the backbone: nothing of the learner's is in them."""
    start_key, key = jr.split(key)
    start = jr.normal(start_key, (settings.chains, *model.backbone.latent_shape))

    def on_chunk(news: News) -> None:
        listen(
            "sampling",
            "progress",
            step=news.done,
            steps=news.total,
            part=news.phase,
            acceptance=news.acceptance,
            step_size=news.step_size,
            divergences=news.divergences,
        )

    return run_chains(
        key,
        model.latent_log_densities,
        start,
        num_draws=settings.draws,
        num_warmup=settings.warmup,
        num_leapfrogs=settings.leapfrogs,
        summary=chain_summary,
        on_chunk=on_chunk,
    )


@eqx.filter_jit
def exact_f(model: TiltedModel, number: int, key: jax.Array) -> jax.Array:
    """f at `number` exact draws of the backbone; memory does not grow with their size."""

    def one(key: jax.Array) -> jax.Array:
        u = jr.normal(key, model.backbone.latent_shape)
        return model.tilt(model.backbone.coordinates(u))

    return jax.lax.map(one, jr.split(key, number), batch_size=2048)


def _likelihood(scores: Scores, log_z: LogZ) -> dict[str, Any]:
    """The blocks `backbone`, `tilted`, `gain_nats` and `log_z` of the metrics."""
    nll = scores.nll_backbone
    gained = gain(scores.f, log_z)
    tilted = interval_of_nll(-scores.log_q, scores.f, log_z)
    return {
        "backbone": {"nll_test": float(nll.mean())},
        "tilted": {
            "nll_test": tilted.mean,
            "nll_low": tilted.low,
            "nll_high": tilted.high,
        },
        "gain_nats": {
            "mean": gained.mean,
            "low": gained.low,
            "high": gained.high,
            "se_log_z": gained.se_estimator,
            "se_test": gained.se_test,
        },
        "log_z": log_z.to_dict(),
    }


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
