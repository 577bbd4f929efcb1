"""What an estimator of log Z says: a number, an interval, and whether to believe it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

DISTRUST = "Do not trust this interval: "
"""How `words` begin where an estimate does not hold."""


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z = log E_q[exp f(x)], in nats.

    An effective size counts the independent draws on which a side's estimate rests, after
    unequal weights and, under p, after the chains' correlation; for a ladder, the passages.
    """

    mean: float
    standard_error: float
    low: float
    """Ends of the 95% interval, by Student's t."""
    high: float
    method: str
    """"importance", "bridge", "ladder" or "replicas"."""
    ess_q: float
    ess_p: float = math.nan
    """NaN where no draws of p were used."""
    pareto_k: float = math.nan
    """Of the weights exp f under q; NaN where the weights were not used alone."""
    overlap: float = math.nan
    """The integral of 2 p q / (p + q): 1 where p = q, 0 where they never meet."""
    lower: float = math.nan
    """log Z is larger with 97.5% confidence, if only the draws of q are exact; NaN if unknown."""
    upper: float = math.nan
    """log Z is smaller with 97.5% confidence, if only the draws of p are draws of p."""
    holds: bool = False
    """Whether the interval can be trusted."""
    words: str = ""
    """The same in one or two sentences."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LogZ:
        """From what `to_dict` gave; raises KeyError, TypeError or ValueError for anything else."""
        values = {"lower": None, "upper": None, **values}  # absent from the first saved models
        numbers = {
            name: math.nan if values[name] is None else float(values[name])
            for name in cls.__dataclass_fields__
            if name not in ("method", "holds", "words")
        }
        return cls(
            **numbers,
            method=str(values["method"]),
            holds=bool(values["holds"]),
            words=str(values["words"]),
        )
