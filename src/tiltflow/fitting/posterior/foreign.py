"""A density that is not JAX: NumPy, SciPy or compiled code, called back from compiled programs.

A program hands over many examples at once. They are evaluated in float64, one after the other, by a
pool, or all in one call where the function takes a batch; rows that are NaN are not evaluated, and
each one that is gets counted. A gradient of the user's comes with the value; without one, nothing
in the run asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.callers import Caller, advice, row_of, same, tried
from tiltflow.fitting.posterior.parameters import Parameters

LOOKED_AT = 3  # rows that are evaluated singly and, if that can be, at once


class Foreign:
    """A log-density outside of JAX; inside of a program it is called with values by name.

    Attributes:
        parameters: what it is a density of.
        function, gradient: of the user; no gradient: None.
        pool: with a `map`, as those of multiprocessing and concurrent.futures; None: this process.
        count: evaluations so far, those of a gradient among them not counted apart.
        seconds: that one evaluation took at first.
        error: what the function raised last; a program tells of it in its own words only.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        gradient: Callable[..., Any] | None,
        parameters: Parameters,
        data: Any,
        pool: Any,
    ) -> None:
        """Looks at the function, and at the gradient, with a few examples.

        Raises:
            InputError: either fails on one example and on many, or returns something else than it
                should; or the pool has no map.
        """
        if pool is not None and not callable(getattr(pool, "map", None)):
            raise InputError(
                f"pool is {pool!r:.60}; expected an object with a map, such as "
                f"multiprocessing.Pool(4)"
            )
        self.parameters, self.pool = parameters, pool
        self.function = Caller(function, parameters, data)
        self.gradient = None if gradient is None else Caller(gradient, parameters, data)
        self.count, self.error = 0, None
        with jax.enable_x64(True):
            u = np.linspace(-0.3, 0.4, LOOKED_AT * parameters.size)
            rows = [parameters.natural(jnp.asarray(row))[0] for row in np.split(u, LOOKED_AT)]
        stacked = {n: np.stack([np.asarray(row[n]) for row in rows]) for n in parameters.names}
        self._look(stacked)
        if self.gradient is not None:
            self._look_at_gradient(self.gradient, stacked)

    def _look(self, stacked: dict[str, np.ndarray]) -> None:
        begun = time.monotonic()
        one, said = tried(self.function, row_of(stacked, 0))
        self.seconds = max(time.monotonic() - begun, 1e-9)
        many, _ = tried(self.function.of, stacked)
        alone = one is not None and np.shape(one) == ()
        taken = many is not None and np.shape(many) == (LOOKED_AT,)
        if alone and taken:
            each = [tried(self.function, row_of(stacked, k))[0] for k in range(LOOKED_AT)]
            taken = same(each, many)
        if not (alone or taken):
            todo = advice(self.function.function, self.parameters, self.function.data)
            raise InputError(_told(one, f"{said:.200}{todo}", _shapes(self.parameters)))
        returned = np.asarray(many if taken else one).dtype
        if not np.issubdtype(returned, np.floating):
            raise InputError(
                f"the log-density returned {returned}; expected a real number in floating point"
            )
        self.function.batched = taken

    def _look_at_gradient(self, gradient: Caller, stacked: dict[str, np.ndarray]) -> None:
        one, said = tried(gradient, row_of(stacked, 0))
        if one is None:
            raise InputError(f"the gradient failed on one example: {said:.200}")
        self._slopes(one, 1)
        each = [self._slopes(tried(gradient, row_of(stacked, k))[0], 1) for k in range(LOOKED_AT)]
        try:
            many = self._slopes(gradient.of(stacked), LOOKED_AT)
        except Exception:  # whatever it makes of a batch
            return
        pairs = zip(zip(*each, strict=True), many, strict=True)
        gradient.batched = all(same(np.concatenate(parts), found) for parts, found in pairs)

    def _slopes(self, found: Any, number: int) -> list[np.ndarray]:
        """By parameter, from what the gradient returned for an example, or for many of them."""
        names, kinds = self.parameters.names, self.parameters.kinds
        if not isinstance(found, Mapping):
            flat = np.asarray(found, np.float64)
            if len(names) == 1:
                found = {names[0]: flat}
            elif flat.shape[-1:] == (sum(int(np.prod(k.shape)) for k in kinds),):
                cuts = np.cumsum([int(np.prod(k.shape)) for k in kinds])[:-1]
                found = dict(zip(names, np.split(flat, cuts, axis=-1), strict=True))
            else:
                raise InputError(
                    f"the gradient returned shape {flat.shape}; expected a dict with "
                    f"{', '.join(names)}"
                )
        slopes = []
        for name, kind in zip(names, kinds, strict=True):
            if name not in found:
                raise InputError(f"the gradient has no {name!r}; expected {', '.join(names)}")
            slope = np.asarray(found[name], np.float64)
            if slope.size != number * int(np.prod(kind.shape)):
                raise InputError(
                    f"the gradient of {name!r} has shape {slope.shape}; expected that of the "
                    f"values, {kind.shape}"
                )
            slopes.append(slope.reshape(number, *kind.shape))
        return slopes

    def __call__(self, values: dict[str, Array]) -> Float[Array, ""]:
        """In a program: the log-density of one example, in float64."""
        rows = tuple(values[name] for name in self.parameters.names)
        if self.gradient is None:
            return _called(self._values, ((),), rows)[0]
        shapes = tuple(row.shape for row in rows)

        @jax.custom_vjp
        def density(*rows: Array) -> Array:
            return _called(self._values, ((),), rows)[0]

        def forward(*rows: Array) -> tuple[Array, tuple[Array, ...]]:
            value, *slopes = _called(self._both, ((), *shapes), rows)
            return value, tuple(slopes)

        def backward(slopes: tuple[Array, ...], above: Array) -> tuple[Array, ...]:
            return tuple(above * slope for slope in slopes)

        density.defvjp(forward, backward)
        return density(*rows)

    def _values(self, *rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of rows `[..., *shape]` by parameter; NaN where a row is."""
        return self._evaluated(rows)[:1]

    def _both(self, *rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """The values, and the slopes by parameter."""
        return self._evaluated(rows, sloped=True)

    def _evaluated(
        self, rows: tuple[np.ndarray, ...], sloped: bool = False
    ) -> tuple[np.ndarray, ...]:
        kinds = self.parameters.kinds
        axes = rows[0].ndim - len(kinds[0].shape)
        leading = rows[0].shape[:axes]
        flat = [r.reshape(-1, *k.shape) for r, k in zip(rows, kinds, strict=True)]
        fine = np.all([~np.isnan(r).reshape(len(r), -1).any(axis=1) for r in flat], axis=0)
        value = np.full(len(fine), np.nan)
        slopes = [np.full(r.shape, np.nan) for r in flat]
        if fine.any():
            names = self.parameters.names
            some = {name: r[fine] for name, r in zip(names, flat, strict=True)}
            self.count += int(fine.sum())
            try:
                value[fine] = self._mapped(self.function, some)
                if sloped and self.gradient is not None:
                    found = self._mapped_slopes(self.gradient, some)
                    for slope, new in zip(slopes, found, strict=True):
                        slope[fine] = new
            except BaseException as error:
                self.error = error
                raise
        return value.reshape(leading), *(s.reshape(*leading, *s.shape[1:]) for s in slopes)

    def _mapped(self, function: Caller, some: dict[str, np.ndarray]) -> np.ndarray:
        number = len(next(iter(some.values())))
        if function.batched:
            found = np.asarray(function.of(some), np.float64)
            if found.shape != (number,):
                raise InputError(
                    f"the log-density returned shape {found.shape} for {number} examples; expected "
                    f"one number each"
                )
            return found
        return np.array([float(v) for v in self._each(function, some, number)])

    def _mapped_slopes(self, gradient: Caller, some: dict[str, np.ndarray]) -> list[np.ndarray]:
        number = len(next(iter(some.values())))
        if gradient.batched:
            return self._slopes(gradient.of(some), number)
        each = [self._slopes(found, 1) for found in self._each(gradient, some, number)]
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]

    def _each(self, function: Caller, some: dict[str, np.ndarray], number: int) -> list[Any]:
        mapped = map if self.pool is None else self.pool.map
        return list(mapped(function, [row_of(some, k) for k in range(number)]))


def _called(
    function: Callable[..., tuple[np.ndarray, ...]],
    shapes: tuple[tuple[int, ...], ...],
    rows: tuple[Array, ...],
) -> list[Array]:
    """Arrays of float64 of these shapes, from a function on the host.

    Numbers go there and come back as bits: the thread that calls back may know no float64.
    """

    def host(*words: np.ndarray) -> tuple[np.ndarray, ...]:
        given = (np.ascontiguousarray(w).view(np.float64)[..., 0] for w in words)
        found = (np.ascontiguousarray(f, np.float64) for f in function(*given))
        return tuple(f[..., None].view(np.uint32) for f in found)

    like = tuple(jax.ShapeDtypeStruct((*shape, 2), jnp.uint32) for shape in shapes)
    words = (jax.lax.bitcast_convert_type(row, jnp.uint32) for row in rows)
    found = jax.pure_callback(host, like, *words, vmap_method="broadcast_all")
    return [jax.lax.bitcast_convert_type(each, jnp.float64) for each in found]


def _shapes(parameters: Parameters) -> str:
    each = zip(parameters.names, parameters.kinds, strict=True)
    return ", ".join(f"{name} {kind.shape}" for name, kind in each)


def _told(single: Any, said: str, of: str) -> str:
    if single is None:
        return f"the log-density failed on one example ({of}): {said}"
    return (
        f"the log-density returned shape {np.shape(single)} for one example ({of}); expected a "
        f"number"
    )
