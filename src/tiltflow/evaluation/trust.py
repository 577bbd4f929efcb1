"""What held-out rows say of the data's own end: is a mean of their scores worth giving?

Chains may mix and log Z hold while a mean of log p over rows means nothing: a few rows carry it, as
where columns have tails that a normal tail cannot follow; it hangs on the last digit of the
numbers; or held-out rows are copies of those that were learned from.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone, Ensemble
from tiltflow.data.repeats import found_again
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.far_coordinates import within_scale
from tiltflow.evaluation.likelihood import Scores
from tiltflow.learning import Rows
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import scored
from tiltflow.normalizer.pareto import pareto_k, tail_of
from tiltflow.parallel.devices import over_devices_once

LARGEST_SHARE = 0.3  # of the variance of a mean, in one row of at least LEAST_ROWS
TIMES = 2.0  # as much as the farthest of so many exponential values has
HEAVY, NO_VARIANCE = 0.5, 0.7  # Pareto k-hat of -log p: from 1/2 on a variance is not finite
BEYOND_DOUBT = 1.64  # standard errors of k-hat
MATTERS = 0.05  # nats that the strangest row moves the mean by, at least
LEAST_ROWS = 50
COARSE, ROUGH = 0.05, 0.5  # nats that the last digit of a row may move its score by, on average
COPIES, MOSTLY_COPIES = 0.05, 0.25  # share of held-out rows that are rows of the training set
LOOKED_AT = 2_000  # rows
NARROW, MOST_COLUMNS, MOST_ROWS = 1e-4, 512, 20_000  # of a deviation; columns, rows


def trust(
    scores: Scores, model: TiltedModel, rows: dict[str, Rows], key: PRNGKeyArray
) -> list[Check]:
    """The checks of the part "data" of a verdict; `scores` are those of `rows["test"]`."""
    nll = -scores.of_rows()[1]
    return [
        *_copied(rows),
        *_dependent(rows["train"]),
        *within_scale(rows["train"]),
        *_carried(nll),
        _resolved(model, rows["test"], key),
    ]


def _carried(nll: np.ndarray) -> list[Check]:
    """Whether a mean of scores rests on all rows, and not on the strangest few."""
    if len(nll) < LEAST_ROWS:
        return []
    away = (nll - nll.mean()) ** 2
    largest = int(np.argmax(away))
    share = float(away[largest] / max(away.sum(), np.finfo(float).tiny))
    k = pareto_k(np.log(np.maximum(nll - np.median(nll), np.finfo(float).tiny)))
    most = max(LARGEST_SHARE, TIMES * np.log(len(nll)) ** 2 / len(nll))
    pull = float(np.abs(nll[largest] - nll.mean()) / len(nll))
    return [
        Check(
            name="largest row's share of the variance of the mean",
            value=share,
            limit=float(most),
            ok=bool(share <= most or pull <= MATTERS),
            part="data",
            rests_on=("backbone", "tilt"),
            severity="caution",
            means=f"One held-out row (number {largest + 1} of them, {nll[largest]:.4g} nats) "
            "carries the mean: its interval says nothing.",
            try_="Look at that row; take it out if it is a mistake, or tell medians.",
        ),
        Check(
            name="Pareto k-hat of -log p over rows",
            value=k,
            limit=heaviest(len(nll)),
            ok=bool(k <= heaviest(len(nll)) or pull <= MATTERS),
            part="data",
            rests_on=("backbone", "tilt"),
            severity="caution" if k <= NO_VARIANCE else "failed",
            means="Scores of held-out rows have so heavy a tail that their mean has no variance, "
            "or hardly one: the columns' tails are heavier than the model's.",
            try_="Take logarithms of columns with heavy tails, or leave out rows that are "
            "mistakes.",
        ),
    ]  # fmt: skip


def heaviest(rows: int) -> float:
    """The k-hat from which on so many rows, `LEAST_ROWS` or more, leave no doubt of the tail.

    Its standard error from a tail of m rows is about (1 + k) / sqrt(m) (Zhang and Stephens 2009).
    """
    error = BEYOND_DOUBT / np.sqrt(tail_of(rows))
    return float((HEAVY + error) / (1 - error))


def _resolved(model: TiltedModel, rows: Rows, key: PRNGKeyArray) -> Check:
    """Whether scores hang on the last digit of the numbers: the density has spikes."""
    few = rows.first(LOOKED_AT).through(model.backbone)
    if isinstance(model.backbone, Ensemble):
        moved = _moved_on_host(model, few, key)
    else:
        moved = np.asarray(_moved(model, few, key))
    moved = moved[: min(len(rows), LOOKED_AT)]
    mean = float(np.mean(np.where(np.isfinite(moved), np.minimum(moved, 10.0), 10.0)))
    return Check(
        name="nats that the last digit of a row moves",
        value=mean,
        limit=COARSE,
        ok=mean <= COARSE,
        part="data",
        rests_on=("backbone", "tilt"),
        severity="caution" if mean <= ROUGH else "failed",
        means="The density has spikes as narrow as the spacing of 32-bit numbers: scores are not "
        "likelihoods of anything that was measured.",
        try_="Look for values that repeat, and for columns that follow from others (`tiltflow "
        "data inspect`); subtract a column's offset where it is far larger than its spread.",
    )


def _moved_on_host(model: TiltedModel, rows: Rows, key: PRNGKeyArray) -> np.ndarray:
    """As `_moved`, of an ensemble, by the program that scores are made by (`model/told.py`)."""
    (c, log_weight), (c_there, log_weight_there) = _embedded(model.backbone, rows, key)
    here, there = (scored(model, np.asarray(at)) for at in (c, c_there))
    log_q = there.log_q - here.log_q + np.asarray(log_weight_there - log_weight, np.float64)
    own_step = np.spacing(np.abs(here.f).astype(np.float32))
    return np.maximum(np.abs(there.f - here.f + log_q) - own_step, 0.0)


@over_devices_once
def _embedded(
    backbone: Backbone, rows: Rows, key: PRNGKeyArray
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Coordinates and log-weights of rows, and of their next numbers in 32 bits."""
    x, up, keys = _neighbours(rows, key)
    embed = jax.vmap(backbone.embed)
    return embed(x, keys), embed(up, keys)


@over_devices_once
def _moved(model: TiltedModel, rows: Rows, key: PRNGKeyArray) -> Array:
    """How much log p changes from a row to the next numbers in 32 bits, of each row."""

    def parts(x: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        c, log_weight = model.backbone.embed(x, key)
        return model.tilt(c), model.backbone.log_prob_coordinates(c) + log_weight

    def one(pair: tuple[Array, Array, PRNGKeyArray]) -> Array:
        here, there, key = pair
        (f, log_q), (f_there, log_q_there) = parts(here, key), parts(there, key)
        moved = jnp.abs((f_there - f) + (log_q_there - log_q))
        own_step = jnp.nextafter(jnp.abs(f), jnp.inf) - jnp.abs(f)  # f's, which log Z has to bear
        return jnp.maximum(moved - own_step, 0.0)

    return jax.lax.map(one, _neighbours(rows, key), batch_size=256)


def _neighbours(rows: Rows, key: PRNGKeyArray) -> tuple[Array, Array, PRNGKeyArray]:
    """Rows, their next numbers in 32 bits to either side, and a key for each row."""
    x = rows.data(key)
    to = jnp.where(jax.random.bernoulli(key, shape=x.shape), jnp.inf, -jnp.inf).astype(x.dtype)
    return x, jnp.nextafter(x, to), jax.random.split(jax.random.fold_in(key, 1), len(x))


def _dependent(rows: Rows) -> list[Check]:
    """Whether continuous columns follow from one another: no density has such rows."""
    steps = _steps(rows)
    if steps is None or not 1 < np.sum(steps == 0) <= MOST_COLUMNS:
        return []
    x = rows.array().reshape(len(rows), -1)[:MOST_ROWS, steps == 0].astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), np.finfo(float).tiny)
    if len(x) <= x.shape[1] + 1 or not np.isfinite(x).all():
        return []
    narrowest = float(np.linalg.svd(x, compute_uv=False)[-1] / np.sqrt(len(x)))
    return [
        Check(
            name="narrowest direction of the columns, of their deviations",
            value=narrowest,
            limit=NARROW,
            ok=narrowest >= NARROW,
            part="data",
            severity="failed",
            means="A column follows from others, up to the last digits: the rows lie on a surface, "
            "and have no density.",
            try_="Leave out one of the columns that depend on one another (`tiltflow data inspect` "
            "names them).",
        )
    ]


def _steps(rows: Rows) -> np.ndarray | None:
    """The width of the cells of a row's numbers, 0 where one is continuous; None: none is."""
    if rows.integers or rows.noise is not None:
        return None
    width = rows.array()[:1].size
    return np.zeros(width) if rows.steps is None else np.ravel(np.asarray(rows.steps))


def _copied(rows: dict[str, Rows]) -> list[Check]:
    """Whether held-out rows are copies of rows that were learned from.

    Rows repeat as they like where all numbers are in cells, of a grid or of atoms.
    """
    test, free = rows["test"], np.ones(len(rows["test"]), bool)
    if test.steps is not None:
        widths = np.asarray(test.steps)
        if test.atoms is not None:
            widths = widths + np.asarray(test.atoms.widths_of(test.values))[: len(test)]
        in_cells = np.broadcast_to(widths > 0, test.array().shape)
        free = ~in_cells.reshape(len(test), -1).all(axis=1)
    if test.integers or not free.any():
        return []
    share = found_again(test.array()[free], rows["train"].array()) * float(free.mean())
    return [
        Check(
            name="held-out rows that are training rows, share",
            value=share,
            limit=COPIES,
            ok=share <= COPIES,
            part="data",
            severity="caution" if share <= MOSTLY_COPIES else "failed",
            means="Rows come more than once and lie on both sides of the split: the scores are "
            "those of rows that were learned.",
            try_="Leave out copies before the split; or split by what they are copies of.",
        )
    ]
