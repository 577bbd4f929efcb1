"""The user's density in coordinates of order 1, less a reference value.

With u = shift + scale sinh(bend y) / bend, which is shift + scale y where nothing is bent, the
density of y is exp of

    l(value(u)) + log_weight(u) + sum log(scale cosh(bend y)) - reference

so that a tail that falls as a power of u falls as an exponential of y. Its integral is the evidence
over exp(reference). What is of the size of a large constant in l goes at once: in float64 where
float32 has no room for the differences (`precise`), and what the samplers see is of order 1, in
float32.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.fitting.posterior.compiled import compiled
from tiltflow.fitting.posterior.foreign import Foreign
from tiltflow.fitting.posterior.parameters import Parameters

PART = 1_024  # rows that are evaluated at a time, so that one program does for all numbers of them


class Target(eqx.Module):
    """A log-density of rows y, `[dim]`, in nats.

    Attributes:
        function: the user's; it may be a pytree, whose arrays are traced.
        data: handed to it as a second argument; None: it takes none.
        shift, scale, bend: from y to free numbers, `[dim]`; bend 0 where tails are light.
        reference: what is subtracted; a scalar.
        parameters: what the function is a density of.
        takes: how it takes its values (`Parameters.caller`).
        batched: whether it takes many examples at once, with a leading axis.
        precise: whether it is evaluated in float64.
        light: whether its programs are compiled lightly (`compiled.py`).
    """

    function: Callable[..., Any]
    data: Any
    shift: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    bend: Float[Array, " dim"]
    reference: Float[Array, ""]
    parameters: Parameters = eqx.field(static=True)
    takes: str = eqx.field(static=True)
    batched: bool = eqx.field(static=True)
    precise: bool = eqx.field(static=True)
    light: bool = eqx.field(static=True)

    @property
    def scope(self) -> AbstractContextManager[Any]:
        """In which it is to be called."""
        return jax.enable_x64(True) if self.precise else nullcontext()

    @property
    def foreign(self) -> Foreign | None:
        """The function, if it is not JAX."""
        return self.function if isinstance(self.function, Foreign) else None

    @property
    def differentiable(self) -> bool:
        """Whether there is a gradient."""
        return self.foreign is None or self.foreign.gradient is not None

    def values(self, y: Float[Array, " dim"]) -> tuple[dict[str, Array], Array]:
        """The parameters at y by name, and the log-weight, with that of the scale."""
        wide = jnp.float64 if self.precise else jnp.float32
        scale, bend, y = (x.astype(wide) for x in (self.scale, self.bend, y))
        bent = bend > 0
        safe = jnp.where(bent, bend, 1.0)
        out = jnp.where(bent, jnp.sinh(safe * y) / safe, y)
        values, log_weight = self.parameters.natural(self.shift.astype(wide) + scale * out)
        slope = jnp.where(bent, jnp.logaddexp(bend * y, -bend * y) - math.log(2.0), 0.0)
        return values, log_weight + jnp.sum(jnp.log(scale) + slope)

    def wide(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density in its own precision."""
        values, log_weight = self.values(y)
        if self.batched:
            values = jax.tree.map(lambda value: value[None], values)
        given = () if self.data is None else (self.data,)
        if self.takes == "names":
            found = self.function(*given, **values)
        else:
            alone = values[self.parameters.names[0]]
            found = self.function(alone if self.takes == "array" else values, *given)
        found = jnp.reshape(jnp.asarray(found), ())
        return found.astype(log_weight.dtype) - self.reference + log_weight

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density in float32."""
        return self.wide(y).astype(jnp.float32)

    def placed(self, shift: np.ndarray, scale: np.ndarray, reference: float) -> "Target":
        """The same density in other coordinates and over another reference."""
        with self.scope:
            new = jnp.asarray(shift), jnp.asarray(scale), jnp.asarray(reference)
        return eqx.tree_at(lambda t: (t.shift, t.scale, t.reference), self, new)

    def bent(self, bend: np.ndarray) -> "Target":
        """The same density with other bends."""
        with self.scope:
            return eqx.tree_at(lambda t: t.bend, self, jnp.asarray(bend))

    def made_precise(self) -> "Target":
        """The same, in float64."""
        shift, scale, bend, reference = (
            np.asarray(x, np.float64) for x in (self.shift, self.scale, self.bend, self.reference)
        )
        target = Target(
            self.function, self.data, self.shift, self.scale, self.bend, self.reference,
            self.parameters, self.takes, self.batched, True, self.light,
        )  # fmt: skip
        return target.placed(shift, scale, float(reference)).bent(bend)

    def compiled_well(self) -> "Target":
        """The same, for programs that run for longer than they take to compile."""
        return replace(self, light=False)

    def to_free(self, y: np.ndarray) -> np.ndarray:
        """Rows y to free numbers, float64."""
        shift, scale, bend = (np.asarray(x, np.float64) for x in self._place)
        safe = np.where(bend > 0, bend, 1.0)
        return shift + scale * np.where(bend > 0, np.sinh(safe * y) / safe, y)

    def from_free(self, u: np.ndarray) -> np.ndarray:
        """Free numbers to rows y, float32."""
        shift, scale, bend = (np.asarray(x, np.float64) for x in self._place)
        y, safe = (u - shift) / scale, np.where(bend > 0, bend, 1.0)
        return np.where(bend > 0, np.arcsinh(safe * y) / safe, y).astype(np.float32)

    @property
    def _place(self) -> tuple[Array, Array, Array]:
        return self.shift, self.scale, self.bend


@compiled
def _values(target: Target, y: Array) -> Array:
    return jax.vmap(target.wide)(y)


@compiled
def _gradients(target: Target, y: Array) -> tuple[Array, Array]:
    return jax.vmap(jax.value_and_grad(target.wide))(y)


@compiled
def _natural(target: Target, y: Array) -> tuple[dict[str, Array], Array]:
    return jax.vmap(target.values)(y)


def values_at(target: Target, y: np.ndarray) -> np.ndarray:
    """The log-density at rows `[n, dim]`; `[n]`, float64, as it is, NaN and all."""
    return in_parts(lambda rows: _values(target, rows), y, target)


def gradients_at(target: Target, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log-density and its gradient at rows `[n, dim]`; `[n]` and `[n, dim]`."""
    return in_parts(lambda rows: _gradients(target, rows), y, target)


def natural_at(target: Target, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The parameters at rows `[n, dim]` by name, `[n, *shape]` each, and the log-weights `[n]`.

    A log-weight is what the density of y has beside that of the values, but for the reference.
    """
    return in_parts(lambda rows: _natural(target, rows), y, target)


def in_parts(program: Callable[[Array], Any], rows: np.ndarray, target: Target) -> Any:
    """A batched program of `rows`, `PART` of them at a time; the last part is filled up."""
    number = len(rows)
    filler = rows[-1:] if target.foreign is None else np.full_like(rows[-1:], np.nan)
    filled = np.concatenate([rows, np.repeat(filler, -number % PART, axis=0)])
    done = []
    with target.scope:
        for first in range(0, len(filled), PART):
            part = jnp.asarray(filled[first : first + PART], jnp.float32)
            done.append(jax.tree.map(np.asarray, program(part)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:number].astype(np.float64), *done)
