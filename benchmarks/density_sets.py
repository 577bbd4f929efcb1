"""The data of the density shoot-out: the digits, and three tables made fit for a density.

A table's measurements are rounded, and a density on values that repeat can be made as large as
one likes. So every table goes through the same steps before any model sees it:

1. Rows that occur twice are kept once: a test row that is also a training row tests nothing.
2. A column that is the same in 999 of 1,000 training rows is dropped, and one whose correlation
   with an earlier column is above 0.98 (as Papamakarios et al. 2017, arXiv 1705.07057, do).
3. Every column is dequantised by uniform noise as wide as its own resolution, the median gap
   between its neighbouring distinct values. Where values hardly repeat that gap is tiny.
4. Columns are standardised by the mean and the standard deviation of the training rows.

Nats are per row in these standardised units. The digits stay in data units (pixels 0 to 16, bins
of width 1), as everywhere else. Training rows are handed out with several draws of the noise
where they are few, and held-out rows are scored with several, averaged before the interval is
taken; every model gets the same draws.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiltflow.data import Dataset, load, split

TABLES = ("protein", "elevators", "pol")
SETS = ("digits", *TABLES)
CONSTANT = 0.999  # share of one value from which a column counts as constant
CORRELATED = 0.98  # from here on a column counts as a copy of another
TRAIN_ROWS = 40_000  # draws of the noise are added up to about so many training rows
QUICK_ROWS = 3_000
HELD_OUT_ROWS = 20_000  # likewise, and at most 10 draws a row


@dataclass(frozen=True, eq=False)
class Shared:
    """What every model is given, float32, one example a row of `dim` numbers.

    Attributes:
        name: of the set.
        integers: `[rows, dim]`, training rows before their noise, or None for tables.
        train: `[copies * rows, dim]`, all rows with one draw of the noise, then with another.
        copies: draws of the noise of each training row.
        val, test: `[rows, draws, dim]`.
    """

    name: str
    integers: np.ndarray | None
    train: np.ndarray
    copies: int
    val: np.ndarray
    test: np.ndarray

    @property
    def rows(self) -> int:
        """Training rows that differ in more than their noise."""
        return len(self.train) // self.copies

    @property
    def val_flat(self) -> np.ndarray:
        """`[rows * draws, dim]`."""
        return self.val.reshape(-1, self.val.shape[-1])

    @property
    def test_flat(self) -> np.ndarray:
        """`[rows * draws, dim]`."""
        return self.test.reshape(-1, self.test.shape[-1])


def gather(name: str, folder: Path, *, quick: bool = False, seed: int = 0) -> Shared | None:
    """The set `name`; None if it is a table that `folder` does not hold.

    If `quick`, some rows are taken of a table at random, and one draw of the noise is enough.
    """
    rng = np.random.default_rng(seed)
    if name == "digits":
        x = load("digits").values.reshape(1797, -1)
        width, offset = np.ones(x.shape[1]), 0.5
    else:
        path = folder / name / "data.csv.gz"
        if not path.exists():
            return None
        x = np.unique(load(path).values, axis=0).astype(np.float64)
        x = x[rng.permutation(len(x))[: QUICK_ROWS if quick else None]]
        width, offset = np.array([resolution(column) for column in x.T]), 0.0
    parts = split(Dataset(name, x, integers=False))
    if name != "digits":
        kept = informative(x[parts.train])
        x, width = x[:, kept], width[kept]
        mean, scale = x[parts.train].mean(axis=0), x[parts.train].std(axis=0)
        x, width = (x - mean) / scale, width / scale

    def noisy(index: np.ndarray, draws: int) -> np.ndarray:
        """`[rows, draws, dim]`."""
        noise = rng.uniform(-0.5 + 1e-4, 0.5 - 1e-4, (len(index), draws, x.shape[1]))
        return (x[index][:, None] + offset + width * noise).astype(np.float32)

    def held_out(index: np.ndarray) -> np.ndarray:
        return noisy(index, 1 if quick else int(np.clip(HELD_OUT_ROWS // len(index), 1, 10)))

    copies = 1 if quick else max(1, TRAIN_ROWS // len(parts.train))
    train = noisy(parts.train, copies)
    return Shared(
        name=name,
        integers=x[parts.train].astype(np.float32) if name == "digits" else None,
        copies=copies,
        train=np.swapaxes(train, 0, 1).reshape(-1, x.shape[1]),
        val=held_out(parts.val),
        test=held_out(parts.test),
    )


def resolution(column: np.ndarray) -> float:
    """The median gap between neighbouring distinct values, 0 for a constant column."""
    levels = np.unique(column)
    return float(np.median(np.diff(levels))) if len(levels) > 1 else 0.0


def informative(x: np.ndarray) -> list[int]:
    """The columns of `x` that are neither (nearly) constant nor a copy of an earlier one."""
    kept: list[int] = []
    for j, column in enumerate(x.T):
        varies = np.unique(column, return_counts=True)[1].max() < CONSTANT * len(column)
        if varies and all(abs(np.corrcoef(x[:, i], column)[0, 1]) < CORRELATED for i in kept):
            kept.append(j)
    return kept
