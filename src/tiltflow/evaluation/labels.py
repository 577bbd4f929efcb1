"""Labels for draws, so that travel between modes can be followed.

Either the data's own labels, carried over by nearest neighbours among training rows, or clusters
of k-means on draws and data together: data are among them so that a mode which no chain found is a
cluster all the same.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsClassifier

from tiltflow.data import Dataset
from tiltflow.errors import InputError

Kind = Literal["data", "kmeans"]
NEIGHBOURS = 3
FITTED = 4_000  # draws that clusters are fitted to


@dataclass(frozen=True, eq=False)
class Labelled:
    """Draws with a mode each.

    Attributes:
        kind: where the labels come from.
        labels: `[chains, draws]`, integers below the number of modes.
        names: of the modes.
        in_data: each mode's share of the data, `[modes]`, or None without data.
        accuracy: share of held-out rows that the classifier labels as the data do, or None.
    """

    kind: Kind
    labels: np.ndarray
    names: tuple[str, ...]
    in_data: np.ndarray | None
    accuracy: float | None


def by_data(x: np.ndarray, train: Dataset, held_out: Dataset) -> Labelled:
    """The data's own labels.

    Args:
        x: draws, `[chains, draws, *data_shape]`, data units.
        train: rows whose labels are carried over.
        held_out: rows that tell how well this works.

    Raises:
        InputError: the data have no labels.
    """
    if train.labels is None or held_out.labels is None:
        raise InputError(f"{train.name} has no labels; expected labelled data: use --labels kmeans")
    scale = _scale(train.values)
    names, index = np.unique(train.labels, return_inverse=True)
    classifier = KNeighborsClassifier(NEIGHBOURS).fit(_rows(train.values) / scale, index)
    labels = classifier.predict(_rows(x, 2) / scale).reshape(x.shape[:2])
    told = names[classifier.predict(_rows(held_out.values) / scale)]
    return Labelled(
        kind="data",
        labels=labels,
        names=tuple(str(name) for name in names),
        in_data=np.bincount(index, minlength=len(names)) / len(index),
        accuracy=float(np.mean(told == held_out.labels)),
    )


def by_kmeans(x: np.ndarray, modes: int, data: Dataset | None, *, seed: int) -> Labelled:
    """Clusters; in order of their share of the draws.

    Args:
        x: draws, `[chains, draws, *data_shape]`, data units.
        modes: clusters wanted; fewer if there are fewer different rows.
        data: rows of the data, or None.
        seed: of the clusters' starts.
    """
    rows = _rows(x, 2)
    scale = _scale(rows if data is None else data.values)
    rows = rows / scale
    known = rows[:0] if data is None else _rows(data.values) / scale
    fitted_to = np.concatenate([rows[:: -(-len(rows) // FITTED)], known[:FITTED]])
    modes = min(modes, len(np.unique(fitted_to, axis=0)))
    clusters = KMeans(modes, n_init=3, random_state=seed % 2**32).fit(fitted_to)
    found = clusters.predict(rows)
    order = np.argsort(-np.bincount(found, minlength=modes), kind="stable")
    rank = np.argsort(order)
    in_data = None
    if data is not None:
        in_data = np.bincount(rank[clusters.predict(known)], minlength=modes) / len(known)
    return Labelled(
        kind="kmeans",
        labels=rank[found].reshape(x.shape[:2]),
        names=tuple(f"cluster {i}" for i in range(modes)),
        in_data=in_data,
        accuracy=None,
    )


def _rows(x: np.ndarray, leading: int = 1) -> np.ndarray:
    """`[rows, dim]`, contiguous; the first `leading` axes are rows."""
    return np.ascontiguousarray(x, np.float32).reshape(int(np.prod(x.shape[:leading])), -1)


def _scale(values: np.ndarray) -> np.ndarray:
    """What to divide columns by: their spread in a table, the same for all pixels of an image."""
    if values.ndim > 2:
        return np.ones((1, 1), np.float32)
    spread = _rows(values).std(axis=0, keepdims=True)
    return np.where(spread > 0, spread, 1.0)
