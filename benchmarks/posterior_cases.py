"""What the densities of `posterior.py` have in common."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Case:
    """A density.

    Attributes:
        log_density, parameters: as `tiltflow.posterior` takes them.
        start: draws from a seed, or None.
        log_z: the truth; NaN where there is none (an improper density).
        shares: of the parts that `part` tells apart, or None.
        part: draws by name to the part of each.
        within: half of the interval asked for.
        most: (error, seconds) that the issue asks for; NaN: nothing.
        beyond: why nobody who evaluates the density can know the truth; "": somebody can.
        frugal: evaluations of the frugal setting, and the half width there.
        draws: asked for; shares of many modes are not known better than draws tell.
        doubt: why a right run is to be doubted all the same; "": it is not.
    """

    log_density: Callable[..., Any]
    parameters: Any
    start: Callable[[np.random.Generator], Any] | None
    log_z: float
    within: float = 0.02
    shares: tuple[float, ...] | None = None
    part: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None
    most: tuple[float, float] = (math.nan, math.nan)
    beyond: str = ""
    most_tv: float = math.nan
    frugal: tuple[int, float] | None = None
    doubt: str = ""
    draws: int = 4_000


def normal_start(dim: int, scale: float) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: scale * rng.standard_normal((2_000, dim))


def box_start(dim: int, low: float, high: float) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.uniform(low, high, (2_000, dim))


def nearest(means: np.ndarray) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    def part(draws: dict[str, np.ndarray]) -> np.ndarray:
        return np.argmin(((draws["x"][..., None, :] - means) ** 2).sum(axis=-1), axis=-1)

    return part
