"""Densities side by side: their evidences, and log Bayes factors against the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltflow.errors import InputError
from tiltflow.normalizer.bayes_factor import BayesFactor, Evidence, bayes_factor
from tiltflow.runs.posterior_folder import is_posterior, read_numbers

NOTE = (
    "A log Bayes factor means something where the densities are of the same data, with all their "
    "constants and with priors that integrate to 1."
)


@dataclass(frozen=True)
class Rival:
    """A density among others.

    Attributes:
        path: its folder.
        told: what its `posterior.json` holds.
        factor: its log Bayes factor over the best one; None of the best one itself.
    """

    path: Path
    told: dict[str, Any]
    factor: BayesFactor | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        verdict, log_z = self.told["verdict"], self.told["log_z"]
        return {
            "run": str(self.path),
            "status": verdict["status"],
            "log_z": log_z,
            "log_bayes_factor": None if self.factor is None else self.factor._asdict(),
        }


def compare_posteriors(folders: Sequence[Path]) -> list[Rival]:
    """The densities of these folders, that of the largest evidence first.

    Raises:
        InputError: fewer than two, a folder of another kind among them, the same one twice, or a
            damaged one.
    """
    others = [folder for folder in folders if not is_posterior(folder)]
    if others:
        some = next(folder for folder in folders if folder not in others)
        raise InputError(
            f"{some} holds the posterior of a density and {others[0]} does not; expected folders "
            f"of one kind"
        )
    if len(folders) < 2:
        raise InputError(f"there is {folders[0]} alone; expected two folders or more to compare")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a folder is given twice; expected different ones")
    told = [read_numbers(folder) for folder in folders]
    order = sorted(range(len(folders)), key=lambda k: -told[k]["log_z"]["mean"])
    best = evidence_of(told[order[0]])
    return [
        Rival(folders[k], told[k], bayes_factor(evidence_of(told[k]), best) if place else None)
        for place, k in enumerate(order)
    ]


def evidence_of(told: dict[str, Any]) -> Evidence:
    """From what `posterior.json` holds."""
    log_z = told["log_z"]
    error = log_z["standard_error"]
    return Evidence(
        float(log_z["mean"]),
        float("inf") if error is None else float(error),
        bool(log_z["holds"]),
        told["verdict"]["status"],
    )
