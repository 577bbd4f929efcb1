"""Estimators for scikit-learn: a tilted flow as a density, and a detector of outliers.

`fit` of the density is `tiltflow.fit` on a table: all rows but the validation rows are learned
from, none is put aside for a test, which is scikit-learn's to do. A model whose chains have not
converged is usable, with a `ConvergenceWarning`. The detector learns densities of blurred rows
(`evaluation/outliers`), in seconds.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tiltflow.data import Dataset, Splits
from tiltflow.data.checks import looked_at
from tiltflow.data.containers import plain
from tiltflow.errors import InputError
from tiltflow.evaluation.outliers.score import NOISE, outlier_score
from tiltflow.fitting import experiment
from tiltflow.fitting.settings import Settings, suited_to
from tiltflow.model.loading import from_plain
from tiltflow.normalizer import LogZ

FEWEST_ROWS = 10
FEWEST_VALIDATION_ROWS = 2
CHAINS, WARMUP, THIN = 64, 200, 5  # of `sample`


class TiltedDensity(DensityMixin, BaseEstimator):
    """A density, learned from the rows of a table.

    Settings that are None are those of `settings`.

    Args:
        settings: a `tiltflow.Settings`; None: what suits the size of the data.
        units: the bijection at the data's end, as `ModelSettings.units`.
        noise: of N(0, noise^2), in standard deviations of a column, that is added to each row
            afresh whenever it is drawn: the density is that of rows plus noise, and -log of it a
            score of outliers that no thin direction is paid for.
        backbone: as `ModelSettings.backbone`; an ensemble by default, of up to 256 columns.
        learner: how the tilt is learned, as `TiltSettings.learner`; linear by default for an
            ensemble.
        budget: seconds that `fit` is to take, of an ensemble (`learning.fit_members`).
        tilt_width: hidden units of the tilt's network, where it has one.
        backbone_steps: optimiser steps of the backbone and its members, at most; in chunks of 250.
        tilt_steps: optimiser steps of the tilt's network, at most.
        particles: latent particles of the learner of a network.
        integers: whether values are integers, to be dequantised; None: judged by the data.
        validation_fraction: of the rows, for early stopping; 2 rows at least.
        random_state: of the split, and of everything else that is random.

    Attributes:
        model_: the `tiltflow.FittedModel`.
        log_normalizer_: log Z in nats with its interval, a `LogZ`.
        verdict_: how far to trust the model: `status`, `text` and `checks`. Its check of the gain
            is on the validation rows.
        n_features_in_: columns.
        feature_names_in_: their names, if `X` had names.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        units: str | None = None,
        noise: float | None = None,
        backbone: str | None = None,
        learner: str | None = None,
        budget: float | None = None,
        tilt_width: int | None = None,
        backbone_steps: int | None = None,
        tilt_steps: int | None = None,
        particles: int | None = None,
        integers: bool | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
    ) -> None:
        """Store the settings; `fit` checks them."""
        self.settings = settings
        self.units = units
        self.noise = noise
        self.backbone = backbone
        self.learner = learner
        self.budget = budget
        self.tilt_width = tilt_width
        self.backbone_steps = backbone_steps
        self.tilt_steps = tilt_steps
        self.particles = particles
        self.integers = integers
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the density of the rows of `X` (`[rows, columns]`); `y` is not looked at.

        Raises:
            InputError: settings or data that cannot work, as a constant column among continuous
                ones; a `ValueError`, as what scikit-learn raises for other data.
        """
        table = self._table(X, ensure_min_samples=FEWEST_ROWS)
        values, integers, grid = looked_at(table, "X", integers=self.integers, few=False)
        random = check_random_state(self.random_state)
        parts = self._parts(len(values), random)
        result = experiment.fit(
            Dataset("X", values, integers, grid=grid),
            self._settings(len(parts.train), values.shape[1]),
            seed=int(random.randint(2**31)),
            parts=parts,
        )
        self.model_ = result.model
        self.verdict_ = result.metrics["verdict"]
        if not result.converged:
            text = f"{self.verdict_['text']} Look at verdict_ for what to try."
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        return self

    @property
    def log_normalizer_(self) -> LogZ:
        """Log Z of the model, in nats."""
        return self.model_.log_z

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Log-density of each row of `X`, in nats, in the units of `X`; `[rows]`."""
        check_is_fitted(self)
        return self.model_.log_prob(self._table(X, reset=False))

    def score(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, X: ArrayLike, y: Any = None
    ) -> float:
        """The mean of `score_samples`, which `GridSearchCV` maximises; `y` is not looked at.

        NaN, with a `ConvergenceWarning`, where log Z does not hold: no other model should lose to
        this one by it.
        """
        check_is_fitted(self)
        if not self.model_.log_z.holds:
            text = f"the score is not known: {self.model_.log_z.words}"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
            return float("nan")
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Rows of the model, `[n_samples, columns]`, by Markov chains in its latent space.

        64 chains start from fresh draws of the backbone; rows of the same chain, 5 transitions
        apart, are not independent. `random_state` is that of the estimator if None.

        Raises:
            InputError: fewer than one sample.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise InputError(f"n_samples is {n_samples}; expected at least 1")
        random = check_random_state(self.random_state if random_state is None else random_state)
        x, _ = self.model_.sample(
            CHAINS, -(-n_samples // CHAINS), warmup=WARMUP, thin=THIN, seed=random.randint(2**31)
        )
        return x.swapaxes(0, 1).reshape(-1, x.shape[-1])[:n_samples]

    def _table(self, X: Any, **settings: Any) -> np.ndarray:
        """`X` as scikit-learn checks it."""
        if isinstance(X, np.ma.MaskedArray):  # whose mask scikit-learn does not look at
            X = plain(X, "X")[0]
        table: Any = validate_data(self, X, **settings)
        return table

    def _settings(self, rows: int, columns: int) -> Settings:
        """`settings`, or what suits the data, with what the other parameters say on top."""
        settings = self.settings
        if settings is None:
            settings = suited_to(self.backbone, rows, (columns,), self.learner)
        if self.learner is not None and self.learner != settings.tilt.learner:
            settings = replace(settings, tilt=settings.tilt.suiting(self.learner))
        return replace(
            settings,
            model=_with(
                settings.model,
                units=self.units,
                noise=self.noise,
                backbone=self.backbone,
                tilt_width=self.tilt_width,
            ),
            backbone=_with(settings.backbone, steps=self.backbone_steps),
            members=_with(settings.members, steps=self.backbone_steps, budget=self.budget),
            tilt=_with(settings.tilt, steps=self.tilt_steps, particles=self.particles),
        )

    def _parts(self, rows: int, random: np.random.RandomState) -> Splits:
        """Training and validation rows; the latter stand in for test rows, too."""
        if not 0 < self.validation_fraction < 1:
            raise InputError(
                f"validation_fraction is {self.validation_fraction}; expected a number in (0, 1)"
            )
        number = max(FEWEST_VALIDATION_ROWS, round(self.validation_fraction * rows))
        if rows - number < FEWEST_VALIDATION_ROWS:
            raise InputError(
                f"validation_fraction {self.validation_fraction} leaves {rows - number} of {rows} "
                f"rows to learn from; expected at least 2: lower it"
            )
        order = random.permutation(rows)
        return Splits(order[number:], order[:number], order[:number])

    def __getstate__(self) -> dict[str, Any]:
        """The state, with the model as plain values and arrays."""
        state: Any = super().__getstate__()
        return state | {"model_": self.model_.to_plain()} if "model_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put the model together again."""
        if "model_" in state:
            state = state | {"model_": from_plain(*state["model_"])}
        super().__setstate__(state)


class TiltedOutlierDetector(OutlierMixin, BaseEstimator):
    """Outliers are rows that densities of blurred rows, learned without labels, find strange.

    The score is that of `tiltflow.evaluation.outliers.score`, learned in seconds; nothing is
    compiled. -log p of a `TiltedDensity(noise=0.2)` is another score: higher is stranger, too.

    Args:
        contamination: the rate of false alarms: of ordinary rows about so many are outliers to
            `predict`, or fewer where outliers are among the rows of `fit`; in (0, 0.5].
        contaminated: whether outliers may be among the rows of `fit`, so that the more ordinary
            half of them is learned from. If in doubt, they may.
        noise: that rows are blurred with, in standard deviations of a column.
        random_state: of everything that is random.

    Attributes:
        score_: the `OutlierScore`, with the p-values of rows and what each column adds.
        offset_: minus the score above which a row is an outlier.
        n_features_in_: columns.
        feature_names_in_: their names, if `X` had names.
    """

    def __init__(
        self,
        *,
        contamination: float = 0.1,
        contaminated: bool = True,
        noise: float = NOISE,
        random_state: Any = None,
    ) -> None:
        """Store the settings; `fit` checks them."""
        self.contamination = contamination
        self.contaminated = contaminated
        self.noise = noise
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn how strange rows are from the rows of `X` (`[rows, columns]`).

        `y` is not looked at.

        Raises:
            InputError: settings or data that cannot work; a `ValueError`, as what scikit-learn
                raises for other data.

        Warns:
            UserWarning: columns are constant, and not looked at.
        """
        if not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination is {self.contamination}; expected a rate in (0, 0.5]")
        table = self._table(X, ensure_min_samples=FEWEST_ROWS)
        seed = int(check_random_state(self.random_state).randint(2**31))
        self.score_ = outlier_score(
            table, contaminated=self.contaminated, noise=self.noise, seed=seed
        )
        if constant := int(np.sum(self.score_.sd == 0)):
            text = f"{constant} of {table.shape[1]} columns are constant: they are not looked at"
            warnings.warn(text, stacklevel=2)
        self.offset_ = -self.score_.threshold(self.contamination)
        return self

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Minus the score of each row: lower for stranger rows; `[rows]`."""
        check_is_fitted(self)
        return -self.score_.score(self._table(X, reset=False))

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """`score_samples` less `offset_`; negative for outliers; `[rows]`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> np.ndarray:
        """-1 for outliers, 1 for others; `[rows]`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: ArrayLike) -> np.ndarray:
        """The share of the rows of `fit` that are at least as strange; `[rows]`."""
        return self.score_.p_values(-self.score_samples(X))

    def contributions(self, X: ArrayLike) -> np.ndarray:
        """What each column adds to how strange a row is; `[rows, columns]`."""
        check_is_fitted(self)
        return self.score_.contributions(self._table(X, reset=False))

    def _table(self, X: Any, **settings: Any) -> np.ndarray:
        """`X` as scikit-learn checks it."""
        table: Any = validate_data(self, X, **settings)
        return table


def _with(settings: Any, **changes: object) -> Any:
    """The settings, a dataclass, with those changes that are not None."""
    return replace(settings, **{k: v for k, v in changes.items() if v is not None})
