"""Fills the gaps of rows under a model.

Of each row many values are proposed by a mixture that is roughly the model (`rough.py`), and few
chosen by their weights (`resampled.py`), whose Pareto k-hat says where the mixture is too rough.
Under an ensemble, whose gradients are dear, such rows are drawn by annealed particles
(`annealed.py`); under other models by chains (`chains.py`), and again, for longer, where these do
not agree. Rows of which nothing is known are draws of the model by its latent chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from threadpoolctl import threadpool_limits

from tiltflow.backbones import Flow
from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.data.categories import Texts
from tiltflow.data.checks import column
from tiltflow.diagnostics.verdict import FEWEST_ESS, NEARLY
from tiltflow.errors import InputError, check_seed
from tiltflow.mcmc.draws import over_chains
from tiltflow.model.completion.annealed import until_enough
from tiltflow.model.completion.chains import KEPT, ROWS, WARMUP, chained, worst
from tiltflow.model.completion.resampled import resampled
from tiltflow.model.completion.rough import rough
from tiltflow.model.completion.rows import decoded, seen
from tiltflow.model.completion.verdict import verdict_on
from tiltflow.model.fitted import FittedModel

AGAIN = (1, 4, 16)  # times as long, while a row's chains do not agree
MOST_DRAWS = 10_000  # of a row
OF_WHOLE = 64  # latent chains, for rows of which nothing is known


@dataclass(frozen=True, eq=False)
class Completion:
    """Rows without gaps.

    Attributes:
        values: float64, `[rows, draws, *data_shape]`, data units: what is there as it was given,
            and draws of what was missing. NaN where the model has no density.
        missing: `[rows, *data_shape]`.
        pareto_k: `[rows]`, k-hat of the weights, where a row was drawn by them; NaN elsewhere.
        rhat: `[rows]`, where it was drawn by chains, the largest of the values that are missing and
            of log p; NaN elsewhere.
        ess: `[rows]`, how many independent draws those are worth that a row's were chosen from;
            NaN of rows without a gap.
        divergent: the share of the chains' transitions that broke off.
    """

    values: np.ndarray
    missing: np.ndarray
    pareto_k: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    divergent: float

    @property
    def has_gaps(self) -> np.ndarray:
        """Which rows had some, `[rows]`."""
        return np.any(self.missing.reshape(len(self.missing), -1), axis=1)

    @property
    def empty(self) -> np.ndarray:
        """Which rows have some still, as the model has no density there, `[rows]`."""
        return np.any(np.isnan(self.values).reshape(len(self.values), -1), axis=1)

    @property
    def verdict(self) -> dict[str, Any]:
        """Status, text and checks, as that of a run."""
        gaps = self.has_gaps
        return verdict_on(self.rhat[gaps], self.ess[gaps], self.empty[gaps], self.divergent)


class Completer:
    """Fills the gaps of rows under a model."""

    def __init__(self, fitted: FittedModel, *, draws: int = 10, seed: int = 0) -> None:
        """A completer.

        Args:
            fitted: the model.
            draws: of each row.
            seed: of everything random.

        Raises:
            InputError: a backbone without an exact density, a number of draws that is none.
        """
        backbone = fitted.model.backbone
        if not isinstance(backbone, Flow):
            raise InputError(
                f"the backbone is a {type(backbone).__name__}, whose density of a row is not known "
                f"exactly; expected a flow or an ensemble: see tiltflow.model.inpainting, which "
                f"observes what is there with a little noise"
            )
        if not isinstance(draws, int | np.integer) or not 1 <= draws <= MOST_DRAWS:
            raise InputError(f"draws is {draws!r}; expected a whole number, 1 to {MOST_DRAWS:,}")
        check_seed(seed)
        self._fitted, self._draws, self._seed = fitted, int(draws), seed
        self._shape, self._dim = backbone.data_shape, math.prod(backbone.data_shape)
        step = np.float32(fitted.integers) if fitted.grid is None else fitted.grid.step
        self._step = np.broadcast_to(step, self._shape).astype(np.float32)
        self._key = jr.key(seed)
        self._rough = rough(fitted.model, jr.fold_in(self._key, 0))
        middle = backbone.decode(jnp.zeros(self._dim))
        self._filler = fitted.round(np.asarray(middle, np.float32)[None])[0]

    def __call__(self, rows: Any, *, first: int = 0, texts: Texts | None = None) -> Completion:
        """Complete `rows`, `[rows, *data_shape]` of any type of numbers, NaN where one is missing.

        Args:
            rows: some of which may have no gap: they stay as they are.
            first: the number of the first row, for messages.
            texts: where labels of text were read from, for messages.

        Raises:
            InputError: rows of another shape, infinite values, values on no grid of the model's.
        """
        texts = texts or self._fitted.texts.with_gaps()
        x = self._checked(rows, texts)
        missing = np.isnan(x)
        filled = np.where(missing, self._filler, x).astype(np.float32)
        self._refuse(x, filled, first, texts)
        flat = missing.reshape(len(x), -1)
        values = np.repeat(x[:, None], self._draws, axis=1)
        k, rhat, ess = np.full((3, len(x)), np.nan)
        whole = flat.all(axis=1)
        if whole.any():
            values[whole], (rhat[whole], ess[whole]) = self._of_model(int(whole.sum()), first)
        divergences, transitions = 0, 1
        todo = np.flatnonzero(flat.any(axis=1) & ~whole)
        if not len(todo):
            return Completion(values, missing, k, rhat, ess, 0.0)

        def fill(at: np.ndarray, w: np.ndarray) -> None:
            drawn = self._data(w)
            values[at] = np.where(missing[at][:, None], drawn, values[at])

        units, model = self._fitted.model.backbone.units, self._fitted.model
        cells = filled if self._fitted.grid is None else self._fitted.grid.to_cells(filled)
        there = seen(units, cells[todo], flat[todo], self._step, atom_cells(self._fitted.grid))
        rng = np.random.default_rng([self._seed, first])
        with threadpool_limits(1):  # small products: threads cost more than they bring
            made = resampled(model, self._rough, there, flat[todo], self._draws, rng)
        fill(todo[made.is_fair], made.w[made.is_fair])
        k[todo], ess[todo] = np.where(made.is_fair, made.k, np.nan), made.ess
        left = np.flatnonzero(~made.is_fair)
        if self._rough.of_members:
            gaps = flat[todo[left]]
            found = until_enough(model, self._rough, there.of(left), gaps, self._draws, rng)
            with threadpool_limits(1):
                for at, w, worth in found:
                    fill(todo[left[[at]]], w[None])
                    ess[todo[left[at]]] = worth
            left = left[:0]
        for times in AGAIN:
            for start in range(0, len(left), ROWS):
                at = left[start : start + ROWS]
                key = jr.fold_in(jr.fold_in(self._key, 1 + first + int(todo[at[0]])), times)
                some = there.of(at)
                drawn = chained(
                    model, self._rough, some, flat[todo[at]], self._draws, key, times=times
                )
                fill(todo[at], drawn.w)
                rhat[todo[at]], ess[todo[at]] = drawn.rhat, drawn.ess
                divergences += drawn.divergences
                transitions += drawn.transitions
            enough = (rhat[todo[left]] <= NEARLY) & (ess[todo[left]] >= FEWEST_ESS)
            left = left[~(enough | np.isnan(rhat[todo[left]]))]
        return Completion(values, missing, k, rhat, ess, divergences / transitions)

    def _checked(self, rows: Any, texts: Texts) -> np.ndarray:
        x = np.array(self._fitted.own(rows, texts), np.float64)
        if x.ndim == 0 or x.shape[1:] != self._shape:
            raise InputError(
                f"rows of shape {x.shape[1:]}; expected {self._shape}, the shape of the data that "
                f"this model was fitted to"
            )
        return x

    def _refuse(self, x: np.ndarray, filled: np.ndarray, first: int, texts: Texts) -> None:
        """Raises InputError for the first number that is neither missing nor one of the model's."""
        for wrong, expected in (
            (~np.isfinite(filled), "a finite number of float32, or NaN where one is missing"),
            (self._off(filled), ""),
        ):
            if wrong.any():
                row, *where = (int(i) for i in np.argwhere(wrong)[0])
                at, grid = tuple(where), self._fitted.grid
                told = self._fitted.shown(at, float(x[row, *where]), texts)
                on_grid = "an integer" if grid is None else grid.expected(at)
                raise InputError(
                    f"row {first + row}, {column(at, self._fitted.columns)}: {told}; expected "
                    f"{expected or on_grid}"
                )

    def _off(self, x: np.ndarray) -> np.ndarray:
        if self._fitted.grid is not None:
            return self._fitted.grid.is_off(x)
        return (x != np.floor(x)) & self._fitted.integers

    def _data(self, w: np.ndarray) -> np.ndarray:
        """Columns `[rows, draws, dim]` as data on their grid, `[rows, draws, *data_shape]`."""
        rows = len(w)
        if not rows:
            return np.zeros((0, self._draws, *self._shape), np.float32)
        x = decoded(self._fitted.model.backbone.units, w.reshape(-1, self._dim))
        return self._fitted.round(x).reshape(rows, self._draws, *self._shape)

    def _of_model(self, number: int, first: int) -> tuple[np.ndarray, tuple[float, float]]:
        """Rows of which nothing is known; R-hat and effective size of the chains."""
        wanted, seed, found = number * self._draws, self._seed + first, (math.inf, 0.0)
        x = np.zeros(0)
        for times in AGAIN:
            kept = times * max(KEPT, -(-wanted // OF_WHOLE))
            x, latent = self._fitted.sample(OF_WHOLE, kept, warmup=times * WARMUP, seed=seed)
            positions = np.asarray(latent.positions).reshape(OF_WHOLE, kept, -1)
            found = worst(np.concatenate([positions, latent.summaries["f"][..., None]], axis=2))
            if found[0] <= NEARLY and found[1] >= FEWEST_ESS:
                break
        some = over_chains(np.asarray(x), wanted)[0]
        order = np.random.default_rng(seed).permutation(wanted)
        return some[order].reshape(number, self._draws, *self._shape), found
