"""Labels for draws, so that travel between modes can be followed.

Either the data's own labels, carried over by nearest neighbours among training rows, or clusters
of k-means on draws and data together: data are among them so that a mode which no chain found is a
cluster all the same. Shares of the data are of what the classifier says of rows that it does not
know, as it does not know the draws: it may mistake one class for another, and then of both alike.
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
FAR = 1e6  # in units of the scale: draws beyond are taken as being there
FITTED = 4_000  # draws that clusters are fitted to
ENOUGH = 5_000  # held-out rows for the classes' shares; of fewer shares are off by luck


@dataclass(frozen=True, eq=False)
class Labelled:
    """Draws with a mode each.

    Attributes:
        kind: where the labels come from.
        labels: `[chains, draws]`, integers below the number of modes.
        names: of the modes.
        in_data: each mode's share of the data, `[modes]`, as the classifier or the clusters tell;
            None without data.
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
        held_out: rows that tell how well this works, and which shares it finds in data. Where
            they are few the training rows tell the shares, each labelled by the others.

    Raises:
        InputError: the data have no labels.
    """
    if train.labels is None or held_out.labels is None:
        raise InputError(f"{train.name} has no labels; expected labelled data: use --labels kmeans")
    scale = _scale(train.values)
    names, index = np.unique(train.labels, return_inverse=True)
    classifier = KNeighborsClassifier(NEIGHBOURS).fit(_scaled(train.values, scale), index)
    labels = classifier.predict(_scaled(x, scale, 2)).reshape(x.shape[:2])
    told = classifier.predict(_scaled(held_out.values, scale))
    of_data = told if len(told) >= ENOUGH else classifier.predict(None)  # each by the others
    return Labelled(
        kind="data",
        labels=labels,
        names=tuple(str(name) for name in names),
        in_data=np.bincount(of_data, minlength=len(names)) / len(of_data),
        accuracy=float(np.mean(names[told] == held_out.labels)),
    )


def by_kmeans(x: np.ndarray, modes: int, data: Dataset | None, *, seed: int) -> Labelled:
    """Clusters; in order of their share of the draws.

    Args:
        x: draws, `[chains, draws, *data_shape]`, data units.
        modes: clusters wanted; fewer if there are fewer different rows.
        data: rows of the data, or None.
        seed: of the clusters' starts.
    """
    scale = _scale(x.reshape(-1, *x.shape[2:]) if data is None else data.values)
    rows = _scaled(x, scale, 2)
    known = rows[:0] if data is None else _scaled(data.values, scale)
    fitted_to = np.concatenate([rows[:: -(-len(rows) // FITTED)], known[:FITTED]])
    modes = min(modes, len(np.unique(fitted_to, axis=0)))
    clusters = KMeans(modes, random_state=seed % 2**32).fit(fitted_to)
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


def _scaled(x: np.ndarray, scale: np.ndarray, leading: int = 1) -> np.ndarray:
    """`[rows, dim]`, within bounds; the first `leading` axes are rows."""
    rows = np.asarray(x, np.float32).reshape(int(np.prod(x.shape[:leading])), -1)
    return np.clip(np.nan_to_num(rows / scale), -FAR, FAR)


def _scale(values: np.ndarray) -> np.ndarray:
    """What to divide columns by: their spread in a table, the same for all pixels of an image."""
    if values.ndim > 2:
        return np.ones((1, 1), np.float32)
    spread = np.asarray(values, np.float32).std(axis=0, keepdims=True)
    return np.where(spread > 0, spread, 1.0)
