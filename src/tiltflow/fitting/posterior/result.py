"""What `tiltflow.posterior` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiltflow.arviz import built
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.proposal import Proposal
from tiltflow.fitting.posterior.target import Target, natural_at, values_at
from tiltflow.fitting.posterior.verdict import Verdict
from tiltflow.normalizer.bayes_factor import BayesFactor, Evidence, bayes_factor
from tiltflow.normalizer.estimate import LogZ
from tiltflow.runs.atomic import write_arrays, write_json

SHOWN = 6  # modes in the summary


class Mode(NamedTuple):
    """A part of the density that no draws connect with the others.

    Attributes:
        share: of the mass; by exact draws of the proposal and their weights where these know it
            better than the draws.
        error: standard error of the share.
        log_z: of this part alone, in nats.
        mean: of its draws, by name.
        found_by: how many of the populations have particles in it.
    """

    share: float
    error: float
    log_z: float
    mean: dict[str, np.ndarray]
    found_by: int


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a density, its evidence, and the verdict on both.

    Attributes:
        verdict: its status, reasons and words.
        log_z: log of the integral, with an interval and bounds from both sides (`LogZ`).
        draws: by name, `[chains, draws, *shape]`, natural coordinates, equal weights.
        log_density: the user's, with its constant, at each draw, `[chains, draws]`.
        modes: those with the most draws first.
        labels: the mode of each draw, `[chains, draws]`, in that order.
        worst: the largest R-hat, the smallest effective sizes and which they are of.
        trail: what each verdict of the run was, the last one last.
        budget: seconds and evaluations by stage.
        target, proposal: what was sampled, and the density that stands for it.
        positions: rows y of the target, `[chains, draws, dim]`.
    """

    verdict: Verdict
    log_z: LogZ
    draws: dict[str, np.ndarray]
    log_density: np.ndarray
    modes: tuple[Mode, ...]
    labels: np.ndarray
    worst: dict[str, Any]
    trail: tuple[dict[str, Any], ...] = field(repr=False)
    budget: Budget = field(repr=False)
    target: Target = field(repr=False)
    proposal: Proposal = field(repr=False)
    positions: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        """Ten lines or so, the verdict first."""
        z, worst = self.log_z, self.worst
        chains, draws = self.log_density.shape
        half = (z.high - z.low) / 2
        modes = ", ".join(f"{m.share:.3g} ± {m.error:.2g}" for m in self.modes[:SHOWN])
        lines = [
            self.verdict.words,
            f"log Z      {z.mean:.4f} ± {half:.4f} (95%), bounds {z.lower:.3f} to {z.upper:.3f}",
            f"modes      {len(self.modes)} found, shares {modes}"
            + (" ..." if len(self.modes) > SHOWN else ""),
            f"searched   {self.verdict.searched}",
            f"draws      {chains} chains of {draws}, equal weights",
            f"R-hat      {worst['rhat']:.4f} at worst ({worst['rhat_of']})",
            f"ESS        bulk {worst['ess_bulk']:.0f}, tail {worst['ess_tail']:.0f} at worst",
            f"spent      {self.budget.elapsed:.1f} s, {self.budget.used:,} evaluations",
            f"stages     {self.budget.words}",
        ]
        return "\n".join([*lines, *(f"helped     {line}" for line in self.verdict.helped)])

    def log_prob(self, x: Any) -> np.ndarray:
        """The normalised log-density at draws `x`, by name or an array as `start` is; `[n]`.

        Raises:
            InputError: a name that is missing, a wrong shape, or a value outside.
        """
        rng = np.random.default_rng(0)
        parameters = self.target.parameters
        u = parameters.free(x, rng, "x")
        y = self.target.from_free(u)
        value = values_at(self.target, y) - natural_at(self.target, y)[1]
        return value + float(self.target.reference) - self.log_z.mean

    def sample(self, number: int, seed: int = 0) -> dict[str, np.ndarray]:
        """So many of the draws, by name, in random order; with replacement if there are fewer."""
        flat = {name: v.reshape(-1, *v.shape[2:]) for name, v in self.draws.items()}
        total = self.log_density.size
        chosen = np.random.default_rng(seed).choice(total, number, replace=number > total)
        return {name: values[chosen] for name, values in flat.items()}

    def to_arviz(self) -> Any:
        """The draws as ArviZ has them: `posterior` by name, and `lp` in `sample_stats`.

        Raises:
            InputError: ArviZ is not installed.
        """
        about = {"log_z": self.log_z.mean, "verdict": self.verdict.status}
        return built(dict(self.draws), {"lp": self.log_density}, about)

    def compare(self, other: Posterior) -> BayesFactor:
        """The log Bayes factor of this density over `other`, with a 95% interval."""
        first, second = (
            Evidence(p.log_z.mean, p.log_z.standard_error, p.log_z.holds, p.verdict.status)
            for p in (self, other)
        )
        return bayes_factor(first, second)

    def to_dict(self) -> dict[str, Any]:
        """What `save` writes beside the draws: plain values."""
        return {
            "verdict": self.verdict.to_dict(),
            "log_z": self.log_z.to_dict(),
            "modes": [
                {**m._asdict(), "mean": {name: v.tolist() for name, v in m.mean.items()}}
                for m in self.modes
            ],
            "worst": self.worst,
            "trail": list(self.trail),
            "seconds": self.budget.elapsed,
            "evaluations": self.budget.used,
            "stages": {name: vars(stage) for name, stage in self.budget.stages.items()},
        }

    def save(self, out: str | Path) -> None:
        """Write `posterior.json` and `draws.npz` into a folder, each whole or not at all."""
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {**self.draws, "log_density": self.log_density, "mode": self.labels}
        write_arrays(folder / "draws.npz", arrays)
        write_json(folder / "posterior.json", self.to_dict())
