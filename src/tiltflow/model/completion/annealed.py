"""Gaps filled by annealed particles: from a rough mixture to the model, in small steps.

The mixture proposes, as for resampling, and where its weights p / r are too uneven, draws go from r
to p by way of r^(1 - b) p^b: at each b particles are resampled by (p / r)^(difference of b), and
moved by Metropolis and Hastings (Del Moral, Doucet and Jasra 2006, "Sequential Monte Carlo
samplers", section 3.3.2.3). A move needs no gradient: of a component that a particle is drawn by,
its normal noise is turned a little, t' = sqrt(1 - s^2) t + s e (Neal 1998, "Regression and
classification using Gaussian process priors", eq. 15), under the same component or another, which
leaves r as it is; so it is accepted on (p / r)^b alone.

Particles are in *islands*, which resample among themselves. Each tells its evidence, whose shares
are the weights of islands; how far they disagree says what all their draws are worth. A row whose
draws are worth too little is annealed again, with larger islands: of fewer rows at a time, so that
the density is asked for as many particles as before. It is found for one half of them while the
other half is moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Int

from tiltflow.diagnostics.verdict import FEWEST_ESS
from tiltflow.model.completion.boxed import Boxed, boxed
from tiltflow.model.completion.islands import Islands
from tiltflow.model.completion.rough import Mixture
from tiltflow.model.completion.rows import Seen, log_density
from tiltflow.model.tilted import TiltedModel

ROWS = 8  # side by side, the first time; half as many each time after
TIMES = 4  # that a row is annealed, at most, until its particles are worth enough
ISLANDS = 8  # of a row
HALF = 1_024  # particles of rows side by side, of which there are two halves
MOVES = 5  # at each b
EVERY = 3  # moves, one of which is to another component
KEPT = 0.9  # effective share of particles, from one b to the next
ACCEPTED, GAIN = 0.3, 2.0  # share of moves that turns are to have, and how fast they follow
LEAST_TURN = 1e-3


def until_enough(
    model: TiltedModel,
    rough: Mixture,
    seen: Seen,
    missing: Bool[np.ndarray, "rows dim"],
    draws: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Draws of what is `missing` of rows, as often as it takes.

    Yields:
        Of each row its number, draws `[draws, dim]` in columns, and how many even ones all its
        particles are worth; NaN where the model has no density.
    """
    left: Int[np.ndarray, " left"] = np.arange(len(missing))
    for time in range(1, TIMES + 1):
        again, rows = [], max(1, ROWS >> (time - 1))
        for some in np.split(left, range(rows, len(left), rows)) if len(left) else ():
            clouds = annealed(model, rough, seen.of(some), missing[some], rng)
            for at, cloud in zip(some.tolist(), clouds, strict=True):
                if cloud is None:
                    yield at, np.full((draws, missing.shape[1]), np.nan), np.nan
                    continue
                found = cloud.islands
                worth = found.ess(len(cloud.row.low))
                if worth >= max(FEWEST_ESS, draws) or time == TIMES:
                    yield at, cloud.whole(found.drawn(draws, rng)), worth
                else:
                    again.append(at)
        left = np.asarray(again, int)


def annealed(
    model: TiltedModel,
    rough: Mixture,
    seen: Seen,
    missing: Bool[np.ndarray, "rows dim"],
    rng: np.random.Generator,
) -> list[_Cloud | None]:
    """The particles of some rows; None where the model has no density."""
    each = max(1, 2 * HALF // (ISLANDS * len(missing)))
    clouds = [
        _Cloud(next(boxed(rough, seen.of(np.asarray([row])), pattern, own)), base, each, own)
        for row, (pattern, base, own) in enumerate(
            zip(missing, seen.low, rng.spawn(len(missing)), strict=True)
        )
    ]

    def log_p(of: list[_Cloud], each: list[np.ndarray]) -> list[np.ndarray]:
        w = np.concatenate([cloud.whole(values) for cloud, values in zip(of, each, strict=True)])
        return np.split(log_density(model, w), len(of))

    for cloud, found in zip(clouds, log_p(clouds, [c.values for c in clouds]), strict=True):
        cloud.begin(found)
    sound = [not lost and c.has_density for c, lost in zip(clouds, seen.lost, strict=True)]
    going = [cloud for cloud, is_sound in zip(clouds, sound, strict=True) if is_sound]
    for cloud in going:
        cloud.lower()
    asked = deque()
    with ThreadPoolExecutor(1) as beside:  # one program at a time

        def ask(half: list[_Cloud]) -> None:
            if half := [cloud for cloud in half if not cloud.is_done]:
                to = [cloud.proposed() for cloud in half]
                asked.append((half, to, beside.submit(log_p, half, to)))

        for half in (going[::2], going[1::2]):
            ask(half)
        while asked:
            half, to, answer = asked.popleft()
            for cloud, values, found in zip(half, to, answer.result(), strict=True):
                cloud.move(values, found)
            ask(half)
    return [cloud if is_sound else None for cloud, is_sound in zip(clouds, sound, strict=True)]


class _Cloud:
    """The particles of a row, in their islands."""

    def __init__(self, row: Boxed, base: np.ndarray, each: int, rng: np.random.Generator) -> None:
        """Particles of the mixture, so many on an island; `base` is the row, in columns."""
        self.row, self.base, self._each_island, self._rng = row, base, each, rng
        number = ISLANDS * each
        self.values = row.at(row.picked(number, rng), rng.standard_normal((number, len(row.order))))
        self._excess, self._each = np.full(number, np.nan), row.each(self.values)
        self._log_evidence = np.zeros(ISLANDS)
        self._b, self._turn, self._moves, self._due = 0.0, 1.0, 0, 0

    @property
    def is_done(self) -> bool:
        """Whether the particles are those of the model."""
        return self._b == 1.0 and self._due == 0

    @property
    def has_density(self) -> bool:
        """Whether there is one anywhere."""
        return bool(np.isfinite(self._excess).any())

    @property
    def islands(self) -> Islands:
        """What has become of them."""
        values = self.values.reshape(ISLANDS, self._each_island, -1)
        return Islands(values, self._excess.reshape(ISLANDS, -1), self._log_evidence)

    def whole(self, values: np.ndarray) -> np.ndarray:
        """Values as columns of whole rows."""
        w = np.repeat(np.asarray(self.base, np.float64)[None], len(values), axis=0)
        w[:, self.row.order] = values
        return w

    def begin(self, log_p: np.ndarray) -> None:
        """Told of the log-density of the first particles."""
        self._excess = _excess(log_p, self._each)

    def lower(self) -> None:
        """Resample on the way to the next b."""
        step = _step(self._excess, 1.0 - self._b)
        self._b = 1.0 if step >= 1.0 - self._b else self._b + step
        self._due = MOVES
        log_w = (step * self._excess).reshape(ISLANDS, -1)
        shares, top = np.exp(log_w - np.max(log_w)), np.max(log_w)
        means = shares.mean(axis=1)
        self._log_evidence += np.log(np.maximum(means, 1e-300)) + top
        shares[means == 0] = 1.0  # of an island that counts no more
        most = self._each_island
        at = [island * most + _systematic(one, self._rng) for island, one in enumerate(shares)]
        at = np.concatenate(at)
        self.values, self._excess = self.values[at], self._excess[at]
        self._each = self._each[:, at]

    def proposed(self) -> np.ndarray:
        """Where each particle might go; every so often under another component."""
        uniform = self._rng.random(len(self.values))
        below = np.cumsum(np.exp(self._each - self._each.max(axis=0)), axis=0)
        k = np.minimum(np.sum(below < uniform * below[-1], axis=0), len(below) - 1)
        noise = self.row.noise_of(k, self.values)
        if self._leaves:
            k = self.row.picked(len(k), self._rng)
        fresh = self._rng.standard_normal(noise.shape)
        return self.row.at(k, np.sqrt(1 - self._turn**2) * noise + self._turn * fresh)

    def move(self, values: np.ndarray, log_p: np.ndarray) -> None:
        """Accept or refuse; go on to the next b once moves are done."""
        each = self.row.each(values)
        excess = _excess(log_p, each)
        with np.errstate(invalid="ignore"):
            rise = self._b * (excess - self._excess)
        odds = np.where(np.isfinite(excess), np.exp(np.minimum(np.nan_to_num(rise), 0.0)), 0.0)
        moves = self._rng.random(len(odds)) < odds
        self.values = np.where(moves[:, None], values, self.values)
        self._excess = np.where(moves, excess, self._excess)
        self._each = np.where(moves, each, self._each)
        if not self._leaves:
            turn = self._turn * np.exp(GAIN * (odds.mean() - ACCEPTED))
            self._turn = float(np.clip(turn, LEAST_TURN, 1.0))
        self._moves, self._due = self._moves + 1, self._due - 1
        if not self._due and self._b < 1.0:
            self.lower()

    @property
    def _leaves(self) -> bool:
        return self._moves % EVERY == EVERY - 1


def _excess(log_p: np.ndarray, each: np.ndarray) -> np.ndarray:
    """The log of p / r; -inf where there is no density."""
    return np.where(np.isfinite(log_p), log_p - np.logaddexp.reduce(each, axis=0), -np.inf)


def _step(excess: np.ndarray, most: float) -> float:
    """How far b may go, at most so far, until weights leave the share `KEPT` of all effective."""

    def is_fine(step: float) -> bool:
        w = np.exp(step * (excess - excess.max()))
        return w.sum() ** 2 >= KEPT * len(w) * np.sum(w**2)

    if is_fine(most):
        return most
    low, high = 0.0, most
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_fine(middle) else (low, middle)
    return max(low, 1e-6 * most)


def _systematic(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many numbers as there are weights, each as often as its weight has it."""
    below = np.cumsum(weights)
    points = (np.arange(len(weights)) + rng.random()) / len(weights) * below[-1]
    return np.minimum(np.searchsorted(below, points), len(weights) - 1)
