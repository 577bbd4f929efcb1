"""The data of the density shoot-out: real tables, the digits, and MNIST at 16 x 16.

Every set goes through `tiltflow.load_data`, so that columns are what any user's are, and through
the library's own split. Rows that occur twice are kept once, as a test row that is also a training
row tests nothing, and columns that are constant among training rows are dropped.

Peers are handed rows in data units with the noise of each number's own cell, several draws of each
training row where there are few, and every held-out row with `DRAWS` draws, the same for all
models. Nats are those of a row's cells: the mean over its draws of log p(row + noise) + log volume.
"""

from dataclasses import dataclass
from pathlib import Path

import jax.random as jr
import numpy as np

from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.data import Dataset, Splits, load, split
from tiltflow.learning import Rows

SHARED = Path(__file__).parents[1] / "../shared/data"
UCI = ("protein", "elevators", "pol", "keggundirected", "concrete", "wine", "stock", "solar")
ADBENCH = {
    "cardiotocography": "7_Cardiotocography",
    "pendigits": "28_pendigits",
    "shuttle": "32_shuttle",
    "yeast": "47_yeast",
}
SETS = ("digits", "mnist16", *UCI, *ADBENCH)
DRAWS = 10  # of the noise of a held-out row
TRAIN_ROWS, MOST_COPIES = 20_000, 8  # draws of the noise are added up to about so many rows
IMAGES, MOST_ROWS = 13_500, 50_000
KEY = 0


@dataclass(frozen=True, eq=False)
class Shared:
    """What every model is given.

    Attributes:
        name: of the set.
        data, parts: as `tiltflow.fit` takes them.
        train: `[copies * rows, dim]`, float32, with noise, all rows once and then again.
        val: `[rows, DRAWS, dim]`; `test` likewise.
        test_volume: `[rows, DRAWS]`, log of the volume of each row's cells.
        test_rows: the test rows before their noise.
    """

    name: str
    data: Dataset
    parts: Splits
    train: np.ndarray
    val: np.ndarray
    val_volume: np.ndarray
    test: np.ndarray
    test_volume: np.ndarray
    test_rows: Rows


def gather(name: str, folder: Path = SHARED) -> Shared:
    """The set `name`."""
    x = _rows(name, folder)
    x = x[np.sort(np.unique(x, axis=0, return_index=True)[1])]
    for _ in range(2):  # the split depends on the columns
        data = load(x)
        parts = split(data)
        varies = np.ptp(x[parts.train].reshape(len(parts.train), -1), axis=0) > 0
        if varies.all():
            break
        x = x.reshape(len(x), -1)[:, varies]
    rows = {part: _cells(data, getattr(parts, part)) for part in ("train", "val", "test")}
    copies = int(np.clip(TRAIN_ROWS // len(parts.train), 1, MOST_COPIES))
    noisy = {
        part: rows[part].every(jr.key(KEY), copies if part == "train" else DRAWS) for part in rows
    }
    train = np.swapaxes(noisy["train"][0], 0, 1).reshape(-1, noisy["train"][0].shape[-1])
    return Shared(name, data, parts, train, *noisy["val"], *noisy["test"], rows["test"])


def _rows(name: str, folder: Path) -> np.ndarray:
    if name == "digits":
        return load("digits").values.reshape(1797, -1)
    if name == "mnist16":
        with np.load(folder / "mnist.npz") as found:
            images = found["x_train"][:IMAGES]
        padded = np.pad(images.astype(float), ((0, 0), (2, 2), (2, 2)))
        means = padded.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4))
        return np.round(means).reshape(len(means), -1)
    if name in ADBENCH:
        with np.load(folder / "adbench" / f"{ADBENCH[name]}.npz") as found:
            x = found["X"][found["y"] == 0].astype(float)
    else:
        x = np.loadtxt(folder / "uci" / name / "data.csv.gz", delimiter=",")
        x = x[:, np.ptp(x.astype(np.float32), axis=0) > 0]
    return np.random.default_rng(0).permutation(x)[:MOST_ROWS]


def _cells(data: Dataset, index: np.ndarray) -> Rows:
    values = data.take(index).values
    if data.grid is not None:
        values = data.grid.to_cells(values)
    return Rows(
        np.asarray(values, np.float32),
        integers=data.integers,
        steps=None if data.grid is None else data.grid.step,
        atoms=atom_cells(data.grid),
    )
