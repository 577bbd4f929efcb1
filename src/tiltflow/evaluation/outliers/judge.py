"""How well scores find outliers that are known: AUROC, average precision, FPR95, with intervals.

No score is chosen by these: they need the labels that a detector does not have. Intervals are 95%,
by the bootstrap of outliers and of ordinary rows apart; the same draws serve all scores, so that
differences are paired.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from tiltflow.errors import InputError

MEASURES = ("auroc", "average_precision", "fpr95")
FOUND = 0.95  # of the outliers, where FPR95 is read
DRAWS = 500  # of the bootstrap
INSIDE = (2.5, 97.5)  # %, of a 95% interval


class Estimate(NamedTuple):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """A score by what it finds.

    Attributes:
        auroc: the chance that an outlier scores above an ordinary row; a tie counts half.
        average_precision: the mean, over outliers, of the share of outliers among the rows that
            score as high; the share of outliers for a score that knows nothing.
        fpr95: the share of ordinary rows that are flagged where 95% of the outliers are.
        behind: by how much the first score is ahead of this one, paired, in each measure; positive
            where the first is better. None for the first itself.
    """

    auroc: Estimate
    average_precision: Estimate
    fpr95: Estimate
    behind: dict[str, Estimate] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self)
        named = {name: getattr(self, name)._asdict() for name in MEASURES}
        behind = self.behind and {name: one._asdict() for name, one in self.behind.items()}
        return found | named | {"behind": behind}


def judged(
    scores: Mapping[str, Float[np.ndarray, " rows"]],
    outliers: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Judged]:
    """Each of `scores`, higher for stranger rows, against what is known of the rows.

    Args:
        scores: by name, `[rows]`; all others are compared with the first.
        outliers: `[rows]`, true where a row is one.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: labels of one kind only, scores that are not finite or of another length.
    """
    labels = labels_of(outliers)
    values = {name: _checked(name, score, len(labels)) for name, score in scores.items()}
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    chosen = [np.concatenate([rng.choice(rows, len(rows)) for rows in kinds]) for _ in range(draws)]
    found: dict[str, Judged] = {}
    first: tuple[dict[str, float], dict[str, np.ndarray]] | None = None
    for name, score in values.items():
        now = measures(score, labels)
        again = _drawn(score, labels, chosen)
        told = {key: Estimate(now[key], *_inside(again[key])) for key in MEASURES}
        found[name] = Judged(**told, behind=_behind(first, now, again))
        first = first or (now, again)
    return found


def labels_of(outliers: ArrayLike) -> Bool[np.ndarray, " rows"]:
    """Booleans, checked.

    Raises:
        InputError: anything but 0 and 1, or one of them only.
    """
    given = np.asarray(outliers)
    if given.ndim != 1 or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"labels of shape {given.shape} with values such as "
            f"{given.ravel()[:1].tolist()}; expected one number a row, 1 for an outlier and 0 for "
            f"any other"
        )
    labels = given.astype(bool)
    if not 0 < labels.sum() < len(labels):
        raise InputError(
            f"{labels.sum()} of {len(labels)} rows are labelled as outliers; expected rows of "
            f"both kinds: leave the labels out to score rows alone"
        )
    return labels


def measures(
    score: Float[np.ndarray, " rows"], labels: Bool[np.ndarray, " rows"]
) -> dict[str, float]:
    """The numbers of `MEASURES`, without intervals."""
    positive, negative = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(score)
    auroc = (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # rows of equal score are flagged together
    hits = np.cumsum(labels[order])[last]
    flagged = (np.flatnonzero(last) + 1).astype(float)
    precision = float(np.sum(np.diff(hits, prepend=0) * hits / flagged) / positive)
    enough = int(np.argmax(hits >= FOUND * positive))
    return {
        "auroc": float(auroc),
        "average_precision": precision,
        "fpr95": float((flagged[enough] - hits[enough]) / negative),
    }


def _drawn(
    score: np.ndarray, labels: np.ndarray, chosen: list[Int[np.ndarray, " rows"]]
) -> dict[str, np.ndarray]:
    """The measures of each draw of rows."""
    each = [measures(score[rows], labels[rows]) for rows in chosen]
    return {key: np.array([one[key] for one in each]) for key in MEASURES}


def _behind(
    first: tuple[dict[str, float], dict[str, np.ndarray]] | None,
    now: dict[str, float],
    again: dict[str, np.ndarray],
) -> dict[str, Estimate] | None:
    """How far the first score is ahead of another, from the same draws."""
    if first is None:
        return None
    signs = {key: -1.0 if key == "fpr95" else 1.0 for key in MEASURES}
    return {
        key: Estimate(
            sign * (first[0][key] - now[key]), *_inside(sign * (first[1][key] - again[key]))
        )
        for key, sign in signs.items()
    }


def _inside(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, INSIDE) if len(draws) else (np.nan, np.nan)
    return float(low), float(high)


def _checked(name: str, score: np.ndarray, rows: int) -> np.ndarray:
    values = np.asarray(score, float)
    if values.shape != (rows,):
        raise InputError(f"score {name!r} of shape {values.shape}; expected {(rows,)}, as labels")
    if not np.isfinite(values).all():
        raise InputError(f"score {name!r} is not finite everywhere; expected finite numbers")
    return values
