"""Scores to compare with, each learned from rows in standard units; higher for stranger rows.

None knows an outlier, and settings are the usual ones. ECOD is pyod's, where that is installed.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from tiltflow.backbones.units.normal import best_normal
from tiltflow.evaluation.outliers.distances import parts, squared_distances
from tiltflow.learning.noised_mixture import noised_mixture

NEIGHBOURS = 10
PLAIN = 1e-3  # the noise of the mixture: next to none

Rows = Float[np.ndarray, "rows columns"]
Baseline = Callable[[Rows, Rows, int], Float[np.ndarray, " others"]]
"""Training rows, rows to score, a seed."""


def neighbours(train: Rows, z: Rows, seed: int = 0) -> np.ndarray:
    """The mean distance to the ten nearest training rows (Angiulli and Pizzuti 2002)."""
    nearest, found = min(NEIGHBOURS, len(train)), np.empty(len(z))
    for some in parts(len(z), len(train)):
        squares = squared_distances(z[some], train)
        found[some] = np.sqrt(np.partition(squares, nearest - 1, axis=1)[:, :nearest]).mean(axis=1)
    return found


def mahalanobis(train: Rows, z: Rows, seed: int = 0) -> np.ndarray:
    """The distance to the mean, by the covariance of the training rows, shrunk."""
    normal, _ = best_normal(train[::2], train[1::2])
    return np.linalg.norm(np.linalg.solve(normal.factor, (z - normal.mean).T), axis=0)


def mixture(train: Rows, z: Rows, seed: int = 0) -> np.ndarray:
    """-log density of a Gaussian mixture, in nats."""
    return -noised_mixture(train, PLAIN, seed=seed).log_prob(z)


def isolation_forest(train: Rows, z: Rows, seed: int = 0) -> np.ndarray:
    """How few random cuts set a row apart (Liu, Ting and Zhou 2008), as scikit-learn has it."""
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(train).score_samples(z)


def ecod(train: Rows, z: Rows, seed: int = 0) -> np.ndarray:
    """Tail probabilities of the columns (Li et al. 2022, arXiv 2201.00382), as pyod has it."""
    from pyod.models.ecod import ECOD  # pyright: ignore[reportMissingImports]

    return ECOD().fit(train).decision_function(z)


def baselines() -> dict[str, Baseline]:
    """Those that can be had here, by name."""
    known: dict[str, Baseline] = {
        "neighbours": neighbours,
        "mahalanobis": mahalanobis,
        "mixture": mixture,
        "isolation forest": isolation_forest,
    }
    return known | ({"ecod": ecod} if find_spec("pyod") is not None else {})


def of_logits(logits: Float[np.ndarray, "rows classes"]) -> dict[str, Float[np.ndarray, " rows"]]:
    """The scores of a classifier: its largest probability, and the energy of its logits.

    Hendrycks and Gimpel 2017 (arXiv 1610.02136); Liu et al. 2020 (arXiv 2010.03759, eq. 4, T = 1).
    """
    energy = -np.asarray(logsumexp(logits, axis=1))
    return {"max softmax": -np.exp(logits.max(axis=1) + energy), "energy": energy}
