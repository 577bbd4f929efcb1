"""The tilted flow of the density shoot-out, its backbone alone, and larger flows.

`tilted` is the project's own fit in its parts: units, backbone, tilt by population learning,
fresh chains, log Z by `log_normalizer`. `flow` is its backbone. `larger_flow` is our coupling flow
again, given the seconds that the tilted flow took in all: each of `LARGER` is trained for an equal
share of them, its rate falling to the end of that share, and validation data choose one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from density_sets import Shared

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.backbones.units.bijections import Units
from tiltflow.evaluation.chains import fresh_chains
from tiltflow.fitting.recipes import specification
from tiltflow.fitting.settings import Settings, suited
from tiltflow.learning import BackboneSettings, Rows, fit_backbone, fit_tilt
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.model.specs import ModelSpec, specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ

LARGER = {  # blocks and width of conditioners, by whether there are many rows
    False: ((6, 192), (8, 256)),
    True: ((8, 256), (12, 256)),
}
TIMED = 250  # steps that tell how long a step takes
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Scored:
    """A fitted model on the test rows.

    Attributes:
        nll: `[rows]`, nats, mean over draws of the noise.
        seconds: of fitting, choosing and scoring.
        words: what was chosen.
        log_z: what log Z adds to the uncertainty of the mean, or None.
    """

    nll: np.ndarray
    seconds: float
    words: str
    log_z: LogZ | None = None


def rows_of(shared: Shared, units: Units) -> tuple[Rows, Rows]:
    """Training rows, which the digits dequantise afresh at each step, and validation rows."""
    fresh = shared.integers is not None
    train = shared.integers if fresh else shared.train
    return Rows(jnp.asarray(train), units, fresh), Rows(jnp.asarray(shared.val_flat), units, False)


def units_of(shared: Shared) -> Units:
    """The units that `auto` fits to the training rows."""
    fresh = shared.integers is not None
    return fit_units("auto", shared.integers if fresh else shared.train, integers=fresh)


def score_tilted(shared: Shared, settings: Settings | None, say: Progress) -> dict[str, Scored]:
    """`flow` and `tilted`, fitted with `settings` (those suited to the data if None)."""
    started = time.perf_counter()
    settings = settings or competing(shared)
    keys = jr.split(jr.key(0), 6)
    units = units_of(shared)
    train, val = rows_of(shared, units)
    spec = specification(settings.model, units)
    assert isinstance(spec, ModelSpec)
    flow, nll_val = fit_backbone(
        spec.flow(units, key=keys[0]), train, val, settings.backbone, key=keys[1], listen=quiet
    )
    nll_flow = nll_under(flow, shared.test)
    flow_seconds = time.perf_counter() - started
    say(f"backbone {nll_val:.2f} on validation rows after {flow_seconds:.0f} s")

    def listen(phase: str, event: str, **fields: object) -> None:
        if event in ("kept", "stopped", "health"):
            say(f"tilt: {event} {fields}")

    tilt, judged, _ = fit_tilt(
        flow, spec.tilt(key=keys[2]), train, val, settings.tilt, key=keys[3], listen=listen
    )
    say(f"tilt gains {float(judged.gain_val):.2f} after {time.perf_counter() - started:.0f} s")
    model = TiltedModel(flow, tilt)
    draws = fresh_chains(model, settings.sampling, keys[4], quiet)
    log_z = log_normalizer(model, key=keys[5], draws=np.asarray(draws.positions))
    f = by_parts(lambda x: tilt(flow.units.encode(x)), shared.test)
    words = f"{log_z.method}, log Z {log_z.mean:.2f} +- {log_z.standard_error:.3f}"
    if not log_z.holds:
        words += ", which does not hold"
    size = f"{settings.model.blocks} blocks x {settings.model.flow_width}"
    seconds = time.perf_counter() - started
    return {
        "flow": Scored(nll_flow, flow_seconds, size),
        "tilted": Scored(nll_flow - f.mean(axis=1) + log_z.mean, seconds, words, log_z),
    }


def competing(shared: Shared) -> Settings:
    """The settings suited to the data; of small data the backbone is twice as deep.

    The defaults leave the tilt a sure gain; here the likelihood alone counts.
    """
    settings = suited(shared.rows, shared.train.shape[1])
    if settings == Settings():
        settings = replace(settings, model=replace(settings.model, blocks=6))
    return settings


def score_larger(shared: Shared, seconds: float, say: Progress) -> Scored:
    """The best, by validation, of some `LARGER` flows with an equal share of `seconds` each."""
    started = time.perf_counter()
    units = units_of(shared)
    train, val = rows_of(shared, units)
    like = suited(shared.rows, shared.train.shape[1])
    best: tuple[float, CouplingFlow, str] | None = None
    sizes = LARGER[like.model.blocks > Settings().model.blocks]
    for i, (blocks, width) in enumerate(sizes):
        left = seconds - (time.perf_counter() - started)
        share = left / (len(sizes) - i)
        if share < 5:
            break
        spec = specify(units, blocks=blocks, flow_width=width, flow_dropout=like.model.flow_dropout)
        start = spec.flow(units, key=jr.key(1))
        steps, spent = affordable(start, train, val, like.backbone, share)
        settings = replace(like.backbone, steps=steps, patience=steps)
        flow, nll = fit_backbone(start, train, val, settings, key=jr.key(2), listen=quiet)
        words = f"{blocks} blocks x {width}, {steps} steps"
        say(f"{words}: {nll:.2f} on validation rows ({spent:.0f} s to time it)")
        if best is None or nll < best[0]:
            best = nll, flow, words
    assert best is not None
    nll_test = nll_under(best[1], shared.test)
    return Scored(nll_test, time.perf_counter() - started, best[2])


def affordable(
    flow: CouplingFlow, train: Rows, val: Rows, base: BackboneSettings, seconds: float
) -> tuple[int, float]:
    """How many steps (a multiple of 250) fit into `seconds`, and the seconds it took to tell.

    The first chunk compiles; the second is timed.
    """
    moments = [time.perf_counter()]

    def listen(phase: str, event: str, **fields: object) -> None:
        moments.append(time.perf_counter())

    settings = replace(base, steps=2 * TIMED)
    fit_backbone(flow, train, val, settings, key=jr.key(3), listen=listen)
    spent = time.perf_counter() - moments[0]
    chunks = int((seconds - spent) / (moments[2] - moments[1]))
    return TIMED * max(1, chunks), spent


def nll_under(flow: CouplingFlow, x: np.ndarray) -> np.ndarray:
    """`[rows]`: nats, mean over the draws of x (`[rows, draws, dim]`)."""
    return -by_parts(flow.log_prob, x.reshape(*x.shape[:2], *flow.data_shape)).mean(axis=1)


def by_parts(function: Callable[[jax.Array], jax.Array], x: np.ndarray) -> np.ndarray:
    """`function` of each example of x (`[rows, draws, ...]`), float64, `[rows, draws]`."""

    @eqx.filter_jit
    def every(x: jax.Array) -> jax.Array:
        return jax.lax.map(function, x, batch_size=4096)

    values = every(jnp.asarray(x.reshape(-1, *x.shape[2:])))
    return np.asarray(values, np.float64).reshape(x.shape[:2])


def quiet(phase: str, event: str, **fields: object) -> None:
    """Listen to nothing."""
