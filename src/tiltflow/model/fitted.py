"""A learned model as people use it: arrays in, arrays out, log Z known, saved as a folder.

A folder holds `config.json` and `weights.safetensors`: no pickle, so that a model from a
stranger is safe to open.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import safetensors.numpy
from jaxtyping import Array

from tiltflow._version import __version__
from tiltflow.backbones.units.bijections import Gaussianise, Logit, dequantise
from tiltflow.backbones.units.censored import Censored
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.backbones.units.scale import Scale
from tiltflow.data.categories import Texts
from tiltflow.data.checks import column
from tiltflow.data.containers import by_name, plain
from tiltflow.data.dependent import Dropped
from tiltflow.data.grids import Grid
from tiltflow.errors import InputError
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.mcmc.pilot import Choice
from tiltflow.model import latent_chains
from tiltflow.model.classes import of_class
from tiltflow.model.kernels import kernel_of
from tiltflow.model.short_run import Protocol
from tiltflow.model.specs import PartsSpec, Spec, of_parts
from tiltflow.model.specs.arrays import plain_arrays
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.parallel.forked import refuse_forked
from tiltflow.runs import atomic

if TYPE_CHECKING:
    from tiltflow.model.completion import Completion

FORMAT = 2
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
MODEL = "model"  # where a run has it
PART = 4096  # examples at a time
FEWEST_SCORED = 256  # rows a program scores: fewer are filled up, so that one program does for all


@dataclass(frozen=True)
class FittedModel:
    """A tilted model, its log Z, and what its data were.

    Attributes:
        model: the mathematics (`tilted.py`).
        spec: its architecture; None if both its parts are the user's own.
        log_z: in nats, with its interval.
        integers: whether the data were integers, which are dequantised before they are scored.
        step_size, leapfrogs: of the latent chains, as tuned on this model.
        grid: the cells of the data's numbers that lay on a grid without being integers; they are
            dequantised likewise, and log-densities are those of the cells' mass; and the labels of
            categories. None: there are none.
        columns: the names of the data's columns, by which those of a frame are found; None: they
            have none.
        protocol: of the chains that it was learned with, where these were short runs
            (`learning.short_run`): its draws are right for these alone. None: they were not.
        dropped: columns of the data that were left out as functions of the others, which the
            model knows nothing of; None: there are none.
    """

    model: TiltedModel
    spec: Spec | None
    log_z: LogZ
    integers: bool
    step_size: float
    leapfrogs: int
    grid: Grid | None = None
    columns: tuple[str, ...] | None = None
    protocol: Protocol | None = None
    dropped: Dropped | None = None

    def log_prob(
        self, x: Any, *, normalizer: LogZ | float | None = None, seed: int = 0, draws: int = 10
    ) -> np.ndarray:
        """Log p of each row of `x` (`[rows, *data_shape]`), in nats, data units; `[rows]`.

        Integers get the mean over `draws` dequantisations, which bounds their log-probability
        from below; of a generator it is the mean over draws of the encoder too, a lower bound.
        The error of log Z is common to all rows: it shifts them together.

        Args:
            x: the rows.
            normalizer: log Z, as `tiltflow.log_normalizer` estimates it; None: the model's own.
            seed: of the dequantisation.
            draws: dequantisations of each row.

        Warns:
            UserWarning: the model's own log Z does not hold: rows can be compared with one
                another, and not with those of another model.

        Raises:
            InputError: rows of another shape, a given log Z that does not hold, or one that is not
                finite: with `normalizer=0.0` rows can be compared with one another still.
        """
        log_z = self.log_z if normalizer is None else normalizer
        if isinstance(log_z, LogZ):
            if not log_z.holds and normalizer is not None:
                raise InputError(f"the normalizer does not hold: {log_z.words}")
            if not log_z.holds and math.isfinite(log_z.mean):
                words = f"log-densities are right up to a constant only: {log_z.words}"
                warnings.warn(words, stacklevel=2)
            if not math.isfinite(log_z.mean):
                raise InputError(f"log Z of this model is not known: {log_z.words}")
            log_z = log_z.mean
        if not math.isfinite(log_z):
            raise InputError(f"log Z is {log_z}; expected a finite number, in nats")
        return self._scores(x, seed, draws, tilted=True) - log_z

    def backbone_log_prob(self, x: Any, *, seed: int = 0, draws: int = 10) -> np.ndarray:
        """Log q of each row of `x`, as `log_prob`."""
        return self._scores(x, seed, draws, tilted=False)

    def sample(
        self,
        chains: int = 64,
        draws: int = 100,
        *,
        warmup: int = 200,
        seed: int = 0,
        kernel: Kernel | HostKernel | str | None = None,
        step_size: float | None = None,
        label: int | None = None,
        folder: str | Path | None = None,
        resume: bool = False,
        **settings: Any,
    ) -> tuple[np.ndarray, Draws]:
        """Run `chains` latent chains from fresh backbone draws.

        Args:
            chains: side by side.
            draws: of each, at most.
            warmup: transitions before that; of chains of exact draws 20 at most.
            seed: of the starts and of everything the chains do.
            kernel: how chains move, or its name in `mcmc.catalogue`; by default HMC as it was
                tuned on this model, with jumps where the tilt has a mixture in it, replica
                exchange for a Glow, and exact draws of an ensemble.
            step_size: the first one; as it was tuned by default.
            label: of one class, counted from 0, where the tilt tells classes apart; None: of all.
            folder: where draws are streamed (`runs/draws.py`); memory then does not grow with
                them, and what is returned is read from there when it is looked at.
            resume: whether to go on with what is in `folder`.
            settings: others of `latent_chains.run`: `thin`, `until`, `on_chunk`, ...

        Returns x, `[chains, draws, *data_shape]` in data units (integers rounded down, categories
        of text as the numbers of their labels, which `labelled` reads), and the latent draws with
        their summaries, for `tiltflow.diagnostics`.
        """
        model = self.model if label is None else of_class(self.model, label)
        if kernel is None or isinstance(kernel, str):
            kernel = kernel_of(model, kernel, self.leapfrogs)
        return latent_chains.run(
            model,
            self.push,
            chains,
            draws,
            warmup=warmup,
            seed=seed,
            kernel=kernel,
            step_size=self.step_size if step_size is None else step_size,
            folder=folder,
            resume=resume,
            **settings,
        )

    def complete(self, x: Any, *, draws: int = 10, seed: int = 0) -> Completion:
        """Draw what is missing of rows given what is there, and judge the draws.

        What is drawn is p(missing | there) of this model, exactly: nothing is imputed that the
        model does not know, and several draws of a row show what is not known. Its log Z is not
        needed.

        Args:
            x: `[rows, *data_shape]` or a frame, NaN where a number is missing. Rows without a gap
                stay as they are; a row that is NaN throughout is a draw of the model.
            draws: of each row.
            seed: of everything random.

        Returns:
            `model.completion.Completion`: `values`, `[rows, draws, *data_shape]`, with what was
            there unchanged, R-hat and effective size of each row, and a verdict.

        Raises:
            InputError: no gap at all, rows of another shape, a value that is infinite or on no
                grid of the model's, or a backbone without an exact density.
        """
        from tiltflow.model.completion import Completer

        completed = Completer(self, draws=draws, seed=seed)(x)
        if not completed.missing.any():
            raise InputError(
                f"none of {len(completed.missing):,} rows has a gap; expected NaN where a number "
                f"is missing"
            )
        return completed

    def pilot(self, chains: int = 64, *, seed: int = 0, **settings: Any) -> Choice:
        """Which kernel suits the model: `latent_chains.pilot`, from the same starts as `sample`."""
        return latent_chains.pilot(
            self.model,
            chains,
            seed=seed,
            step_size=self.step_size,
            leapfrogs=self.leapfrogs,
            **settings,
        )

    def push(self, u: np.ndarray, *, noise: bool = True) -> np.ndarray:
        """Latent points `[..., *latent_shape]` to data `[..., *data_shape]`, in data units.

        Without `noise` a generator's own is left out: what its decoder makes of z.
        """
        latent_shape = self.model.backbone.latent_shape
        batch = u.shape[: u.ndim - len(latent_shape)]
        number = math.prod(batch)
        rows = np.zeros((_room(number), *latent_shape), u.dtype)
        rows[:number] = u.reshape(number, *latent_shape)
        x = np.asarray(_push(self.model.backbone, jnp.asarray(rows), noise))[:number]
        x = x.reshape(*batch, *self.model.backbone.data_shape)
        return self.round(x)

    def round(self, x: np.ndarray) -> np.ndarray:
        """Integers from dequantised values, inside their range; continuous data as they are."""
        if self.grid is not None:
            return self.grid.round(x)
        if not self.integers:
            return x
        x = np.floor(x)
        units = self.model.backbone.units
        if isinstance(units, Gaussianise):
            return np.clip(x, float(units.low), float(units.low) + units.levels - 1)
        if isinstance(units, HeavyTailed):
            ends = np.asarray(units.edges)[:, [0, -1]].T.reshape(2, *units.data_shape)
            return np.clip(x, ends[0], ends[1] - 1)
        if isinstance(units, Censored | Logit | Scale):
            return np.clip(x, float(units.low), float(units.high) - 1)
        return x

    def check_rows(self, x: Any) -> np.ndarray:
        """`x` as float32 `[rows, *data_shape]`; raises InputError if it does not fit the model.

        The columns of a frame are found by their names, if the model knows the names of its own,
        and the labels of categories by their text; in arrays these are numbers, from 0.
        """
        texts = self.texts  # remembers the labels that it meets
        x = np.asarray(self.own(x, texts), np.float32)
        if x.shape[1:] != self.model.backbone.data_shape or x.ndim == 0:
            raise InputError(
                f"rows of shape {x.shape[1:]}; expected {self.model.backbone.data_shape}, the "
                f"shape of the data that this model was fitted to"
            )
        if self.integers and np.any(x != np.floor(x)):
            raise InputError(
                "the rows hold values that are not integers; expected integers, which this model "
                "was fitted to and dequantises itself"
            )
        if self.grid is not None and (off := self.grid.is_off(x)).any():
            row, *where = (int(i) for i in np.argwhere(off)[0])
            at = tuple(where)
            value = self.shown(at, float(x[row, *where]), texts)
            raise InputError(
                f"row {row} holds {value} at {column(at, self.columns)}; "
                f"expected {self.grid.expected(at)}"
            )
        return x

    def own(self, x: Any, texts: Texts | None = None) -> np.ndarray:
        """Rows of any container as an array of the columns that the model knows, in its order.

        Columns of a frame are found by their names, and labels of categories by their text, as
        `texts` have it, or the model's own; of whole rows those that were left out when the model
        was fitted are left out again.

        Raises:
            InputError: a column that the model knows is not there.
        """
        table, names = plain(x, "the array of rows", self.texts if texts is None else texts)
        return self.kept(by_name(table, names, self.columns))

    def kept(self, x: np.ndarray) -> np.ndarray:
        """Rows without the columns that were left out, if they are whole; else as they are."""
        if self.dropped is not None and np.shape(x)[1:] == (self.dropped.width,):
            return x[:, self.dropped.kept]
        return x

    @property
    def width(self) -> int | None:
        """Columns of a row of the data, those that were left out too; None: they are no table."""
        shape = self.model.backbone.data_shape
        if len(shape) != 1:
            return None
        return shape[0] if self.dropped is None else self.dropped.width

    @property
    def texts(self) -> Texts:
        """Where the labels of text are read from that the model knows, by name and by number."""
        levels = {} if self.grid is None else self.grid.levels
        labels = {i: one.texts for i, one in levels.items() if one.are_text}
        return Texts({name: labels[i] for i in labels for name in {self.name(i), str(i)}})

    def name(self, place: int) -> str:
        """What a column of a table goes by: its name, or its number from 0."""
        return (self.columns[place] if self.columns else "") or str(place)

    def shown(self, position: tuple[int, ...], value: float, texts: Texts) -> str:
        """A number of a row in words: its label, as it was found in `texts`."""
        name = self.name(position[0]) if len(position) == 1 else ""
        return texts.shown(name, value)

    def labelled(self, x: Any) -> dict[str, np.ndarray]:
        """Rows `[..., columns]` as columns by name, with the labels of categories; of a table.

        What `polars.DataFrame` and `pandas.DataFrame` take, if `x` is `[rows, columns]`.

        Raises:
            InputError: `x` is no rows of the model's table.
        """
        x, shape = np.asarray(x), self.model.backbone.data_shape
        if len(shape) != 1 or x.shape[-1:] != shape:
            raise InputError(f"rows of shape {x.shape[1:]}; expected those of a table, {shape}")
        levels = {} if self.grid is None else self.grid.levels
        return {
            self.name(i): levels[i].labelled(x[..., i]) if i in levels else x[..., i]
            for i in range(shape[0])
        }

    @property
    def is_dequantised(self) -> bool:
        """Whether noise is added to rows before they are scored: integers, values on a grid."""
        return self.integers or self.grid is not None

    def noisy(self, key: Array, x: Any) -> Array:
        """Rows `[rows, *data_shape]` with the uniform noise of their cells, if they have any."""
        if self.grid is not None:
            cells = self.grid.to_cells(np.asarray(x))
            return dequantise(key, jnp.asarray(cells), jnp.asarray(self.grid.widths(cells)))
        return dequantise(key, jnp.asarray(x)) if self.integers else jnp.asarray(x)

    def middle(self, x: np.ndarray) -> np.ndarray:
        """Rows at the middles of their cells, if they have any."""
        if self.grid is not None:
            cells = self.grid.to_cells(x)
            return cells + np.float32(0.5) * self.grid.widths(cells)
        return np.asarray(x, np.float32) + np.float32(0.5) * float(self.integers)

    def _scores(self, x: Any, seed: int, draws: int, *, tilted: bool) -> np.ndarray:
        refuse_forked()
        x = self.check_rows(x)
        if draws < 1:
            raise InputError(f"draws is {draws}; expected at least 1")
        vary = self.is_dequantised or self.model.backbone.embeds_at_random
        keys = jr.split(jr.key(seed), draws if vary else 1)
        rows = np.zeros((max(_room(len(x)), FEWEST_SCORED), *x.shape[1:]), np.float32)
        rows[: len(x)] = x
        total = np.zeros(len(x))
        for key in keys:
            noisy = self.noisy(key, rows)
            scores = np.asarray(_log_prob(self.model, noisy, key, tilted), np.float64)
            total += scores[: len(x)]
        return total / len(keys) + (self.grid.log_volume(x) if self.grid is not None else 0.0)

    def save(self, folder: str | Path) -> None:
        """Write `config.json` and `weights.safetensors` into `folder`, made if need be.

        There is no code in them: of parts of the user's own (`own_parts`) they hold the arrays,
        and `load_model` has to be handed the parts themselves.

        Raises:
            InputError: the disk refuses, or an own part holds what no file takes, such as a key.
        """
        config, arrays = self.to_plain()
        folder = Path(folder)
        with atomic.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        weights = safetensors.numpy.save(arrays)
        atomic.write_bytes(folder / WEIGHTS, weights)
        atomic.write_json(folder / CONFIG, config | {"weights": sha256(weights).hexdigest()})

    def to_plain(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The model as plain values and named arrays, for `from_plain`: what a folder holds.

        Raises:
            InputError: an own part holds what no file takes, such as a random key.
        """
        config = {
            "format": FORMAT,
            "tiltflow": __version__,
            "model": (self.spec or of_parts(self.model)).to_dict(),
            "integers": self.integers,
            **({} if self.grid is None else {"grid": self.grid.to_dict()}),
            **({} if self.columns is None else {"columns": list(self.columns)}),
            **({} if self.dropped is None else {"dropped": self.dropped.to_dict()}),
            "log_z": self.log_z.to_dict(),
            "sampler": {"step_size": self.step_size, "leapfrogs": self.leapfrogs},
            **({} if self.protocol is None else {"protocol": self.protocol.to_dict()}),
        }
        return config, plain_arrays(self.model)

    @property
    def own_parts(self) -> dict[str, str]:
        """What `load_model` has to be handed: `"backbone"`, `"tilt"`; their types' names."""
        spec = self.spec or of_parts(self.model)
        return spec.own if isinstance(spec, PartsSpec) else {}


def _room(number: int) -> int:
    """Rows to push or score for so many: few different sizes, so few programs."""
    return min(2 ** max(number - 1, 0).bit_length(), -(-number // PART) * PART or 1)


@eqx.filter_jit
def _push(backbone: Any, u: jax.Array, noise: bool) -> jax.Array:
    def expected(u: jax.Array) -> jax.Array:
        return backbone.expected(backbone.coordinates(u))

    return jax.lax.map(backbone.push if noise else expected, u, batch_size=PART)


@eqx.filter_jit
def _log_prob(model: TiltedModel, x: jax.Array, key: jax.Array, tilted: bool) -> jax.Array:
    backbone = model.backbone

    def one(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        c, log_weight = backbone.embed(*row)
        log_q = backbone.log_prob_coordinates(c) + log_weight
        return log_q + model.tilt(c) if tilted else log_q

    keys = jr.split(jr.fold_in(key, 1), len(x))
    return jax.lax.map(one, (x, keys), batch_size=PART)
