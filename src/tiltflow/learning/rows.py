"""Rows of data as a backbone's coordinates, dequantised and embedded afresh each time."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from tiltflow.backbones.base import Backbone
from tiltflow.backbones.units.atom_cells import AtomCells
from tiltflow.backbones.units.bijections import Units, dequantise
from tiltflow.backbones.units.scale import identity
from tiltflow.data.checks import looked_at
from tiltflow.data.containers import plain
from tiltflow.errors import InputError
from tiltflow.learning.filled import Filled, with_room
from tiltflow.parallel.devices import over_devices_once, spread
from tiltflow.parallel.keys import keys_of

Made = TypeVar("Made")


def in_little_memory(values: np.ndarray, *, integers: bool) -> Num[np.ndarray, "rows ..."]:
    """`values` as bytes if they are integers from 0 to 255, as float32 otherwise."""
    bytes_do = integers and values.min() >= 0 and values.max() <= 255
    return np.asarray(values, np.uint8 if bytes_do else np.float32)


class Rows(eqx.Module):
    """Data and what leads to coordinates: the units, or a backbone.

    Programs depend on the `room` that the rows are put into, not on their number (`filled.py`).

    Attributes:
        values: `[room, *data_shape]`, data units, the rows first; small integers may stay `uint8`.
        units: of the backbone. By default the data's own: `fit_backbone` and `fit_tilt` take
            rows through what they learn.
        integers: whether uniform noise is added to each row that is drawn. By default as
            `tiltflow.load_data` has it: where an array's type says so, or where floats happen to
            be at most 256 different integers.
        backbone: whose embedding is meant (`through`); None: that of the units.
        flips: whether `batch` mirrors every other image, left to right.
        noise: standard deviations of normal noise that is added to each row whenever it is drawn,
            of the data's shape, in data units (`noise_of`); None: none is.
        count: of the rows; a scalar.
        steps: `[*data_shape]`, the width of the cells of numbers on a grid that are no integers,
            over which they are spread by uniform noise; 0 where there is none. A row's log-weight
            counts their volume, so that likelihoods are those of cells, as of integers. None: no
            number is on a grid.
        labels: `[room]`, the class of each row, integers from 0 on; None: they have none.
        atoms: the cells of atoms, which are spread and counted likewise; None: there are none.
    """

    values: Num[Array, "room ..."]
    units: Units
    integers: bool = eqx.field(static=True)
    backbone: Backbone | None
    flips: bool = eqx.field(static=True)
    noise: Float[Array, "..."] | None
    count: Int[Array, ""]
    steps: Float[Array, "..."] | None
    labels: Int[Array, " room"] | None
    atoms: AtomCells | None

    def __init__(
        self,
        values: Num[Array, "rows ..."] | np.ndarray,
        units: Units | None = None,
        integers: bool | None = None,
        backbone: Backbone | None = None,
        flips: bool = False,
        noise: Float[Array, "..."] | np.ndarray | None = None,
        count: Int[Array, ""] | None = None,
        steps: Float[Array, "..."] | np.ndarray | None = None,
        labels: Int[Array, " rows"] | np.ndarray | None = None,
        atoms: AtomCells | None = None,
    ) -> None:
        """Rows of an array `[rows, *data_shape]`.

        All of `values` are rows, or, if there is a `count`, so many: then there is room.

        Raises:
            InputError: values that cannot be learned from, if they are not known to be integers
                or not; labels that are not one integer a row; or what is no image is to be
                mirrored.
        """
        if labels is not None:
            labels = _checked(np.asarray(labels), len(values))
        if integers is None:
            values, integers, grid = looked_at(
                plain(values, "the array of rows")[0], "the array of rows", constant=True, few=False
            )
            steps = None if grid is None else grid.step
            values = in_little_memory(values, integers=integers)
        if count is None:
            count = jnp.asarray(len(values))
            values = with_room(np.asarray(values))
            labels = None if labels is None else with_room(labels)
        self.values = jnp.asarray(values)
        self.labels = None if labels is None else jnp.asarray(labels)
        self.units = identity(self.values.shape[1:]) if units is None else units
        self.integers, self.backbone, self.flips = integers, backbone, flips
        self.noise = None if noise is None else jnp.asarray(noise, float)
        self.count = count
        self.steps = None if steps is None else jnp.asarray(steps, jnp.float32)
        self.atoms = atoms

    def __check_init__(self) -> None:
        """Raises InputError if what is no image is to be mirrored."""
        if self.flips and self.values.ndim not in (3, 4):
            raise InputError(
                f"rows of shape {self.values.shape[1:]} are to be flipped; expected images, "
                f"[height, width] or [height, width, channels]"
            )

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self.count)

    def array(self) -> Num[np.ndarray, "rows ..."]:
        """The rows themselves, in data units, on the host."""
        return np.asarray(self.values)[: len(self)]

    def first(self, number: int) -> "Rows":
        """So many of the rows, or all, if there are no more."""
        if number >= len(self):
            return self
        return Rows(
            self.array()[:number],
            self.units,
            self.integers,
            self.backbone,
            self.flips,
            self.noise,
            steps=self.steps,
            labels=None if self.labels is None else np.asarray(self.labels)[:number],
            atoms=self.atoms,
        )

    def through(self, backbone: Backbone) -> "Rows":
        """The same rows as coordinates of `backbone`: of a flow, those of its units."""
        embeds = type(backbone).embed is not Backbone.embed  # more than its units do
        return replace(self, units=backbone.units, backbone=backbone if embeds else None)

    @property
    def vary(self) -> bool:
        """Whether the same row has other coordinates each time."""
        embedded = self.backbone is not None and self.backbone.embeds_at_random
        noisy = self.steps is not None or self.noise is not None
        return self.integers or noisy or embedded

    def data(self, key: PRNGKeyArray) -> Float[Array, "room ..."]:
        """Every row once, in data units, dequantised with `key`, and what lies behind them."""
        return self._noisy(key, self.values)

    def batch(
        self, key: PRNGKeyArray, size: int
    ) -> tuple[Float[Array, "size dim"], Float[Array, " size"]]:
        """`size` random rows: coordinates, and the log-weight (log|det dy/dx|) of each."""
        return self.labelled_batch(key, size)[:2]

    def labelled_batch(
        self, key: PRNGKeyArray, size: int
    ) -> tuple[Float[Array, "size dim"], Float[Array, " size"], Int[Array, " size"] | None]:
        """`batch`, and the rows' labels, if they have some."""
        pick_key, noise_key = jr.split(key)
        index = spread(jr.randint(pick_key, (size,), 0, self.count))
        values = self.values[index]
        if self.flips:
            values = _some_flipped(jr.fold_in(pick_key, 1), values)
        x = spread(self._noisy(noise_key, values))
        c, log_weight = jax.vmap(self._embed)(x, jr.split(jr.fold_in(noise_key, 1), size))
        return c, log_weight, None if self.labels is None else self.labels[index]

    def every(
        self, key: PRNGKeyArray, draws: int
    ) -> tuple[Float[np.ndarray, "rows draws dim"], Float[np.ndarray, "rows draws"]]:
        """Every row with `draws` dequantisations and embeddings (one if they do not vary).

        Returns coordinates and log-weights, which for units are log|det dy/dx|, on the host. All of
        them are in memory; where only numbers made of them are wanted, `each` needs less.
        """
        c, log_weight = (np.asarray(values) for values in self.embedded(key, draws).rows)
        c = c.reshape(len(self.values), -1, c.shape[-1])
        return c[: len(self)], log_weight.reshape(c.shape[:2])[: len(self)]

    def embedded(self, key: PRNGKeyArray, draws: int) -> Filled:
        """The coordinates and log-weights of `every`, the draws of a row one after the other.

        One program, whatever the number of draws.
        """
        keys = keys_of(key, draws if self.vary else 1)
        drawn = zip(*(self.once(key) for key in keys), strict=True)
        # On the host, where no number of draws is another program.
        c, log_weight = (np.stack([np.asarray(x) for x in some], axis=1) for some in drawn)
        rows = jnp.asarray(c.reshape(-1, c.shape[-1])), jnp.asarray(log_weight.ravel())
        return Filled(rows, self.count * len(keys))

    def once(self, key: PRNGKeyArray) -> tuple[Float[Array, "room dim"], Float[Array, " room"]]:
        """Coordinates and log-weight of every row, drawn once: what `each` is given."""
        return _embedded(self, key)

    def keys(self, key: PRNGKeyArray, draws: int) -> PRNGKeyArray:
        """A key for each of `draws` of all rows, as `every` makes them; one if they do not vary."""
        return jr.split(key, draws if self.vary else 1)

    def each(self, function: Callable[[Array, Array], Made], key: PRNGKeyArray) -> Made:
        """`function` of coordinates and log-weight of every row, drawn once, a part at a time.

        As many as there is room for: the rows come first, and what is behind them means nothing.
        """
        keys = jr.split(jr.fold_in(key, 1), len(self.values))
        rows = Filled((self.data(key), keys), self.count)
        return rows.map(lambda x, key: function(*self._embed(x, key)))

    def _noisy(self, key: PRNGKeyArray, values: Num[Array, "n ..."]) -> Float[Array, "n ..."]:
        values = values.astype(float)
        if self.steps is not None:
            atoms = 0.0 if self.atoms is None else self.atoms.widths_of(values)
            x = dequantise(key, values, self.steps + atoms)
        else:
            x = dequantise(key, values) if self.integers else values
        if self.noise is None:
            return x
        return x + self.noise * jr.normal(jr.fold_in(key, 2), x.shape)

    def _embed(self, x: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        if self.backbone is None:
            c, log_weight = self.units.encode_and_log_det(x)
        else:
            c, log_weight = self.backbone.embed(x, key)
        if self.steps is None:
            return c, log_weight
        if self.atoms is not None:
            log_weight = log_weight + self.atoms.log_volume(x)
        return c, log_weight + jnp.sum(jnp.log(jnp.where(self.steps > 0, self.steps, 1.0)))


@over_devices_once
def _embedded(rows: Rows, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Coordinates and log-weights of all rows, drawn once."""
    return rows.each(lambda *row: row, key)


def _checked(labels: np.ndarray, rows: int) -> Int[np.ndarray, " rows"]:
    """Labels as small integers; InputError if they are not one class a row, counted from 0."""
    counted = labels.shape == (rows,) and labels.dtype.kind in "iu" and np.all(labels >= 0)
    if not counted:
        raise InputError(
            f"labels of shape {labels.shape} and type {labels.dtype} for {rows} rows; expected "
            f"one integer a row, of classes counted from 0: numpy.unique(..., return_inverse=True)"
        )
    return labels.astype(np.int32)


def noise_of(values: Num[np.ndarray, "rows ..."], noise: float) -> Float[np.ndarray, "..."] | None:
    """`noise` standard deviations of each column, in data units; None if that is 0.

    Raises:
        InputError: a constant column, whose noise would be none.
    """
    if noise == 0:
        return None
    sd = np.asarray(values, np.float64).std(axis=0)
    if not np.all(sd > 0):
        raise InputError(
            f"noise is {noise} standard deviations of a column, and {int(np.sum(sd == 0))} columns "
            f"are constant; expected columns that vary: leave these out, or learn without noise"
        )
    return noise * sd


def _some_flipped(key: PRNGKeyArray, images: Num[Array, "n ..."]) -> Num[Array, "n ..."]:
    """Each of the images `[n, height, width, ...]` mirrored with probability one half."""
    flip = jr.bernoulli(key, shape=(len(images), *[1] * (images.ndim - 1)))
    return jnp.where(flip, images[:, :, ::-1], images)
