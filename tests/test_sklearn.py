"""The estimators keep scikit-learn's contract, and do what the library does."""

import pickle
from copy import copy
from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from tiltflow import Settings
from tiltflow.backbones import fit_units
from tiltflow.errors import InputError
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.fitting import experiment
from tiltflow.fitting.settings import ModelSettings, suited_to
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.model.fitted import FORMAT, FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.sklearn import TiltedDensity, TiltedOutlierDetector

TINY = Settings(
    model=ModelSettings(units="standardise", blocks=1, flow_width=8, tilt_width=8, tilt_depth=1),
    backbone=BackboneSettings(steps=250, batch=32),
    tilt=TiltSettings(steps=20, particles=64, batch_data=32, batch_particles=16, bank=64),
    sampling=SamplingSettings(chains=4, draws=10, warmup=20, leapfrogs=2, exact_draws=2_048),
)
ESTIMATORS = [TiltedDensity, TiltedOutlierDetector]
CERTAIN = LogZ(0.0, 0.0, 0.0, 0.0, "importance", 9.0, holds=True)


def rows(number=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(number, 2))
    return np.column_stack([x[:, 0], x[:, 0] + 0.5 * x[:, 1]]) * 3 + 7


def unlearned(data, settings, *, seed, parts, listen=None):
    """Where `experiment.fit` starts from: the units and f = 0, a normal density. No compiling."""
    settings.check(seed)
    units = fit_units("standardise", data.values[parts.train], integers=data.integers)
    spec = specify(units, blocks=1, flow_width=4, tilt_width=4, tilt_depth=1)
    model = TiltedModel(spec.flow(units, key=jr.key(0)), spec.tilt(key=jr.key(0)))
    verdict = {"status": "ok", "text": "", "checks": []}
    fitted = FittedModel(model, spec, CERTAIN, data.integers, 0.5, 2)
    return experiment.Result(fitted, {"verdict": verdict}, {})


def broken(estimator, **settings):
    """Names of the checks that do not pass."""
    found = check_estimator(estimator(**settings), on_fail=None, on_skip=None)
    assert len(found) > 40
    return {check["check_name"] for check in found if check["status"] == "failed"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_contract_without_the_learning(estimator, monkeypatch):
    monkeypatch.setattr(experiment, "fit", unlearned)
    assert broken(estimator) == set()


class Forgetful(TiltedDensity):
    """Its numbers depend on the batch that they are computed in."""

    def score_samples(self, X):
        scores = super().score_samples(X)
        return scores - scores.mean()


@pytest.mark.filterwarnings("ignore")
def test_the_contract_notices_a_broken_estimator(monkeypatch):
    monkeypatch.setattr(experiment, "fit", unlearned)
    assert "check_methods_subset_invariance" in broken(Forgetful)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_contract_with_the_learning():
    assert broken(TiltedDensity, settings=TINY, random_state=0) == set()


@pytest.fixture(scope="module")
def fitted():
    estimator = TiltedDensity(settings=TINY, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Failed"):  # 10 draws of 4 chains
        return estimator.fit(rows())


def test_scores_are_log_densities_of_the_model(fitted):
    x = rows(40, seed=1)
    scores = fitted.score_samples(x)
    np.testing.assert_allclose(scores, fitted.model_.log_prob(x.astype(np.float32)))
    assert fitted.score(x) == pytest.approx(scores.mean())
    assert fitted.log_normalizer_ is fitted.model_.log_z
    assert fitted.verdict_["status"] == "failed"
    assert fitted.n_features_in_ == 2


@pytest.fixture(scope="module")
def detector():
    return TiltedOutlierDetector(contamination=0.2, random_state=0).fit(rows())


def test_outliers_are_rows_of_the_highest_score(detector):
    x = rows(50, seed=1)
    scores = detector.score_samples(x)
    np.testing.assert_array_equal(scores, -detector.score_.score(x))
    np.testing.assert_array_equal(detector.predict(x) == -1, scores < detector.offset_)
    far = np.array([[7.0 + 30.0, 7.0 - 30.0]])
    assert detector.predict(far) == [-1]
    assert detector.decision_function(far)[0] < detector.decision_function(x).min()
    assert detector.p_values(far)[0] == pytest.approx(1 / 121)
    assert detector.contributions(far).shape == (1, 2)


def test_contamination_is_a_rate_of_false_alarms():
    """Of new ordinary rows, within 4 errors; the twin takes scores that have seen the rows."""
    x, new = rows(600), rows(4_000, seed=1)
    for contaminated in (True, False):
        known = TiltedOutlierDetector(contaminated=contaminated, random_state=0).fit(x)
        error = np.sqrt(0.09 * (1 / 600 + 1 / 4_000))
        assert abs(np.mean(known.predict(new) == -1) - 0.1) < 4 * error
    seen = np.quantile(known.score_samples(x), 0.1)
    assert np.mean(known.score_samples(new) < seen) > 0.1 + 2 * error


def test_outliers_among_the_rows_of_fit_are_found_by_the_ordinary_half():
    rng = np.random.default_rng(0)
    x = np.concatenate([rows(280), 7 + rng.normal(size=(20, 2)) + [12, -12]])
    found = {
        half: TiltedOutlierDetector(contaminated=half, random_state=0).fit(x).score_samples(x)
        for half in (True, False)
    }
    assert found[True][280:].max() < np.quantile(found[True][:280], 0.1)
    assert found[False][280:].max() > np.quantile(found[False][:280], 0.2)


def test_a_constant_column_is_told(detector):
    wide = np.column_stack([rows(), np.ones(120)])
    with pytest.warns(UserWarning, match="1 of 3 columns are constant"):
        known = TiltedOutlierDetector(contamination=0.2, random_state=0).fit(wide)
    np.testing.assert_allclose(known.score_samples(wide), detector.score_samples(rows()))


def test_a_log_z_that_does_not_hold_wins_no_search(fitted):
    """The twin is the same model with a log Z that holds."""
    x = rows(40, seed=1)
    holds, known = fitted.model_.log_z, copy(fitted)
    assert np.isfinite(known.score(x))
    for log_z in (replace(holds, holds=False), replace(holds, mean=float("nan"), holds=False)):
        known.model_ = replace(fitted.model_, log_z=log_z)
        with pytest.warns(ConvergenceWarning, match="the score is not known"):
            assert np.isnan(known.score(x))
    with pytest.raises(InputError, match="log Z of this model is not known"):
        known.model_.log_prob(x.astype(np.float32))


def test_samples_are_rows_like_the_data(fitted):
    x = fitted.sample(700, random_state=1)
    assert x.shape == (700, 2)
    # 64 independent chains: their means have at most the error of 64 draws.
    error = rows().std(0) / np.sqrt(64)
    assert np.all(np.abs(x.mean(0) - rows().mean(0)) < 4 * error)
    np.testing.assert_array_equal(x[:5], fitted.sample(5, random_state=1))
    assert not np.array_equal(x[:5], fitted.sample(5, random_state=2))
    with pytest.raises(InputError, match="n_samples is 0"):
        fitted.sample(0)


def test_a_detector_that_was_pickled_scores_the_same(detector):
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(rows(10)), detector.score_samples(rows(10)))
    assert again.offset_ == detector.offset_


def test_pickles_hold_plain_arrays(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    x = rows(10, seed=2)
    np.testing.assert_array_equal(again.score_samples(x), fitted.score_samples(x))
    assert again.verdict_ == fitted.verdict_
    config, arrays = fitted.__getstate__()["model_"]
    assert config["format"] == FORMAT
    assert all(type(array) is np.ndarray for array in arrays.values())


def test_a_search_takes_the_best_held_out_likelihood(monkeypatch):
    monkeypatch.setattr(experiment, "fit", unlearned)
    pipeline = make_pipeline(StandardScaler(), TiltedDensity(random_state=0))
    shares = [0.1, 0.95]  # the second leaves few rows to learn from
    grid = {"tilteddensity__validation_fraction": shares}
    search = GridSearchCV(pipeline, grid, cv=3).fit(rows())
    assert search.best_params_ == {"tilteddensity__validation_fraction": 0.1}
    assert search.best_score_ == pytest.approx(search.cv_results_["mean_test_score"].max())
    assert np.isfinite(search.score_samples(rows(5))).all()


def test_validation_rows_are_not_learned_from():
    parts = TiltedDensity(validation_fraction=0.2)._parts(50, np.random.RandomState(0))
    assert (len(parts.train), len(parts.val)) == (40, 10)
    np.testing.assert_array_equal(np.sort(np.append(parts.train, parts.val)), np.arange(50))


def test_a_clone_has_the_settings_and_no_model(fitted):
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        again.score_samples(rows(5))


def test_flat_settings_stand_on_top_of_settings():
    estimator = TiltedDensity(settings=TINY, tilt_steps=3, tilt_width=5, units="whiten")
    settings = estimator._settings(100, 2)
    assert settings.tilt == replace(TINY.tilt, steps=3)
    assert settings.model == replace(TINY.model, tilt_width=5, units="whiten")
    assert (settings.backbone, settings.sampling) == (TINY.backbone, TINY.sampling)
    assert TiltedDensity()._settings(100, 2) == suited_to(None, 100, (2,))
    assert TiltedDensity(backbone="coupling")._settings(100, 2) == Settings()
    asked = TiltedDensity(learner="population", budget=60.0)._settings(100, 2)
    assert (asked.tilt.learner, asked.members.budget) == ("population", 60.0)


MISTAKES = {
    "constant column": ({}, np.column_stack([rows()[:, 0], np.ones(120)]), "constant"),
    "not finite": ({}, np.where(rows() > 7, np.nan, 1.5), "NaN"),
    "too large": ({}, rows() * 1e300, "float32"),
    "few rows": ({}, rows(9), "minimum of 10"),
    "one axis": ({}, rows()[:, 0], "2D"),
    "text": ({}, np.array([["a", "b"]] * 20), "numeric"),
    "not integers": ({"integers": True}, rows(), "expected integers"),
    "all for validation": ({"validation_fraction": 0.999}, rows(), "lower it"),
    "no share": ({"validation_fraction": 0}, rows(), "validation_fraction is 0"),
    "units": ({"units": "magic"}, rows(), "magic"),
    "steps": ({"tilt_steps": 0}, rows(), "steps is 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_value_errors(name):
    settings, x, words = MISTAKES[name]
    with pytest.raises(ValueError, match=words):
        TiltedDensity(**settings).fit(x)


@pytest.mark.parametrize(
    ("settings", "x", "words"),
    [
        ({"contamination": 0.7}, rows(), "contamination is 0.7"),
        ({"noise": -1.0}, rows(), "noise is -1.0"),
        ({}, np.ones((20, 2)), "every column is constant"),
        ({}, rows(9), "minimum of 10"),
        ({}, np.where(rows() > 7, np.nan, 1.5), "NaN"),
    ],
)
def test_mistakes_of_a_detector_are_value_errors(settings, x, words):
    with pytest.raises(ValueError, match=words):
        TiltedOutlierDetector(**settings).fit(x)


def test_other_columns_are_refused(fitted):
    with pytest.raises(ValueError, match="expecting 2 features"):
        fitted.score_samples(np.zeros((3, 5)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_density_of_integers_plus_noise_is_smooth():
    """It knows values between the integers, and scores them; without noise it has bins."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=(400, 2))
    plain, noised = (
        TiltedDensity(settings=TINY, noise=noise, random_state=0).fit(x) for noise in (0.0, 0.3)
    )
    assert plain.model_.integers
    assert not noised.model_.integers
    assert np.isfinite(noised.score_samples(x + 0.5)).all()
