"""What a Hamiltonian sampler's own records say: E-BFMI, and where trajectories broke off.

Betancourt 2016, "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo"
(arXiv 1604.00695): between two trajectories only the fresh momentum changes the energy. If these
changes are small beside the spread of energies, chains walk slowly from one energy to another, and
do not reach the tails.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

LOWEST = 0.3
"""E-BFMI below this is too low (the limit that Stan warns at)."""


def e_bfmi(energies: ArrayLike) -> np.ndarray:
    """The energy's Bayesian fraction of missing information, of each chain (section 3.2).

    The sum of squared differences of successive energies over the sum of squared deviations from
    their mean: about 2 at most, 1 for a normal target, near 0 where energies hardly change.

    Args:
        energies: `[chains, draws]`, of the extended state, in nats.

    Returns:
        `[chains]`; NaN for a chain whose energies are not finite or do not change.
    """
    energies = np.asarray(energies, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        changes = np.sum(np.diff(energies, axis=1) ** 2, axis=1)
        spread = np.sum((energies - energies.mean(axis=1, keepdims=True)) ** 2, axis=1)
        return changes / np.where(spread > 0, spread, np.nan)


@dataclass(frozen=True)
class Divergences:
    """Where divergent transitions started: such a transition is refused, so its draw is its start.

    Attributes:
        recorded: draws whose transition was divergent.
        chains: how many chains have one.
        f, f_elsewhere: the mean f of these draws, and of the rest, in nats; None without any.
        norm, norm_elsewhere: the same of |u|^2.
        first: chain and draw of the first ones, counted from 0.
    """

    recorded: int
    chains: int
    f: float | None
    f_elsewhere: float | None
    norm: float | None
    norm_elsewhere: float | None
    first: list[tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "first": [list(pair) for pair in self.first]}

    @property
    def words(self) -> str:
        """Where they are, in a sentence; empty without any."""
        if not self.recorded:
            return ""
        where = f"They are in {self.chains} chains"
        if self.f is not None and self.f_elsewhere is not None:
            where += (
                f", at mean f {self.f:.4g} (elsewhere {self.f_elsewhere:.4g}) and mean |u|^2 "
                f"{self.norm:.4g} ({self.norm_elsewhere:.4g})"
            )
        return f"{where}."


def divergences(
    divergent: ArrayLike, f: ArrayLike, norm: ArrayLike, *, shown: int = 5
) -> Divergences:
    """Where they are.

    Args:
        divergent: whether the transition that made a draw was divergent, `[chains, draws]`.
        f, norm: of the draws, `[chains, draws]`.
        shown: how many are named.
    """
    at = np.asarray(divergent, bool)
    f, norm = np.asarray(f, np.float64), np.asarray(norm, np.float64)

    def mean(values: np.ndarray, where: np.ndarray) -> float | None:
        return float(np.mean(values[where])) if where.any() else None

    return Divergences(
        recorded=int(at.sum()),
        chains=int(at.any(axis=1).sum()),
        f=mean(f, at),
        f_elsewhere=mean(f, ~at),
        norm=mean(norm, at),
        norm_elsewhere=mean(norm, ~at),
        first=[(int(chain), int(draw)) for chain, draw in np.argwhere(at)[:shown]],
    )
