"""What a model is made of, in plain values: enough to build it, or to build it again."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.coupling import check_splits, splits_of
from tiltflow.backbones.fit_units import KINDS
from tiltflow.backbones.scale import Scale
from tiltflow.backbones.units import Affine, Gaussianise, Histogram, Logit, Units
from tiltflow.errors import InputError
from tiltflow.tilted import TiltedModel
from tiltflow.tilts import MLPTilt

S = TypeVar("S", bound="Spec")
LARGEST = 100_000_000  # parameters; a folder that asks for more is refused
MOST_LAYERS = 256  # blocks of a flow, or layers of a tilt: each is compiled


class Spec(Protocol):
    """A dataclass of plain values that says what a model is made of."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        ...


@dataclass(frozen=True)
class ModelSpec:
    """The architecture of a tilted coupling flow.

    Attributes:
        units: `"gaussianise"`, `"histogram"`, `"logit"`, `"standardise"` or `"whiten"`.
        data_shape: of one example.
        levels: integer values for `"gaussianise"`, bins for `"histogram"`; 0 otherwise.
        blocks: of two couplings each.
        flow_width: hidden units of each conditioner.
        flow_dropout: share of them dropped in training.
        splits: blocks from one permutation to the next; 1, as in models of former versions, unless
            `specify` chooses.
        tilt_width, tilt_depth, tilt_dropout: of the tilt's network.
    """

    units: str
    data_shape: tuple[int, ...]
    levels: int = 0
    blocks: int = 2
    flow_width: int = 256
    flow_dropout: float = 0.2
    splits: int = 1
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return int(np.prod(self.data_shape))

    def flow(self, units: Units, *, key: PRNGKeyArray) -> CouplingFlow:
        """The backbone before it is fitted."""
        return CouplingFlow(
            units,
            num_blocks=self.blocks,
            width=self.flow_width,
            dropout=self.flow_dropout,
            splits=self.splits,
            key=key,
        )

    def tilt(self, *, key: PRNGKeyArray) -> MLPTilt:
        """The tilt before it is learned: f = 0."""
        return MLPTilt(
            self.dim,
            width=self.tilt_width,
            depth=self.tilt_depth,
            dropout=self.tilt_dropout,
            key=key,
        )

    def skeleton(self) -> TiltedModel:
        """A model of shapes and dtypes only (`jax.ShapeDtypeStruct`): nothing is allocated."""

        def build() -> TiltedModel:
            key = jr.key(0)
            units = units_skeleton(self.units, self.data_shape, self.levels)
            return TiltedModel(self.flow(units, key=key), self.tilt(key=key))

        return eqx.filter_eval_shape(build)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"data_shape": list(self.data_shape)}

    @classmethod
    def from_dict(cls, values: Any) -> "ModelSpec":
        """The specification in `values`.

        Raises:
            InputError: a key is unknown, a value of the wrong type or out of range, or the model
                would have more than 100 million parameters.
        """
        return read_spec(cls, values)

    def check(self) -> None:
        """Raises InputError for the first value that no model can have."""
        if self.units not in KINDS:
            raise InputError(f"units {self.units!r:.100} of a saved model are unknown")
        counts = {
            "levels": 0,
            "blocks": 1,
            "flow_width": 1,
            "splits": 1,
            "tilt_width": 1,
            "tilt_depth": 1,
        }
        check_numbers(self, counts, ("flow_dropout", "tilt_dropout"))
        for name in ("blocks", "tilt_depth"):
            if getattr(self, name) > MOST_LAYERS:
                raise InputError(
                    f"{name} is {getattr(self, name)!r:.100}; expected at most {MOST_LAYERS}"
                )
        check_splits(self.splits, self.dim)
        if self.units in ("gaussianise", "histogram") and not self.levels:
            raise InputError(f"levels is 0; expected at least 1 for units {self.units!r}")
        wide = max(self.tilt_width, self.dim)
        size = (
            4 * self.dim * self.levels
            + 3 * self.blocks * self.dim * self.flow_width
            + self.tilt_depth * self.tilt_width * wide
            + (2 * self.dim**2 if self.units in ("standardise", "whiten") else 0)
        )
        check_size(size)


def read_spec(cls: type[S], values: Any) -> S:
    """The specification of class `cls` in `values`, plain values with or without its `kind`.

    Raises:
        InputError: it is no table, lacks units or data_shape, has other keys than `cls`, or fails
            the check of `cls`.
    """
    known = {field.name for field in fields(cls)}
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if name != "kind"}
    if not isinstance(values, dict) or not {"units", "data_shape"} <= set(values) <= known:
        raise InputError(
            f"the model's specification is {values!r:.200}; expected units, data_shape and "
            f"otherwise only {', '.join(sorted(known - {'units', 'data_shape'}))}"
        )
    spec = cls(**{**values, "data_shape": checked_shape(values["data_shape"])})
    spec.check()
    return spec


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The shape of data in a saved specification; InputError if it is none."""
    if not (
        isinstance(shape, list)
        and 1 <= len(shape) <= 3
        and all(type(n) is int and n >= 1 for n in shape)
    ):
        raise InputError(f"data_shape is {shape!r:.100}; expected one to three sizes")
    return tuple(shape)


def check_numbers(spec: Any, counts: dict[str, int], shares: tuple[str, ...]) -> None:
    """InputError for the first of `counts` that is no whole number, of its least value or more.

    And for the first of `shares` that is no number in [0, 1).
    """
    for name, least in counts.items():
        value = getattr(spec, name)
        if type(value) is not int or value < least:
            raise InputError(f"{name} is {value!r:.100}; expected a whole number >= {least}")
    for name in shares:
        value = getattr(spec, name)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise InputError(f"{name} is {value!r:.100}; expected a number in [0, 1)")


def check_size(size: int) -> None:
    """InputError for a model of more parameters than a folder may ask for."""
    if size > LARGEST:
        raise InputError(
            f"the model would have about {size:,} parameters; expected at most {LARGEST:,}: "
            f"the file is damaged, or the settings are too large"
        )


def units_skeleton(kind: str, shape: tuple[int, ...], levels: int) -> Units:
    """Units of the right shapes and of no particular values."""
    dim = int(np.prod(shape))
    vector, scalar = jnp.zeros(dim), jnp.zeros(())
    if kind == "scale":
        return Scale(data_shape=shape, mean=scalar, scale=scalar, low=scalar, high=scalar)
    if kind == "gaussianise":
        table = jnp.zeros((dim, levels))
        return Gaussianise(data_shape=shape, low=scalar, below=table, above=table, mass=table)
    if kind == "histogram":
        table, edges = jnp.zeros((dim, levels)), jnp.zeros((dim, levels + 1))
        return Histogram(data_shape=shape, edges=edges, below=table, above=table, mass=table)
    if kind == "logit":
        return Logit(
            data_shape=shape, low=scalar, high=scalar, alpha=scalar, mean=vector, scale=vector
        )
    matrix = jnp.zeros((dim, dim))
    return Affine(data_shape=shape, mean=vector, matrix=matrix, inverse=matrix, log_det=scalar)


def units_kind(units: Units) -> tuple[str, int]:
    """The kind that `units_skeleton` takes, and the levels."""
    if isinstance(units, Scale):
        return "scale", 0
    if isinstance(units, Gaussianise):
        return "gaussianise", units.levels
    if isinstance(units, Histogram):
        return "histogram", units.levels
    return ("logit" if isinstance(units, Logit) else "whiten"), 0


def specify(units: Units, **sizes: Any) -> ModelSpec:
    """The specification of a model over fitted `units`, with `sizes` as in `ModelSpec`."""
    kind, levels = units_kind(units)
    splits = splits_of(int(np.prod(units.data_shape)))
    return ModelSpec(kind, units.data_shape, levels, **({"splits": splits} | sizes))


def named_arrays(model: TiltedModel) -> dict[str, Any]:
    """Every array of a model, or of a skeleton, by its path, such as `"tilt.layers.0.weight"`."""
    leaves = jax.tree_util.tree_leaves_with_path(model)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    }
