"""Simple models beside every fit: one Gaussian, a small mixture, a histogram of each column.

Of images with more numbers than a mixture of full covariances is for, one Gaussian stands behind
the histograms: a Gaussian copula.

They are cheap. A model that is behind one of them has not learned what there was to learn,
whatever its chains say. Each is fitted to the training rows, helped by the validation rows, and
scored on the same test rows, in the same units; integers with the same noise added.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tiltflow.backbones.units.columns import bins_of
from tiltflow.backbones.units.fitting import MOST_LEVELS, integer_bins
from tiltflow.backbones.units.normal import LARGEST, best_normal
from tiltflow.backbones.units.tails import TailedBins, between_tails
from tiltflow.diagnostics.verdict import Check
from tiltflow.learning import Rows
from tiltflow.learning.gaussian_mixture import best_mixture
from tiltflow.normalizer import Interval, LogZ, gain

MOST_ROWS = 8_000  # that are fitted to
TRAINED, SCORED = 4, 5  # draws of the noise of each row, of few rows
FEW = 2_000  # rows
ROUNDING = 0.01  # nats: a model behind by less is not behind
CERTAINLY = 3.0  # standard errors: there are several simple models, each of which has its luck
COSTS, SHARE = 0.02, 0.1  # nats that a tilt costs for certain, and a share of what is behind
PRIOR, SIZES = (0.3, 0.3), (16, 4)  # of the mixture
MOST_COPULA = 1_024  # numbers of a row
NAMES = {
    "gaussian": "one Gaussian",
    "mixture": "a mixture of Gaussians",
    "copula": "one Gaussian behind a histogram of each column",
    "columns": "a histogram of each column",
}


class SimpleModel(NamedTuple):
    """A simple model, by its scores.

    Attributes:
        name: one of `NAMES`.
        log_prob: `[rows]`, nats per test row, data units.
    """

    name: str
    log_prob: Float[np.ndarray, " rows"]


def simple_models(rows: dict[str, Rows], *, seed: int) -> list[SimpleModel]:
    """Those that the size of the data allows: no covariance of more than 1,024 numbers.

    Args:
        rows: `train`, `val` and `test`, in any units.
        seed: of the noise of integers.
    """
    rng = np.random.default_rng(seed)
    train, val = (
        _flat(few := rows[name].first(MOST_ROWS), rng, TRAINED if len(few) < FEW else 1)
        for name in ("train", "val")
    )
    test = _flat(rows["test"], rng, SCORED)
    bins, log_cell, dim = _bins(rows["train"], rng), _log_cell(rows["test"]), test.shape[-1]
    found = sum(one.log_density(test[..., j]) for j, one in enumerate(bins))
    each = [SimpleModel("columns", np.asarray(found).mean(axis=1))]
    if LARGEST < dim <= MOST_COPULA:
        each.append(_copula(bins, train, val, test))
    if dim <= LARGEST:
        train, val = train.reshape(-1, dim), val.reshape(-1, dim)
        normal, _ = best_normal(train, val)
        mixture = best_mixture(train, val, priors=[PRIOR], sizes=SIZES).mixture
        flat = test.reshape(-1, dim)
        scored = {"mixture": mixture.log_prob(flat), "gaussian": normal.log_prob(flat)}
        each += [SimpleModel(n, x.reshape(test.shape[:2]).mean(1)) for n, x in scored.items()]
    return [model._replace(log_prob=model.log_prob + log_cell) for model in reversed(each)]


def ahead_of(
    log_p: Float[np.ndarray, " rows"], log_z: LogZ, simple: list[SimpleModel]
) -> dict[str, Interval]:
    """By how many nats a test row a model is ahead of each, with a paired interval.

    `log_p` is the model's log-density of the rows, plus log Z.
    """
    return {model.name: gain(log_p - model.log_prob, log_z) for model in simple}


def block_of(simple: list[SimpleModel], ahead: dict[str, Interval]) -> dict[str, Any]:
    """The block `simple_models` of the metrics."""
    return {
        model.name: {
            "name": NAMES[model.name],
            "nll_test": -float(model.log_prob.mean()),
            "ahead": ahead[model.name].mean,
            "ahead_low": ahead[model.name].low,
            "ahead_high": ahead[model.name].high,
        }
        for model in simple
    }


def not_behind(
    ahead: dict[str, Interval],
    *,
    is_bound: bool,
    alone: dict[str, Interval] | None = None,
    gained: Interval | None = None,
) -> Check:
    """Whether the model is behind none of them by more than its error.

    Args:
        ahead: by how much it is ahead of each.
        is_bound: what is known of the model is a bound of its likelihood, which may be behind where
            the model is not.
        alone: the same of its backbone: where that is behind by less than half as much, it is the
            tilt that is.
        gained: by the tilt: where that is a cost for certain, it is the tilt, too, which was there
            to mend what the backbone lacks.
    """
    upper = {name: one.mean + CERTAINLY * one.standard_error for name, one in ahead.items()}
    name = min(upper, key=lambda name: upper[name])
    worst, high = ahead[name], upper[name]
    # By how much the backbone is behind alone, and what the tilt costs beside.
    behind = 0.0 if alone is None else -alone[name].mean
    cost = -worst.mean - behind
    is_cost = gained is not None and gained.high < -COSTS and cost > SHARE * behind
    of_tilt = alone is not None and (cost > max(behind, 0.0) or is_cost)
    return Check(
        name=f"ahead of {NAMES[name]}, upper end",
        value=high,
        limit=-ROUNDING,
        ok=not high < -ROUNDING,
        part="tilt" if of_tilt else "backbone",
        rests_on=("data", "chains", "log Z"),
        severity="caution" if is_bound else "failed",
        means=f"{NAMES[name].capitalize()} is ahead of this model by {-worst.mean:.2f} nats a row"
        + (": by what is known of it, which is a bound." if is_bound else "."),
        try_="Use the backbone alone; let the tilt learn for fewer steps."
        if of_tilt
        else "Use the simple model; or let the backbone learn for longer, with other units "
        "(`--units`), a lower rate, or more rows.",
    )


def _flat(rows: Rows, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "rows draws dim"]:
    """Rows in data units, with so many draws of the noise, if there is any."""
    x = rows.array().reshape(len(rows), 1, -1).astype(np.float64)
    shape, widths = (len(rows), draws, x.shape[-1]), _widths(rows)
    if widths.any():
        x = x + widths * rng.uniform(size=shape)
    return x if rows.noise is None else x + np.ravel(rows.noise) * rng.standard_normal(shape)


def _steps(rows: Rows) -> Float[np.ndarray, " dim"]:
    """The width of the cell that each number of a row is spread over; 0 where it is not."""
    if rows.steps is not None:
        return np.asarray(rows.steps, np.float64).ravel()
    return np.full(rows.array()[0].size, float(rows.integers))


def _widths(rows: Rows) -> Float[np.ndarray, "rows one dim"]:
    """The width of the cell of each number, that of an atom too; one row for all, without any."""
    steps = _steps(rows)
    if rows.atoms is None:
        return steps[None, None]
    return (steps + np.asarray(rows.atoms.widths_of(jnp.asarray(rows.array())), np.float64))[
        :, None
    ]


def _log_cell(rows: Rows) -> Float[np.ndarray, "..."]:
    """The log of the volume of the cells of each row, nats; or of all."""
    steps = _steps(rows)
    log_cell = np.sum(np.log(steps[steps > 0]))
    if rows.atoms is None:
        return log_cell
    return log_cell + np.asarray(rows.atoms.log_volume(jnp.asarray(rows.array())), np.float64)


def _copula(bins: Sequence[TailedBins], *sets: Float[np.ndarray, "rows draws dim"]) -> SimpleModel:
    """One Gaussian of what the histograms make of `train`, helped by `val`, scored on `test`."""
    scored = []
    for x in sets:
        y = np.empty(x.shape)
        log_slope = np.zeros(x.shape[:2])
        for j, one in enumerate(bins):
            y[..., j], slope = one.normal_scores(x[..., j])
            log_slope += slope
        scored.append((y.reshape(-1, len(bins)), log_slope))
    normal, _ = best_normal(scored[0][0], scored[1][0])
    y, log_slope = scored[2]
    return SimpleModel("copula", (normal.log_prob(y).reshape(log_slope.shape) + log_slope).mean(1))


def _bins(train: Rows, rng: np.random.Generator) -> Sequence[TailedBins]:
    """The histogram of each column."""
    flat = train.array().reshape(len(train), -1).astype(np.float64)
    if train.noise is not None:
        flat = flat + np.ravel(train.noise) * rng.standard_normal(flat.shape)
    if train.integers and np.ptp(flat) < MOST_LEVELS:
        return [between_tails(*one, 1.0) for one in integer_bins(flat)]
    steps = _steps(train)
    widths = _widths(train)[:, 0]
    noisy = flat + widths * np.random.default_rng(0).uniform(size=flat.shape)
    return bins_of(flat, noisy, steps)
