"""Drift: what chains say of a model after 1, 2, 5, 10, ... transitions since their start.

The chains of a model that was learned in equilibrium come from the backbone's draws to where the
training rows are, and stay there. A model that was learned with chains of k transitions is right
after k, and no sooner or later: mean f reaches that of the rows about there, and goes on past it
(Agoritsas et al. 2023, arXiv 2301.09428). R-hat of long chains does not show it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.chains import SamplingSettings, fresh_chains
from tiltflow.learning import Rows
from tiltflow.mcmc.langevin import UnadjustedLangevin
from tiltflow.mcmc.run import sample
from tiltflow.model.latent_chains import summary_of
from tiltflow.model.short_run import Protocol
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of

LONGEST = 100  # transitions that are followed, at most
SHARE = 8  # of the draws of a judgement, one in so many are spent on this
TIMES_AS_LONG = 10  # as a short run, its chains are followed
ROWS = 1_000
WITHIN, LEAST = 2.5, 0.5  # standard errors, and nats, that matter


@dataclass(frozen=True, eq=False)
class Drift:
    """Mean f of chains against transitions since their start.

    Attributes:
        transitions: `[times]`, from 1 on.
        f, f_error: of the chains, `[times]`, nats.
        norm: mean |u|^2, `[times]`.
        f_data, f_data_error: of training rows.
    """

    transitions: np.ndarray
    f: np.ndarray
    f_error: np.ndarray
    norm: np.ndarray
    f_data: float
    f_data_error: float

    @property
    def apart(self) -> Float[np.ndarray, " times"]:
        """Mean f of the chains less that of the rows, nats."""
        return self.f - self.f_data

    @property
    def nearest(self) -> int:
        """After how many transitions the chains are nearest to the rows."""
        return int(self.transitions[np.argmin(np.nan_to_num(np.abs(self.apart), nan=np.inf))])

    @property
    def passes(self) -> bool:
        """Whether chains go past the rows: a model of too few transitions."""
        return not self.apart[-1] <= self._matters[-1]

    @property
    def _matters(self) -> np.ndarray:
        return np.maximum(LEAST, WITHIN * np.hypot(self.f_error, self.f_data_error))

    @property
    def words(self) -> str:
        """What is seen, in a sentence."""
        last = int(self.transitions[-1])
        there = f"mean f is {self.f[-1]:.4g} after {last} transitions from the start"
        rows = f"{self.f_data:.4g} at training rows"
        if self.passes:
            return (
                f"Drift: {there}, and {rows}: chains go past the data, where they are nearest "
                f"after {self.nearest}. The model was learned with chains that were too short."
            )
        if self.apart[-1] < -self._matters[-1]:
            return f"No drift past the data: {there}, below {rows}."
        return f"No drift: {there}, and {rows}."

    def to_dict(self) -> dict[str, Any]:
        """The block `drift` of the metrics."""
        return {
            "transitions": [int(t) for t in self.transitions],
            "f": _plain(self.f),
            "f_error": _plain(self.f_error),
            "norm": _plain(self.norm),
            "f_data": self.f_data,
            "f_data_error": self.f_data_error,
            "nearest": self.nearest,
            "passes": self.passes,
            "words": self.words,
        }


def drift_of(
    f: Float[np.ndarray, "chains draws"],
    norm: Float[np.ndarray, "chains draws"],
    f_data: Float[np.ndarray, " rows"],
) -> Drift:
    """The drift of chains whose draw number t (from 1) is t transitions from the start."""
    length = f.shape[1]
    times = [m * 10**e for e in range(9) for m in (1, 2, 5) if m * 10**e <= length]
    times = np.array(sorted({*times, length}))
    f, norm, f_data = (np.asarray(x, np.float64) for x in (f, norm, f_data))
    return Drift(
        transitions=times,
        f=f[:, times - 1].mean(axis=0),
        f_error=f[:, times - 1].std(axis=0, ddof=1) / np.sqrt(len(f)),
        norm=norm[:, times - 1].mean(axis=0),
        f_data=float(f_data.mean()),
        f_data_error=float(f_data.std(ddof=1) / np.sqrt(len(f_data))) if len(f_data) > 1 else 0.0,
    )


def drift(
    model: TiltedModel,
    train: Rows,
    sampling: SamplingSettings,
    step_size: float,
    key: PRNGKeyArray,
    *,
    protocol: Protocol | None = None,
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
) -> Drift:
    """Follow chains from their start, without warm-up, beside training rows.

    Args:
        model: to follow.
        train: rows that it was learned from; `ROWS` of them are looked at.
        sampling, step_size: how the chains of its judgement move; they start from the backbone.
        key: random key.
        protocol: of a short run: then its chains move and start as it says.
        listen: called as (phase, event, **fields) while it goes on.
    """
    row_key, start_key, key = jr.split(key, 3)
    rows = train.first(ROWS).through(model.backbone)
    c = rows.every(row_key, 1)[0][:, 0]
    f_data = np.asarray(f_of(model.tilt, c))
    if protocol is None:
        length = max(4, min(LONGEST, sampling.draws // SHARE))
        how = replace(sampling, draws=length, warmup=0, far=False)
        draws = fresh_chains(model, how, key, listen, step_size=step_size)
    else:
        picked = jr.choice(start_key, len(c), (sampling.chains,))
        start = protocol.starts(model.backbone, start_key, jnp.asarray(c)[picked])
        draws = sample(
            key,
            model.latent_log_densities,
            start,
            num_draws=TIMES_AS_LONG * protocol.transitions,
            num_warmup=0,
            kernel=UnadjustedLangevin(),
            step_size=protocol.step_size,
            summary=summary_of(model),
        )
    return drift_of(draws.summaries["f"], draws.summaries["norm"], f_data)


def trained_short(protocol: Protocol | None) -> list[Check]:
    """The check that no short-run model passes; none of any other."""
    if protocol is None:
        return []
    return [
        Check(
            name="learned by a short run",
            value=1.0,
            limit=0.0,
            ok=False,
            part="tilt",
            severity="caution",
            means=f"The tilt was learned with chains of {protocol.transitions} unadjusted "
            f"transitions from {protocol.start}: it is right for these, and is no density of the "
            "data.",
            try_="Draw by its own protocol only; for a density learn with learner='population'.",
        )
    ]


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in values]
