"""What the battery of `verdicts.py` is made of: a case, what came of it, and small fits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

import tiltflow
from tiltflow.data import Dataset
from tiltflow.errors import InputError
from tiltflow.fitting.settings import Settings, suited_to

ROWS = 1_000


@dataclass(frozen=True)
class Outcome:
    """What a fit's verdict says.

    Attributes:
        status: of the verdict; `"refused"`: there was no fit, for words that a user is told.
        part: that it names, or that the words of a refusal speak of.
        words: its text, or those of the refusal.
        checks: the names of those that were not passed.
    """

    status: str
    part: str | None
    words: str
    checks: list[str]


@dataclass(frozen=True)
class Case:
    """A fit, and what is broken in it.

    Attributes:
        name: of the line.
        part: that is broken; None: nothing is.
        how: it is, or what the rows are.
        run: the fit.
    """

    name: str
    part: str | None
    how: str
    run: Callable[[], Outcome]


def small(backbone: str = "coupling") -> Settings:
    """A fit of seconds, once its programs are compiled."""
    settings = suited_to("ensemble", ROWS, (3,)) if backbone == "ensemble" else Settings()
    return replace(
        settings,
        model=replace(
            settings.model,
            units="auto" if backbone == "ensemble" else "standardise",
            blocks=2,
            flow_width=64,
            flow_dropout=0.0,
            tilt_width=32,
            tilt_depth=1,
            tilt_dropout=0.1,
        ),
        backbone=replace(settings.backbone, steps=1_500, batch=128, rate=3e-3, decay=0.01),
        members=replace(settings.members, mixtures=2, flows=0),
        tilt=replace(
            settings.tilt,
            steps=800,
            rate=3e-3,
            memory=0.98,
            particles=1_024,
            batch_particles=256,
            bank=5_000,
            judge_every=2,
            patience=5,
        ),
        sampling=replace(
            settings.sampling, chains=16, draws=1_000, warmup=200, exact_draws=20_000, at_most=4
        ),
    )


def fitted(
    data: Dataset | np.ndarray | Callable[[], Any], settings: Settings | None = None, **parts: Any
) -> Outcome:
    """The verdict of `tiltflow.fit`."""
    try:
        data = data() if callable(data) else data
        if isinstance(data, np.ndarray):
            data = np.asarray(data, np.float32) if data.dtype.kind == "f" else data
        result = tiltflow.fit(data, settings or small(), **parts)
    except InputError as error:
        return Outcome("refused", _meant(str(error)), str(error), [])
    verdict = result.metrics["verdict"]
    broken = [check["name"] for check in verdict["checks"] if not check["ok"]]
    return Outcome(verdict["status"], verdict["part"], verdict["text"], broken)


def ring(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    """A ring in two columns, and two bumps in the third."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, rows), 2 + 0.3 * rng.normal(size=rows)
    bumps = 1.2 * rng.choice([-1, 1], rows) + 0.6 * rng.normal(size=rows)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), bumps], axis=1)


def _meant(words: str) -> str:
    """The part that a refusal speaks of."""
    words = words.replace("tiltflow", "")
    return next((part for part in ("tilt", "backbone") if part in words), "data")


def bent(rows: int = 2 * ROWS, seed: int = 0) -> np.ndarray:
    """A parabola, and a third column that is flatter than normal."""
    x = np.random.default_rng(seed).normal(size=(rows, 3))
    x[:, 1] = 0.5 * x[:, 1] + 0.7 * x[:, 0] ** 2
    bumps = np.random.default_rng(seed + 1).choice([-1.0, 1.0], rows)
    x[:, 2] = 0.8 * x[:, 2] + bumps + 0.5 * x[:, 0]
    return x


def waves(x: Any, kinks: bool = False) -> Any:
    """f of `waved`: two waves of `[..., 3]`; with kinks they are made of straight lines."""

    def wave(t: Any) -> Any:
        if kinks:
            return 1.0 - 4.0 * jnp.abs(t / (2 * np.pi) - jnp.round(t / (2 * np.pi)))
        return jnp.cos(t)

    return 1.2 * wave(2.0 * x[..., 0]) + 0.8 * wave(2.0 * x[..., 1] + 1.0)


def waved(rows: int = 2 * ROWS, seed: int = 0, kinks: bool = False) -> np.ndarray:
    """Rows of exp(`waves`) N(0, I), by rejection: of this model every part is known."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12 * rows, 3))
    share = np.exp(np.asarray(waves(x, kinks), float) - 2.0)
    return x[rng.random(len(x)) < share][:rows]


def correlated(rows: int = ROWS, seed: int = 0, correlation: float = 0.98) -> np.ndarray:
    """Three columns of a normal density."""
    shared = np.random.default_rng(seed).normal(size=(rows, 1))
    own = np.random.default_rng(seed + 1).normal(size=(rows, 3))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
