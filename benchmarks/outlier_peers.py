"""Other people's detectors beside ours: standardised columns, default settings, no labels.

Scikit-learn's are run as they are. COPOD, ECOD, HBOS and PCA are pyod's where that is installed,
and a few lines from their papers elsewhere: the JSON says which. A deep one, DeepSVDD, is pyod's
where torch is installed too. Each takes (training rows, test rows, seed) and returns scores, higher
for stranger rows.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

Peer = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
COMPONENTS = (1, 2, 4, 8, 16)  # of the mixture, chosen by BIC
LARGEST_FULL = 200  # columns; with more of them covariances are diagonal
BINS = 10  # of a histogram


def forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def neighbours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The mean distance to the ten nearest."""
    return NearestNeighbors(n_neighbors=10).fit(train).kneighbors(test)[0].mean(axis=1)


def fifth(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The distance to the fifth neighbour."""
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0][:, -1]


def lof(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


def svm(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -OneClassSVM().fit(train).score_samples(test)


def mixture(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """A Gaussian mixture whose size BIC chooses."""
    kind = "full" if train.shape[1] <= LARGEST_FULL else "diag"
    fitted = [
        GaussianMixture(size, covariance_type=kind, random_state=seed).fit(train)
        for size in COMPONENTS
        if size == 1 or 2 * size < len(train)
    ]
    return -min(fitted, key=lambda one: one.bic(train)).score_samples(test)


def pca(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Squared coordinates over their variances, along all components with any."""
    found = PCA(random_state=seed).fit(train)
    kept = found.explained_variance_ > 1e-6 * found.explained_variance_[0]
    return (found.transform(test)[:, kept] ** 2 / found.explained_variance_[kept]).sum(axis=1)


def tails(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-log of the empirical tail probabilities of each value, left and right."""
    both = np.concatenate([train, test])  # as pyod has it: a test row counts as one of the rows

    def left(columns: np.ndarray) -> np.ndarray:
        ordered = np.sort(columns, axis=0)
        counts = [
            np.searchsorted(o, x, side="right")
            for o, x in zip(ordered.T, columns[len(train) :].T, strict=True)
        ]
        return -np.log(np.stack(counts, axis=1) / len(columns))

    return left(both), left(-both)


def ecod(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Li et al. 2022: the largest of three sums of tails over columns."""
    left, right = tails(train, test)
    sign = np.sign(skew(np.concatenate([train, test]), axis=0))
    by_skew = np.where(sign < 0, left, right)
    return np.maximum.reduce([left.sum(1), right.sum(1), by_skew.sum(1)])


def copod(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Li et al. 2020: in each column the larger of the mean of both tails and the skewed one."""
    left, right = tails(train, test)
    sign = np.sign(skew(np.concatenate([train, test]), axis=0))
    by_skew = np.where(sign < 0, left, np.where(sign > 0, right, left + right))
    return np.maximum(by_skew, (left + right) / 2).sum(axis=1)


def hbos(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Goldstein and Dengel 2012: independent histograms of ten bins."""
    score = np.zeros(len(test))
    for a, b in zip(train.T, test.T, strict=True):
        counts, edges = np.histogram(a, BINS)
        height = np.append(counts / counts.max(), 0.0)
        at = np.clip(np.searchsorted(edges, b, side="right") - 1, 0, BINS - 1)
        at = np.where((b < edges[0]) | (b > edges[-1]), BINS, at)
        score -= np.log(height[at] + 0.1)
    return score


def by_pyod(module: str, name: str) -> Peer:
    """A detector of pyod by its module and class, with its own defaults."""

    def score(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        detector = getattr(import_module(f"pyod.models.{module}"), name)
        return detector().fit(train).decision_function(test)

    return score


def deep(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """pyod's DeepSVDD, with its own defaults."""
    from pyod.models.deep_svdd import DeepSVDD

    detector = DeepSVDD(n_features=train.shape[1], random_state=seed, verbose=0)
    return detector.fit(train).decision_function(test)


PEERS: dict[str, Peer] = {
    "isolation forest": forest,
    "neighbours, mean of 10": neighbours,
    "neighbours, 5th": fifth,
    "LOF": lof,
    "one-class SVM": svm,
    "mixture, BIC": mixture,
    "ECOD": ecod,
    "COPOD": copod,
    "HBOS": hbos,
    "PCA": pca,
}
PYOD = {"ECOD": "ecod", "COPOD": "copod", "HBOS": "hbos", "PCA": "pca"}


def peers() -> tuple[dict[str, Peer], str]:
    """All that can be had here, and whose they are."""
    warnings.filterwarnings("ignore", module="sklearn")
    warnings.filterwarnings("ignore", module="pyod")
    if find_spec("pyod") is None:
        return PEERS, "pyod is not installed: ECOD, COPOD, HBOS and PCA from their papers"
    found = PEERS | {name: by_pyod(module, name) for name, module in PYOD.items()}
    words = "ECOD, COPOD, HBOS and PCA are pyod's"
    if find_spec("torch") is None:
        return found, f"{words}; torch is not installed: no deep one"
    return found | {"DeepSVDD": deep}, words
