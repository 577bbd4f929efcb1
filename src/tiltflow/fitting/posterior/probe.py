"""The first look at a density: how it takes its values, what it returns, where it is a number.

And, at draws, how rough it is: l(y + d) - l(y) is (g(y) + g(y + d)) d / 2 but for the third order
in d. What is left at a tiny d is rounding, in nats; at a larger one it tells a wrong gradient.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.callers import advice
from tiltflow.fitting.posterior.foreign import Foreign
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.target import PART, Target, gradients_at, natural_at, values_at
from tiltflow.fitting.posterior.tempering import spread_factor

ROWS = 256  # that are looked at
TINY, SMALL = 1e-4, 2e-2  # differences, in units of the spread of the draws
MOST_ROUNDED = 1e-3  # nats by which a value may be rounded in float32
NOT_IN_JAX = (
    "it wants the values themselves, as NumPy, float() and `if` do; expected a function in JAX "
    "(jax.numpy, jnp.where), or gradient=None, or a gradient of your own, for one that is not"
)
JAX = "jax"
"""The gradient of what JAX differentiates."""
FEW_ROWS = 48  # that are looked at without a gradient


class Roughness(NamedTuple):
    """What differences say of a density.

    Attributes:
        rounding: nats, of a value.
        gradient: the typical relative error of the gradient.
    """

    rounding: float
    gradient: float


def probed(
    function: Callable[..., Any],
    parameters: Parameters,
    data: Any,
    gradient: Callable[..., Any] | str | None = JAX,
    pool: Any = None,
) -> Target:
    """The target in free numbers, once it is known how the function takes its values.

    Args:
        function, parameters, data: of the user.
        gradient: `"jax"`, or, for a function that is not JAX, one of the user's, or None.
        pool: that evaluates such a function.

    Raises:
        InputError: it is no function, fails on one example and on many, or does not return a
            real number of each.
    """
    if not callable(function):
        raise InputError(f"the log-density is {function!r:.60}; expected a function of one example")
    size = parameters.size
    if gradient is None or callable(gradient):
        foreign = Foreign(function, gradient, parameters, data, pool)
        place = (jnp.zeros(size), jnp.ones(size), jnp.zeros(size), jnp.zeros(()))
        return Target(foreign, None, *place, parameters, "dict", False, False, True).made_precise()
    if gradient != JAX:
        raise InputError(
            f"gradient is {gradient!r:.60}; expected {JAX!r}, a function, or None for a density "
            f"that is not JAX and has none"
        )
    if pool is not None:
        raise InputError(
            "pool is given, but the log-density is in JAX; expected a pool for one that is not: "
            "give gradient=None, or a gradient of your own, too"
        )
    takes = parameters.caller(function)
    data = _arrays(data)
    light = jax.default_backend() == "cpu"
    place = (jnp.zeros(size), jnp.ones(size), jnp.zeros(size), jnp.zeros(()))
    target = Target(function, data, *place, parameters, takes, False, False, light)
    one, said = _returned(target)
    if one is not None and one.shape == ():
        return _checked_type(target, one)
    batched = Target(function, data, *place, parameters, takes, True, False, light)
    many, _ = _returned(batched)
    if many is not None and many.shape == (1,):
        return _checked_type(batched, many)
    of = ", ".join(
        f"{n} {k.shape}" for n, k in zip(parameters.names, parameters.kinds, strict=True)
    )
    if one is None:
        todo = (
            advice(function, parameters, data) or "; expected a number for values of these shapes"
        )
        raise InputError(f"the log-density failed on one example ({of}): {said:.200}{todo}")
    raise InputError(
        f"the log-density returned shape {one.shape} for one example ({of}); expected a scalar: "
        f"sum over all axes, or take a batch with a leading axis and return one number a row"
    )


def _arrays(data: Any) -> Any:
    """The user's data, for programs.

    Raises:
        InputError: some of it is no array of numbers.
    """
    try:
        return None if data is None else jax.tree.map(jnp.asarray, data)
    except (TypeError, ValueError):
        raise InputError(
            f"data is {data!r:.60}; expected arrays of numbers, or a dict or list of them: put "
            f"what is not into the function"
        ) from None


def _returned(target: Target) -> tuple[Any, str]:
    """The shape and dtype of what the function returns, or None and what it said instead."""
    found: list[Any] = []
    names = target.parameters.names

    def look(y: Any) -> Any:
        values, _ = target.values(y)
        if target.batched:
            values = jax.tree.map(lambda value: value[None], values)
        given = () if target.data is None else (target.data,)
        if target.takes == "names":
            said = target.function(*given, **values)
        else:
            alone = values[names[0]] if target.takes == "array" else values
            said = target.function(alone, *given)
        if isinstance(said, str) or not isinstance(said, jax.Array | np.ndarray | SupportsFloat):
            raise InputError(f"it returned a {type(said).__name__}; expected a number")
        return said

    row = jax.ShapeDtypeStruct((target.parameters.size,), jnp.float32)
    try:
        with target.scope:
            found = [jax.eval_shape(look, row)]
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return None, NOT_IN_JAX
    except InputError as error:
        return None, str(error)
    except Exception as error:  # whatever the user's function raises
        return None, f"{type(error).__name__}: {error}"
    return found[0], ""


def _checked_type(target: Target, returned: Any) -> Target:
    if not jnp.issubdtype(returned.dtype, jnp.floating):
        raise InputError(
            f"the log-density returned {returned.dtype}; expected a real number in floating point"
        )
    return target


def referenced(target: Target, y: np.ndarray) -> tuple[Target, float]:
    """`target` over its largest value at rows `[n, dim]`, in the precision that has room for it.

    Also the share of rows at which it is not a number.

    Raises:
        InputError: it is nowhere finite, or +inf somewhere.
    """
    value = values_at(target, y)
    nan = np.isnan(value)
    if np.any(value == np.inf):
        row = int(np.argmax(value == np.inf))
        raise InputError(
            f"the log-density is +inf at draw {row} of the start ({_named(target, y[row])}); "
            f"expected finite values, or -inf where it is 0"
        )
    if not np.isfinite(value).any():
        culprit = "NaN" if nan.all() else "not finite"
        raise InputError(
            f"the log-density is {culprit} at all {len(y)} draws of the start, such as "
            f"{_named(target, y[0])}; expected finite values somewhere: start where it is positive"
        )
    top = float(value[np.isfinite(value)].max()) + float(target.reference)
    steep = float(np.spacing(np.float32(abs(top)))) > MOST_ROUNDED
    if steep or jax.config.jax_enable_x64:  # pyright: ignore
        target = target.made_precise()
        value = values_at(target, y)
        top = float(np.nanmax(np.where(np.isfinite(value), value, np.nan)))
        top += float(target.reference)
    placed = target.placed(np.asarray(target.shift), np.asarray(target.scale), top)
    return placed, float(np.mean(nan))


def seconds_each(target: Target, y: np.ndarray) -> float:
    """How long an evaluation at rows `[n, dim]` takes, with a gradient, many of them at once."""
    if target.foreign is not None:
        rows = np.resize(y, (FEW_ROWS, y.shape[1]))
        begun = time.monotonic()
        (gradients_at if target.differentiable else values_at)(target, rows)
        return max(time.monotonic() - begun, 1e-9) / FEW_ROWS
    rows = np.resize(y, (PART, y.shape[1]))
    gradients_at(target, rows)
    begun = time.monotonic()
    gradients_at(target, rows)
    return max(time.monotonic() - begun, 1e-9) / PART


def nan_where(target: Target, y: np.ndarray, nan: np.ndarray) -> str:
    """The free number that best tells rows at which the density is NaN from the others."""
    if nan.all() or not nan.any():
        return ""
    away = np.abs(y - np.median(y, axis=0))
    best, label = 0.0, ""
    for place, name in enumerate(target.parameters.labels):
        for column in (y[:, place], away[:, place]):
            ranks = np.argsort(np.argsort(column))
            apart = abs(ranks[nan].mean() - ranks[~nan].mean()) / len(y)
            if apart > best:
                best, label = apart, name
    return label


def roughness(target: Target, y: np.ndarray, rng: np.random.Generator) -> Roughness:
    """Rounding and the gradient's error at rows `[n, dim]`; 3 evaluations of `ROWS` rows."""
    if not target.differentiable:
        return Roughness(_rounding(target, y, rng), 0.0)
    rows = y[rng.integers(0, len(y), ROWS)].astype(np.float64)
    direction = rng.standard_normal(rows.shape) @ spread_factor(y, "dense").T
    near = rows.astype(np.float32)
    value, slope = gradients_at(target, near)
    left = []
    for size in (TINY, SMALL):
        moved = (rows + size * direction).astype(np.float32)
        value_there, slope_there = gradients_at(target, moved)
        step = moved.astype(np.float64) - near.astype(np.float64)
        expected = 0.5 * np.sum((slope + slope_there) * step, axis=1)
        rise = value_there - value
        fine = np.isfinite(rise) & np.isfinite(expected)
        left.append((np.abs(rise - expected)[fine], (np.abs(rise) + np.abs(expected))[fine]))
    if not all(len(size) for _, size in left):
        return Roughness(float("nan"), float("nan"))
    rounding = max(float(np.median(left[0][0])), _spacing(target))
    wrong, size = left[1]
    relative = np.maximum(wrong - 10 * rounding, 0) / np.maximum(size, 1e-3)
    return Roughness(rounding, float(np.median(relative)))


def _rounding(target: Target, y: np.ndarray, rng: np.random.Generator) -> float:
    """Without a gradient: what l(y + d) + l(y - d) - 2 l(y) is at a tiny d, but for curvature."""
    rows = y[rng.integers(0, len(y), FEW_ROWS)].astype(np.float64)
    step = TINY * rng.standard_normal(rows.shape) @ spread_factor(y, "dense").T
    at = [values_at(target, rows + sign * step) for sign in (-1, 0, 1)]
    left = np.abs(at[0] + at[2] - 2 * at[1])
    left = left[np.isfinite(left)]
    if not len(left):
        return float("nan")
    return max(float(np.median(left)), _spacing(target))


def _spacing(target: Target) -> float:
    """Nats between neighbouring values of the type that the function returns, at the reference.

    Where these are far apart, tiny differences find no step at all.
    """
    returned, _ = _returned(target)
    dtype = jnp.float32 if returned is None else returned.dtype
    return float(np.spacing(np.abs(np.asarray(target.reference)).astype(dtype)))


def _named(target: Target, y: np.ndarray) -> str:
    """The values of a row, in few words."""
    values, _ = natural_at(target, y[None])
    told = (f"{n} = {np.array2string(v[0], precision=3, threshold=4)}" for n, v in values.items())
    return ", ".join(told)[:120]
