"""The sets of `outliers.py`: cut to 3,000 rows, split three times, with and without anomalies.

A set is a `.npz` file with `X` (`[rows, columns]`) and `y` (1: an anomaly). What is cut keeps the
share of anomalies, and 20 of them where the share would leave fewer, as in http and smtp. Of each
split 70% of the rows, of both kinds, are for training. In setting A the training rows are all of
these; in setting B the normal ones alone. Test rows are the same in both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).parents[1] / "../shared/data/adbench"
MOST_ROWS, FEWEST_ANOMALIES = 3_000, 20
TRAINING, SPLITS, SETTINGS = 0.7, 3, ("A", "B")


class Case(NamedTuple):
    """One split of a set in one setting; `anomalies` are booleans of the test rows."""

    name: str
    setting: str
    split: int
    train: np.ndarray
    test: np.ndarray
    anomalies: np.ndarray


def names(folder: Path) -> list[str]:
    """Of the sets in a folder, in the order of their letters, as `cover` of `10_cover.npz`."""
    return sorted((path.stem.split("_", 1)[1] for path in folder.glob("*_*.npz")), key=str.lower)


def cases(folder: Path, name: str, splits: int = SPLITS) -> Iterator[Case]:
    """Both settings of every split of one set."""
    (path,) = folder.glob(f"*_{name}.npz")
    with np.load(path) as found:
        x, anomalies = found["X"].astype(float), found["y"] == 1
    x, anomalies = _cut(x, anomalies)
    for split in range(splits):
        train = _training(anomalies, split)
        for setting in SETTINGS:
            chosen = train if setting == "A" else train & ~anomalies
            yield Case(name, setting, split, x[chosen], x[~train], anomalies[~train])


def _cut(x: np.ndarray, anomalies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 3,000 rows."""
    if len(x) <= MOST_ROWS:
        return x, anomalies
    if anomalies.mean() * MOST_ROWS >= FEWEST_ANOMALIES:
        kept, _ = train_test_split(
            np.arange(len(x)), train_size=MOST_ROWS, stratify=anomalies, random_state=0
        )
        return x[kept], anomalies[kept]
    rng = np.random.default_rng(0)
    strange, normal = np.flatnonzero(anomalies), np.flatnonzero(~anomalies)
    strange = rng.permutation(strange)[:FEWEST_ANOMALIES]
    kept = np.append(strange, rng.choice(normal, MOST_ROWS - len(strange), replace=False))
    return x[kept], anomalies[kept]


def _training(anomalies: np.ndarray, split: int) -> np.ndarray:
    """Which rows are for training: 70% of the anomalies and 70% of the others."""
    rows, _ = train_test_split(
        np.arange(len(anomalies)), train_size=TRAINING, stratify=anomalies, random_state=split
    )
    chosen = np.zeros(len(anomalies), bool)
    chosen[rows] = True
    return chosen
