"""How strange a row is: densities of blurred rows, each on its own robust scale, added.

Four densities are learned from the rows, or from the more ordinary half of them where outliers may
be among them: a product of columns; rows plus noise of one size; rows plus noise as wide as their
neighbours are far; and a Gaussian mixture of rows plus noise. In the words of the tilted model the
first is a base q, and each other one p is a tilt of it, f = log(p/q), with log Z = 0.

An energy E = -log p becomes g = asinh((E - m) / u), m the median of E over the rows that were
learned from and u their upper quartile less that: nats of unlike densities are on one scale, and
none of them can outvote the others by being far out. The score is a weighted sum of the four g.
Columns weigh as much as the other three together where outliers may be among the rows: outliers
that lie together and are left in the half are dense to all densities but that one. Where rows are
known to be ordinary, the finest density, the neighbours', weighs twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from tiltflow.data.containers import plain
from tiltflow.errors import InputError
from tiltflow.evaluation.outliers.blurred import as_neighbours_are, with_noise
from tiltflow.evaluation.outliers.columns import Columns
from tiltflow.evaluation.outliers.learned import learned
from tiltflow.evaluation.outliers.ordinary import ordinary_half

NOISE = 0.2  # standard deviation, where a column's own is 1
MOST_ROWS = 20_000  # that p-values rest on
MOST_CENTRES = 4_000  # that densities are learned from
FEWEST_ROWS = 5
LEAST_SCALE = 1e-6  # nats, of u
WEIGHTS = {  # of the sum, if outliers may be among the rows, and if not
    True: {"columns": 3.0, "blurred": 1.0, "neighbours": 1.0, "mixture": 1.0},
    False: {"columns": 1.0, "blurred": 1.0, "neighbours": 2.0, "mixture": 1.0},
}


class Part(Protocol):
    """One of the densities."""

    def energy(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """-log density of each row, in nats."""
        ...

    def by_column(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
        """What each column adds to it, up to what belongs to no column."""
        ...


class Scaled(NamedTuple):
    """A density and what its energies were over the rows that it was learned from.

    Attributes:
        part: it.
        weight: in the sum.
        middle, scale: median, and upper quartile less median, in nats.
        columns: `[columns]`, the median of what each column adds.
    """

    part: Part
    weight: float
    middle: float
    scale: float
    columns: np.ndarray

    def of(self, energy: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """The weighted g of energies."""
        return self.weight * np.arcsinh((energy - self.middle) / self.scale)


@dataclass(frozen=True, eq=False)
class OutlierScore:
    """What `outlier_score` returns: higher for stranger rows.

    Attributes:
        mean, sd: `[columns]`, the standard units; sd is 0 for a column that is constant, which is
            not looked at.
        parts: the densities, by name.
        training: the scores of the rows of training, ascending; those that were learned from are
            scored by densities that have not seen them.
    """

    mean: np.ndarray
    sd: np.ndarray
    parts: dict[str, Scaled]
    training: np.ndarray

    def score(self, x: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """Of each row, in the units of the training rows.

        Raises:
            InputError: rows of other columns, or values that are not finite.
        """
        z = self._standard(x)
        return np.sum([one.of(one.part.energy(z)) for one in self.parts.values()], axis=0)

    def p_values(self, score: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """The share of training rows that are at least as strange, the row itself counted.

        Of ordinary rows at most a share of about alpha has p <= alpha: fewer where outliers were
        among the training rows, which count as ordinary here.
        """
        below = np.searchsorted(self.training, score, side="left")
        return (1 + len(self.training) - below) / (len(self.training) + 1)

    def threshold(self, rate: float) -> float:
        """The score above which the share `rate` of the training rows is; none, if that is none."""
        number = round(rate * len(self.training))
        if number == 0:
            return float(self.training[-1])
        return float(np.nextafter(self.training[-number], -np.inf))

    def contributions(self, x: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows all"]:
        """Why a row is strange: what each column adds beyond its median, over u, summed.

        In the order of the columns of `x`; 0 for those that are constant in training.
        """
        z = self._standard(x)
        found = np.zeros((len(z), len(self.sd)))
        for one in self.parts.values():
            added = one.weight * (one.part.by_column(z) - one.columns) / one.scale
            found[:, self.sd > 0] += added
        return found

    def _standard(self, x: np.ndarray) -> np.ndarray:
        x = _finite_rows(x)
        if x.shape[1] != len(self.sd):
            raise InputError(f"rows of {x.shape[1]} columns; expected {len(self.sd)}, as learned")
        used = self.sd > 0
        return (x[:, used] - self.mean[used]) / self.sd[used]


def outlier_score(
    x: Float[np.ndarray, "rows columns"],
    *,
    contaminated: bool = True,
    noise: float = NOISE,
    seed: int = 0,
) -> OutlierScore:
    """Learn how strange rows are from rows `x`.

    Densities are learned from at most 4,000 rows, and p-values rest on at most 20,000, so that
    memory and time are bounded whatever the number of rows.

    Args:
        x: the training rows.
        contaminated: whether outliers may be among them: then the more ordinary half is learned
            from. If in doubt, they may: a wrong True costs less than a wrong False.
        noise: that rows are blurred with, in standard deviations of a column.
        seed: of which rows are taken, and of where the mixture starts.

    Raises:
        InputError: fewer than 5 rows, values that are not finite, columns that are all constant,
            or a noise that is not positive.
    """
    x = _finite_rows(x)
    if not 0 < noise < np.inf:
        raise InputError(f"noise is {noise}; expected a positive number, such as {NOISE}")
    if len(x) < FEWEST_ROWS:
        raise InputError(f"{len(x)} rows; expected at least {FEWEST_ROWS} to learn from")
    mean, sd = _units(x)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:MOST_ROWS]
    z = (x[rows] - mean)[:, sd > 0] / sd[sd > 0]
    kept = ordinary_half(z, rng) if contaminated else np.arange(len(z))
    centres = kept[:MOST_CENTRES]
    others = np.delete(z, centres, axis=0)
    parts, training = _learn(
        z[centres], others, noise=noise, weights=WEIGHTS[contaminated], seed=seed
    )
    return OutlierScore(mean, sd, parts, np.sort(training))


def _learn(
    z: np.ndarray, others: np.ndarray, *, noise: float, weights: Mapping[str, float], seed: int
) -> tuple[dict[str, Scaled], np.ndarray]:
    """The densities of rows `z`, and the scores of these and of others."""
    columns = Columns.fit(z)
    blurred, wide = with_noise(z, noise), as_neighbours_are(z)
    mixture = learned(z, noise, seed)
    each = {
        "columns": (columns, columns.energy(z)),
        "blurred": (blurred, blurred.energy_held_out()),
        "neighbours": (wide, wide.energy_held_out()),
        "mixture": (mixture, mixture.energy_held_out(z)),
    }
    parts, own, new = {}, np.zeros(len(z)), np.zeros(len(others))
    for name, (part, energy) in each.items():
        middle, upper = np.percentile(energy, [50, 75])
        scale = max(float(upper - middle), LEAST_SCALE)
        by_column = np.median(part.by_column(z), axis=0)
        one = Scaled(part, weights[name], float(middle), scale, by_column)
        parts[name] = one
        own += one.of(energy)
        if len(others):
            new += one.of(part.energy(others))
    return parts, np.concatenate([own, new])


def _finite_rows(x: np.ndarray) -> np.ndarray:
    x = np.asarray(plain(x, "the array of rows")[0], float)
    x = x.reshape(len(x), -1) if x.ndim else x[None, None]
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise InputError(f"row {row} has a value that is not finite; expected finite numbers")
    return x


def _units(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; exactly 0 where a column is constant."""
    mean = x.mean(axis=0)
    sd = np.where(np.ptp(x, axis=0) > 0, (x - mean).std(axis=0), 0.0)
    if not sd.any():
        raise InputError("every column is constant; expected one at least that varies")
    return mean, sd
