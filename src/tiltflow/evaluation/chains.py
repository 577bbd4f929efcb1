"""Chains started afresh from the backbone: what every judgement of a model rests on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.random as jr

from tiltflow.backbones.glow import Glow
from tiltflow.errors import InputError, at_least_one
from tiltflow.evaluation.kept_chains import KeptChains
from tiltflow.learning.keeping import Keeper
from tiltflow.mcmc import catalogue
from tiltflow.mcmc.draws import Draws, joined
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.progress import Progress
from tiltflow.mcmc.run import sample
from tiltflow.model.exact import exact_points
from tiltflow.model.independent import independent_chains
from tiltflow.model.kernels import MOST_LEAPFROGS, kernel_of, suited_kernel
from tiltflow.model.latent_chains import summary_of
from tiltflow.model.tilted import TiltedModel

LEAST = 4  # chains, and draws of each
JUDGED = 1_500  # draws of each chain of a judgement
OF_DRAWS: dict[str, Any] = {"chains": 16, "draws": 600, "warmup": 100, "exact_draws": 20_000}
"""Chains of exact draws: few and long, as R-hat has to compare them."""
DEAR: dict[str, Any] = {"chains": 16, "draws": 400, "warmup": 100, "exact_draws": 10_000}
"""Of a model whose evaluation is dear."""
CHUNK, DEAR_CHUNK = 100, 25  # transitions between two moments at which chains may stop
FAR = 3.0  # times a draw of the backbone
STAGE = "chains"  # of a keeper


@dataclass(frozen=True)
class SamplingSettings:
    """The final chains, started from fresh backbone draws.

    Attributes:
        chains: run side by side.
        draws: kept of each.
        warmup: transitions before that.
        leapfrogs: in a transition.
        exact_draws: of the backbone, for log Z.
        at_most: how many times as many draws are made, where so many have not converged or are too
            few; 1: as many as were asked for.
        kernel: how chains move, by its name in `mcmc.catalogue`; None: as it suits the model.
        far: whether half of the chains start three times as far out as draws of the backbone, so
            that chains which agree have forgotten where they began.
        calibrate: whether the tilt's scale is then chosen on validation data (`calibration.py`),
            where that is worth other chains; a sum of tilts is left as it is.
    """

    chains: int = 32
    draws: int = 2_500
    warmup: int = 300
    leapfrogs: int = 8
    exact_draws: int = 200_000
    at_most: int = 4
    kernel: str | None = None
    far: bool = False
    calibrate: bool = False

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        at_least_one(self, "leapfrogs", "exact_draws", "at_most")
        if self.leapfrogs > MOST_LEAPFROGS:
            raise InputError(f"leapfrogs is {self.leapfrogs}; expected at most {MOST_LEAPFROGS:,}")
        if self.warmup < 0:
            raise InputError(f"warmup is {self.warmup}; expected 0 or more")
        for name in ("chains", "draws"):
            if getattr(self, name) < LEAST:
                raise InputError(f"{getattr(self, name)} {name}; expected at least {LEAST}")
        if self.kernel == catalogue.AUTO:
            raise InputError("kernel 'auto' is for sampling; expected the name of a kernel")
        if self.kernel is not None:
            catalogue.check_name(self.kernel)


def suited_sampling(model: TiltedModel) -> SamplingSettings:
    """As many chains, and as long ones, as suit a judgement of this model.

    A pass through a Glow is dear, and through all members of an ensemble: as few as a fit itself
    makes.
    """
    if isinstance(model.backbone, Glow):
        return SamplingSettings(**DEAR)
    if not model.backbone.is_normal:
        return SamplingSettings(**OF_DRAWS)
    return SamplingSettings(draws=JUDGED)


def fresh_chains(
    model: TiltedModel,
    settings: SamplingSettings,
    key: jax.Array,
    listen: Callable[..., Any],
    *,
    step_size: float = 0.1,
    kernel: Kernel | None = None,
    keeper: Keeper | None = None,
    stage: str = STAGE,
) -> Draws:
    """Chains in which nothing of a learner's is left.

    Args:
        model: to sample.
        settings: how many and how long.
        key: random key.
        listen: called as (phase, event, **fields) while it goes on.
        step_size: that warm-up starts with.
        kernel: how chains move; None: as the settings say.
        keeper: of where they are, as the stage `stage`, and asked for that first. Exact draws are
            made again.

    Raises:
        Interrupted: the keeper was asked to stop.
    """
    if _are_independent(model, settings, kernel):
        return independent_chains(
            model, key, chains=settings.chains, draws=settings.draws, warmup=settings.warmup
        )
    start_key, key = jr.split(key)
    start = exact_points(model.backbone, start_key, settings.chains)
    if settings.far:
        start = start.at[settings.chains // 2 :].multiply(FAR)
    return _sampled(
        model, settings, key, start, listen, step_size=step_size, kernel=kernel, keeper=keeper,
        stage=stage,
    )  # fmt: skip


def more_chains(
    model: TiltedModel,
    settings: SamplingSettings,
    key: jax.Array,
    draws: Draws,
    listen: Callable[..., Any],
    *,
    kernel: Kernel | None = None,
    keeper: Keeper | None = None,
    stage: str = STAGE,
) -> Draws:
    """As many draws again, with the former ones; chains go on where they ended, tuned as they are.

    Args:
        model, settings, listen, kernel, keeper: as of `fresh_chains`, which made `draws`.
        key: random key, another one.
        draws: so far.
        stage: another name than that of the former ones.
    """
    assert draws.positions is not None
    if _are_independent(model, settings, kernel):
        chains, more = draws.positions.shape[:2]
        added = independent_chains(model, key, chains=chains, draws=more, former=draws)
        return joined(draws, added)
    settings = replace(settings, draws=draws.positions.shape[1], warmup=0)
    more = _sampled(
        model, settings, key, draws.final.position, listen, step_size=draws.step_size,
        length=float(draws.tuning.length), kernel=kernel, keeper=keeper, stage=stage,
    )  # fmt: skip
    return joined(draws, more)


def moved_by(model: TiltedModel, settings: SamplingSettings) -> str:
    """The name of the kernel that `fresh_chains` move by, if none is handed to it."""
    if _are_independent(model, settings, None):
        return "independence"
    return settings.kernel or suited_kernel(model)


def _are_independent(model: TiltedModel, settings: SamplingSettings, kernel: Kernel | None) -> bool:
    """Whether chains move by exact draws of the backbone alone, as suits one that is near."""
    asked = kernel is not None or settings.kernel is not None or settings.far
    return not (model.backbone.is_normal or asked)


def _sampled(
    model: TiltedModel,
    settings: SamplingSettings,
    key: jax.Array,
    start: jax.Array,
    listen: Callable[..., Any],
    *,
    kernel: Kernel | None,
    step_size: float,
    length: float = 1.5,
    keeper: Keeper | None = None,
    stage: str = STAGE,
) -> Draws:
    sink = None if keeper is None else KeptChains(settings.draws, keeper, stage)

    def on_chunk(news: Progress) -> None:
        listen("sampling", "progress", **news.event())
        if sink is not None:
            sink.offer()

    draws = sample(
        key,
        model.latent_log_densities,
        start,
        num_draws=settings.draws,
        num_warmup=settings.warmup,
        kernel=kernel or kernel_of(model, settings.kernel, settings.leapfrogs),
        summary=summary_of(model),
        on_chunk=on_chunk,
        step_size=step_size,
        length=length,
        sink=sink,
        chunk=DEAR_CHUNK if isinstance(model.backbone, Glow) else CHUNK,
    )
    if sink is not None:
        sink.finish()
    return draws
