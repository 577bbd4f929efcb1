"""A tilt that tells the labels apart: classifier, density, and chains of one class."""

from dataclasses import replace

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest

import tiltflow
from tiltflow.backbones import Gaussian, fit_units
from tiltflow.data import Dataset
from tiltflow.errors import InputError
from tiltflow.evaluation.classified import class_log_probs, classified
from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.model.classes import of_class
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify_gaussian
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import ClassTilt

NAMES = np.array([3, 7])
SETTINGS = Settings(
    model=ModelSettings(backbone="gaussian", classes=True, tilt_width=16, tilt_dropout=0.0),
    tilt=TiltSettings(
        steps=300, particles=256, batch_data=128, batch_particles=128, rate=1e-2, memory=0.98,
        bank=1_000, judge_every=2, decay=0.0,
    ),
    sampling=SamplingSettings(chains=16, draws=100, warmup=20, exact_draws=2_000),
)  # fmt: skip
LOG_Z = LogZ(0.0, 0.01, -0.02, 0.02, "bridge", 900.0, 800.0, holds=True, words="Fine.")


def dataset(number=1_500, seed=0):
    """A class on either side; log odds 8 times the first column."""
    rng = np.random.default_rng(seed)
    sides = rng.choice([-1.0, 1.0], number)
    x = rng.normal(size=(number, 2)) * 0.5 + np.stack([sides, 0 * sides], axis=1)
    return Dataset("sides", x.astype(np.float32), False, labels=NAMES[(sides > 0).astype(int)])


def check_posterior(model):
    """p(k given x) is the logistic function of 8 x; and accuracy is Phi(2)."""
    new = dataset(2_000, seed=1)
    known = (new.labels == NAMES[1]).astype(int)
    told = class_log_probs(model, Rows(new.values), jr.key(0))
    true = 1 / (1 + np.exp(-8 * new.values[:, 0]))
    assert np.mean(np.abs(np.exp(told[:, 1]) - true)) < 0.04
    found = classified(told, known)
    assert abs(found.accuracy.mean - 0.977) < 4.5 * 0.15 / np.sqrt(2_000)
    assert found.calibration_error < 0.04


@pytest.fixture(scope="module")
def learn():
    data = dataset()
    labels = (data.labels == NAMES[1]).astype(int)
    backbone = Gaussian(fit_units("whiten", data.values, integers=False))

    def learned(known=labels, weight=1.0):
        rows = Rows(data.values, labels=known)
        tilt = ClassTilt(2, 2, width=16, key=jr.key(1))
        settings = replace(SETTINGS.tilt, class_weight=weight)
        tilt, told, _ = fit_tilt(backbone, tilt, rows, rows.first(300), settings, key=jr.key(3))
        return TiltedModel(backbone, tilt), told

    return learned, labels


@pytest.fixture(scope="module")
def model(learn):
    return learn[0]()


def test_it_is_a_density_and_a_classifier(model):
    check_posterior(model[0])
    assert float(model[1].gain_val) > 0.1


def test_labels_at_random_teach_no_classes(learn):
    """Power: the same learning, its labels permuted, or their weight 0."""
    learned, labels = learn
    for known, weight in ((np.random.default_rng(2).permutation(labels), 1.0), (labels, 0.0)):
        with pytest.raises(AssertionError):
            check_posterior(learned(known, weight)[0])


def test_chains_of_one_class_are_of_that_class(model):
    spec = specify_gaussian(model[0].backbone.units, classes=2, tilt_width=16)
    fitted = FittedModel(model[0], spec, LOG_Z, False, 0.5, 4)
    below, above, both = (
        np.mean(fitted.sample(64, 20, warmup=20, label=label)[0][..., 0] > 0)
        for label in (0, 1, None)
    )
    assert below < 0.06 < 0.25 < both < 0.75 < 0.94 < above
    with pytest.raises(InputError, match="class 2; expected 0 to 1"):
        fitted.sample(16, 2, label=2)
    with pytest.raises(InputError, match="tells no classes; expected a"):
        of_class(TiltedModel(model[0].backbone, eqx.nn.Lambda(lambda x: x[0])), 0)


@pytest.mark.slow
def test_fit_learns_labels_that_the_data_have(tmp_path):
    result = tiltflow.fit(dataset(), SETTINGS)
    told = result.metrics["classes"]
    assert told["names"] == [3, 7]
    assert abs(told["accuracy"] - 0.977) < 0.03
    assert result.metrics["gain_nats"]["low"] > 0.1
    result.model.save(tmp_path)
    again = tiltflow.load_model(tmp_path)
    assert again.own_parts == {}
    x, _ = again.sample(16, 20, label=1)
    assert np.mean(x[..., 0] > 0) > 0.9


def test_data_without_labels_are_refused():
    data = replace(dataset(100), labels=None)
    with pytest.raises(InputError, match="sides has no labels for a tilt that tells classes"):
        tiltflow.fit(data, SETTINGS)
