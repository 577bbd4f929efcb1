"""The outliers among rows, by a run's model, by the score of this folder and by its baselines.

All but the model are learned from the run's training rows; how many rows each of them flags is
read from scores of the run's validation rows, which none of them has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from tiltflow.errors import InputError, check_seed
from tiltflow.evaluation.outliers.baselines import Rows, baselines
from tiltflow.evaluation.outliers.judge import Judged, judged, labels_of
from tiltflow.evaluation.outliers.score import outlier_score
from tiltflow.model.fitted import FittedModel

SCORE = "blurred densities"
MOST_TRAINING = 8_000  # rows that baselines are learned from
REASONS = 3  # columns that are named of each row


class Strange(NamedTuple):
    """One of the strangest rows.

    Attributes:
        row: its number.
        score, p_value: how strange it is; the share of training rows that are as strange.
        columns: the numbers of those that add most.
        added, values: what they add to the score, and their values.
    """

    row: int
    score: float
    p_value: float
    columns: list[int]
    added: list[float]
    values: list[float]


@dataclass(frozen=True)
class Outliers:
    """What `outliers_of` returns.

    Attributes:
        scores: `[rows]` of each score, higher for stranger rows, the first that of this folder.
        p_values: `[rows]`.
        flagged: the share of rows that each score has above its 1 - rate quantile on validation
            rows; that of p-values of at most `rate` for the first.
        agreement: the rank correlation of each with the first.
        strangest: rows, the strangest first.
        judged: by the labels, if there are any.
        labels: of the rows, or None.
        rate: of false alarms.
        constant: columns that are constant in training, and not looked at by the first score.
    """

    scores: dict[str, np.ndarray]
    p_values: np.ndarray
    flagged: dict[str, float]
    agreement: dict[str, float]
    strangest: list[Strange]
    judged: dict[str, Judged]
    labels: np.ndarray | None
    rate: float
    constant: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, each row's score and p-value among them."""
        return {
            "rows": len(self.p_values),
            "rate": self.rate,
            "scores": {
                name: {
                    "flagged": self.flagged[name],
                    "agreement": self.agreement[name],
                    **(self.judged[name].to_dict() if self.judged else {}),
                }
                for name in self.scores
            },
            "strangest": [one._asdict() for one in self.strangest],
            "constant_columns": self.constant,
            "outliers": None if self.labels is None else int(self.labels.sum()),
            "score": self.scores[SCORE].tolist(),
            "p_value": self.p_values.tolist(),
        }


def outliers_of(
    fitted: FittedModel,
    train: np.ndarray,
    val: np.ndarray,
    rows: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    contaminated: bool = True,
    rate: float = 0.05,
    show: int = 10,
    seed: int = 0,
    listen: Callable[..., Any] = lambda *_, **__: None,
) -> Outliers:
    """Score `rows`, and judge the scores where there are labels.

    Args:
        fitted: the run's model.
        train, val: the run's rows, `[n, *event_shape]`, data units.
        rows: those to score, in the same units.
        labels: `[rows]`, 1 for an outlier; None: not known.
        contaminated: whether outliers may be among `train`; baselines are not told of it.
        rate: of false alarms.
        show: how many of the strangest rows are told.
        seed: of everything random.
        listen: called as (phase, event) while it goes on.

    Raises:
        InputError: rows of another shape, labels that do not fit, a rate outside of (0, 1).
    """
    check_seed(seed)
    if not 0 < rate < 1:
        raise InputError(f"the rate is {rate}; expected a share in (0, 1), such as 0.05")
    if show < 0:
        raise InputError(f"{show} rows to show; expected 0 or more")
    if rows.shape[1:] != train.shape[1:]:
        raise InputError(f"rows of shape {rows.shape[1:]}; expected {train.shape[1:]}, the run's")
    known = None if labels is None else labels_of(labels)
    if known is not None and len(known) != len(rows):
        raise InputError(f"{len(known)} labels for {len(rows)} rows; expected one a row")
    flat, x = _flat(train), _flat(rows)
    listen("outliers", "score")
    learned = outlier_score(flat, contaminated=contaminated, seed=seed)
    first = learned.score(x)
    p_values = learned.p_values(first)
    scores, beside = {SCORE: first}, {}
    for name, of in _others(fitted, flat, learned.mean, learned.sd, seed).items():
        listen("outliers", name)
        scores[name], beside[name] = of(rows), of(val)
    flagged = {SCORE: float(np.mean(p_values <= rate))}
    for name, values in beside.items():
        flagged[name] = float(np.mean(scores[name] > np.quantile(values, 1 - rate)))
    order = np.argsort(-first, kind="stable")[:show]
    return Outliers(
        scores,
        p_values,
        flagged,
        {name: float(np.asarray(spearmanr(values, first))[0]) for name, values in scores.items()},
        _reasons(x, order, first, p_values, learned.contributions(x[order])),
        {} if known is None else judged(scores, known, seed=seed),
        known,
        rate,
        np.flatnonzero(learned.sd == 0).tolist(),
    )


def _others(
    fitted: FittedModel, train: np.ndarray, mean: np.ndarray, sd: np.ndarray, seed: int
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The model's own scores, which need no log Z to rank rows, and the baselines'."""
    used = sd > 0

    def standard(rows: np.ndarray) -> Rows:
        return (_flat(rows)[:, used] - mean[used]) / sd[used]

    some = np.random.default_rng(seed).permutation(len(train))[:MOST_TRAINING]
    z = standard(train[some])
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "tilted model": lambda rows: -fitted.log_prob(rows, normalizer=0.0, seed=seed),
        "backbone": lambda rows: -fitted.backbone_log_prob(rows, seed=seed),
    }
    for name, baseline in baselines().items():
        found[name] = lambda rows, of=baseline: of(z, standard(rows), seed)
    return found


def _reasons(
    x: np.ndarray, order: np.ndarray, score: np.ndarray, p: np.ndarray, added: np.ndarray
) -> list[Strange]:
    """The rows `order`, with the columns that add most."""
    found = []
    for row, each in zip(order, added, strict=True):
        top = np.argsort(-each, kind="stable")[:REASONS]
        found.append(
            Strange(
                int(row),
                float(score[row]),
                float(p[row]),
                top.tolist(),
                each[top].tolist(),
                x[row, top].tolist(),
            )
        )
    return found


def _flat(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows, float).reshape(len(rows), -1)
