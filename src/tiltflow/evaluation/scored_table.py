"""Rows of a source, scored batch by batch: log p, log q, f, tail probabilities, marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from tiltflow.data.batches import Batch
from tiltflow.data.checks import column
from tiltflow.errors import InputError
from tiltflow.evaluation.row_scores import REASONS, RowScorer, RowScores

COLUMNS = ("log_p", "log_q", "f", "tail", "outlier")
ROW = "row"


@dataclass
class Seen:
    """What has been seen while rows were scored.

    Attributes:
        rows: how many.
        outliers: how many of them have no finite density.
        first: of each reason that occurred, the first row that it holds for, in words.
        total: the sum of log p over the others, nats.
    """

    rows: int = 0
    outliers: int = 0
    first: dict[str, str] = field(default_factory=dict)
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """Of log p, over rows that are no outliers; None: all are."""
        return self.total / (self.rows - self.outliers) if self.rows > self.outliers else None


def held_out_scores(scorer: RowScorer, rows: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Log p + log Z of held-out rows, sorted."""
    return np.sort(scorer(rows).log_p)


def tail_of(log_p: Float[np.ndarray, " rows"], held_out: Float[np.ndarray, " n"]) -> np.ndarray:
    """The share of held-out rows, sorted, with a log p as low as each row's; the row counts as one.

    (1 + number as low) / (1 + n): for a row like the held-out ones it is at most a with a
    probability of at most a, for any a (Vovk, Gammerman and Shafer 2005, a conformal p-value).
    """
    return (1 + np.searchsorted(held_out, log_p, side="right")) / (1 + len(held_out))


def scored(
    scorer: RowScorer,
    batches: Iterable[Batch],
    seen: Seen,
    *,
    log_z: float | None,
    held_out: Float[np.ndarray, " n"] | None,
    names: Sequence[str] | None = None,
    shape: tuple[int, ...],
    kept: str | None = None,
    shown: Callable[[tuple[int, ...], float], str] = lambda _, value: f"{value:g}",
) -> Iterator[dict[str, Any]]:
    """Columns of the table, a batch at a time.

    Args:
        scorer: of the model.
        batches: of rows.
        seen: is added to.
        log_z: in nats; None: it is not known, and neither is log p.
        held_out: as `held_out_scores` has them; None: there are none, and no tail probabilities.
        names: of the columns of the rows, for messages.
        shape: of a row of the model's data.
        kept: what the column that is passed through is called; None: rows are counted from 0.
        shown: a number of a row in words, for messages.

    Raises:
        InputError: rows of another shape.
    """
    for batch in batches:
        if batch.values.shape[1:] != shape:
            raise InputError(
                f"rows of shape {batch.values.shape[1:]}; expected {shape}, the shape of the data "
                f"that the model was fitted to"
            )
        scores = scorer(batch.values)
        _add(seen, batch, scores, names, shape, log_z, shown)
        unknown = np.full(len(scores.f), np.nan, np.float32)
        log_p = scores.log_p
        first = np.arange(batch.start, batch.start + len(log_p)) if kept is None else batch.ids
        yield {
            kept or ROW: first,
            "log_p": unknown if log_z is None else _told(log_p - log_z),
            "log_q": _told(scores.log_q),
            "f": _told(scores.f),
            "tail": unknown if held_out is None else tail_of(log_p, held_out).astype(np.float32),
            "outlier": (scores.why > 0).astype(np.int8),
        }


def _told(nats: np.ndarray) -> np.ndarray:
    """With as many digits as float32 has."""
    return nats.astype(np.float32)


def _add(
    seen: Seen,
    batch: Batch,
    scores: RowScores,
    names: Sequence[str] | None,
    shape: tuple[int, ...],
    log_z: float | None,
    shown: Callable[[tuple[int, ...], float], str],
) -> None:
    odd = scores.why > 0
    seen.rows += len(odd)
    seen.total += float(np.sum(scores.log_p[~odd])) - (log_z or 0.0) * int(np.sum(~odd))
    if not odd.any():
        return
    seen.outliers += int(odd.sum())
    for number, reason in enumerate(REASONS, 1):
        rows = np.flatnonzero(scores.why == number)
        if len(rows) and reason not in seen.first:
            row = int(rows[0])
            words = f"row {batch.start + row}"
            if number < len(REASONS):
                at = np.unravel_index(scores.where[row], shape)
                position = tuple(int(i) for i in at)
                of = column(position, None if names is None else tuple(names))
                words += f", {of}: {shown(position, float(batch.values[row, *position]))}"
            seen.first[reason] = words
