"""How well a tilt with classes tells them: accuracy, nats of the labels, calibration.

The calibration error is the mean, over held-out rows in bins of equal width by the probability of
the likeliest class, of how far that is from the share that is right (Guo et al. 2017,
arXiv 1706.04599, eq. 3). It is above zero by chance alone, so that beside it stands what a
classifier that knows its own errors would show in 95 of 100 sets of as many rows.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import logsumexp

from tiltflow.errors import InputError
from tiltflow.learning import Rows
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import Interval, interval_of_mean
from tiltflow.parallel.devices import over_devices
from tiltflow.tilts import Tilt
from tiltflow.tilts.classes import class_logits

BINS = 15
DRAWS, INSIDE = 200, 95.0  # of labels as a calibrated classifier has them; %


@dataclass(frozen=True)
class Classified:
    """Held-out rows with labels.

    Attributes:
        rows: how many.
        accuracy: share whose likeliest class is their label.
        nll: -log p(label | x), nats.
        calibration_error: mean distance of confidence and accuracy, in bins; 0 to 1.
        by_chance: below this it is in 95% of sets if the probabilities are right.
    """

    rows: int
    accuracy: Interval
    nll: Interval
    calibration_error: float
    by_chance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy.mean,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "nll": self.nll.mean,
            "nll_low": self.nll.low,
            "nll_high": self.nll.high,
            "calibration_error": self.calibration_error,
            "calibration_error_by_chance": self.by_chance,
        }


def classified(
    log_probs: Float[np.ndarray, "rows K"], labels: Int[np.ndarray, " rows"], *, seed: int = 0
) -> Classified:
    """Accuracy, nats and calibration of probabilities of classes.

    Args:
        log_probs: log p(k | x) of each row, up to a constant of each.
        labels: the classes, below K.
        seed: of what chance does.

    Raises:
        InputError: other numbers of rows, or labels that are no classes.
    """
    labels = np.asarray(labels)
    rows, classes = log_probs.shape
    if labels.shape != (rows,) or not np.all((labels >= 0) & (labels < classes)):
        raise InputError(
            f"labels of shape {labels.shape} for {rows} rows with {classes} classes; expected one "
            f"of 0 to {classes - 1} a row"
        )
    log_probs = log_probs - logsumexp(log_probs, axis=1, keepdims=True)
    told, confidence = log_probs.argmax(axis=1), np.exp(log_probs.max(axis=1))
    right = told == labels
    rng = np.random.default_rng(seed)
    chance = [calibration_error(confidence, rng.random(rows) < confidence) for _ in range(DRAWS)]
    return Classified(
        rows,
        interval_of_mean(right.astype(float)),
        interval_of_mean(-log_probs[np.arange(rows), labels]),
        calibration_error(confidence, right),
        float(np.percentile(chance, INSIDE)),
    )


def calibration_error(confidence: Float[np.ndarray, " rows"], right: np.ndarray) -> float:
    """The mean over rows of |accuracy - confidence| of the bin they are in."""
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    apart = np.bincount(which, weights=confidence - right, minlength=BINS)
    return float(np.abs(apart).sum() / len(confidence))


def class_log_probs(
    model: TiltedModel, rows: Rows, key: PRNGKeyArray
) -> Float[np.ndarray, "rows K"]:
    """log p(k | x) of every row, dequantised and embedded once.

    Raises:
        InputError: the model's tilt tells no classes.
    """
    rows = rows.through(model.backbone)
    return np.asarray(_log_probs(model, rows, key), np.float64)[: len(rows)]


@over_devices
def _log_probs(model: TiltedModel, rows: Rows, key: PRNGKeyArray) -> Float[Array, "room K"]:
    assert isinstance(model.tilt, Tilt)
    tilt = model.tilt
    return rows.each(lambda c, _: jax.nn.log_softmax(class_logits(tilt, c)), key)
