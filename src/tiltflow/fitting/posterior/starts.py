"""Where temperings begin: two densities of different width that can be drawn exactly.

With draws to start from, rough or of a prior, the first is a mixture fitted to them and the second
one t density of twice their spread. Without, descents from many starts find optima, and both are t
densities around these and the starts. Nothing that neither reaches can be found.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.compiled import compiled
from tiltflow.fitting.posterior.landscape import DIP, FINER, POINTS, far_apart, saddles
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.tailed import Tailed
from tiltflow.fitting.posterior.target import Target, gradients_at, in_parts, values_at
from tiltflow.learning.gaussian_mixture import best_mixture

DESCENT_STEPS = 80
DRAWN = 2_000  # from distributions
FEWEST_DRAWS = 8  # to start from
STRETCHED = 1.0, 2.0, 4.0  # of starts that ascents begin at, about their middle
RACED, RACE_STEPS, SURVIVE = 65_536, 12, 256  # starts of a race, its steps, and who go on
FIRST, CAREFUL = 0.1, 0.005  # the first step of an ascent, and one that leaves no narrow mode
LIGHTEST, MOST_OPTIMA, AROUND_OPTIMA = 12.0, 12, 0.3  # nats; how many; their share of a base
NEAREST = 8  # rows
PATHS = NEAREST * (POINTS + FINER + 3)  # evaluations on the way to them
LEVEL, APART = 0.5, 3.0  # nats a spread, and spreads, from which on optima are not, or different
DIFFERENCE = 1e-3  # of coordinates of order 1
SPREAD = 3.0  # of first starts, in free numbers
WIDER = 2.0  # the spread of the second base over that of the first
INFLATED = 1.25  # factors of the first base over those of the draws
PRIORS, SIZES = ((0.3, 0.3),), (4,)
FEW = 5  # components: `SIZES`, and the t around all


class Bases(NamedTuple):
    """Where temperings begin.

    Attributes:
        narrow, wide: of rows y.
        words: what was searched.
    """

    narrow: Tailed
    wide: Tailed
    words: str

    @property
    def components(self) -> int:
        """That programs make room for: as few programs as can be do for all bases."""
        most = max(len(base.means) for base in (self.narrow, self.wide))
        return FEW if most <= FEW else 1 << (most - 1).bit_length()

    def around(self, places: np.ndarray, spreads: np.ndarray) -> "Bases":
        """The same, and around optima."""
        narrow, wide = (with_optima(base, places, spreads) for base in (self.narrow, self.wide))
        words = f"{self.words}, and around {len(places)} optima that only ascents met"
        return Bases(narrow, wide, words)


def checked(u: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Rows `[n, dim]` of free numbers that the user starts from.

    Raises:
        InputError: too few of them, or all alike in some parameter.
    """
    if len(u) < FEWEST_DRAWS:
        raise InputError(
            f"the start has {len(u)} draws; expected {FEWEST_DRAWS} or more, spread as widely as "
            f"the density may be, or None"
        )
    for column, label in zip(u.T, parameters.labels, strict=True):
        if np.all(column == column[0]):
            raise InputError(
                f"all {len(u)} draws of {label!r} in the start are the same; expected draws that "
                f"are spread as widely as the density may be, or None"
            )
    return u


def located(target: Target, u: np.ndarray) -> Target:
    """`target` in coordinates in which rows `[n, dim]` of free numbers have unit spread."""
    low, middle, high = np.quantile(u, (0.1, 0.5, 0.9), axis=0)
    scale = (high - low) / 2.56
    fallback = np.maximum(u.std(axis=0), 1e-6 * np.maximum(1.0, np.abs(middle)))
    return target.placed(middle, np.where(scale > 0, scale, fallback), float(target.reference))


def from_draws(target: Target, u: np.ndarray, seed: int) -> Bases:
    """Around rows `[n, dim]` of free numbers."""
    y = target.from_free(u).astype(np.float64)
    mean, factor = _moments(y)
    rng = np.random.default_rng(seed)
    y = y[rng.permutation(len(y))]
    cut = max(1, len(y) // 5)
    if len(y) >= 40:
        found = best_mixture(y[cut:], y[:cut], priors=PRIORS, sizes=SIZES, seed=seed).mixture
        found = found._replace(factors=INFLATED * found.factors)
        narrow = Tailed.around(found, mean, WIDER * factor, 0.1)
    else:
        narrow = Tailed.single(mean, INFLATED * factor, 5.0)
    wide = Tailed.single(mean, WIDER * np.diag(np.linalg.norm(factor, axis=1)), 5.0)
    return Bases(narrow, wide, f"from {len(y):,} draws given and from {WIDER:g} times their spread")


def first_starts(dim: int, seed: int, number: int) -> np.ndarray:
    """Free numbers to descend from when there is nothing else, `[number, dim]`."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((number, dim))
    return SPREAD * noise / np.sqrt(rng.chisquare(4, (number, 1)) / 4)


def scattered_starts(bases: Bases, number: int, seed: int) -> np.ndarray:
    """So many rows, `[number, dim]`: half of the narrow base, half of the wide one, stretched."""
    rng = np.random.default_rng((seed, 77))
    near, far = bases.narrow.draws(rng, number // 2), bases.wide.draws(rng, number - number // 2)
    middle = np.exp(bases.wide.log_weights) @ bases.wide.means
    far = middle + np.resize(STRETCHED, len(far))[:, None] * (far - middle)
    return np.concatenate([near, far])


def raced(target: Target, bases: Bases, number: int, seed: int) -> np.ndarray:
    """The first of so many short ascents from both bases, `[SURVIVE, dim]`, far from one another.

    Half of them begin where the start is. A narrow mode of some mass is high: who begins where it
    leads to is among the highest soon.
    As many evaluations as `number` times `RACE_STEPS` and one.
    """
    rng = np.random.default_rng((seed, 78))
    half, start = number // 2, bases.narrow._replace(factors=bases.narrow.factors / INFLATED)
    y = np.concatenate([start.draws(rng, half), bases.wide.draws(rng, number - half)])
    ends, value = ascents(target, y, CAREFUL, RACE_STEPS)
    first = np.argsort(-value)[: 16 * SURVIVE]
    return ends[first[far_apart(ends[first], min(SURVIVE, len(first)), rng)]]


def ascents(
    target: Target, y: np.ndarray, first: float = FIRST, steps: int = DESCENT_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Where ascents from rows `[n, dim]` end, and the log-density there, both finite.

    As many evaluations as rows times `steps`, and one for each. `first` is the first step.
    """
    with target.scope:
        how = jnp.asarray(first, jnp.float32), jnp.asarray(steps, jnp.int32)
    ends = in_parts(lambda rows: _ascended(target, rows, *how), y.astype(np.float32), target)
    value = values_at(target, ends)
    fine = np.isfinite(value) & np.isfinite(ends).all(axis=1)
    return ends[fine], value[fine]


def optima(
    target: Target, ends: np.ndarray, value: np.ndarray, most: float = -np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Different points among the ends of ascents, and the spreads there.

    Those that have little mass are left out, by the curvature along the coordinates, beside the
    others and beside `most`, the log of a mass; and those where the density still rises.
    """
    if not len(ends):
        return ends, ends
    slope, spread = _spreads(target, ends)
    settled = np.max(np.abs(slope) * spread, axis=1) < LEVEL
    mass = value + np.sum(np.log(spread), axis=1) + 0.5 * ends.shape[1] * np.log(2 * np.pi)
    mass = np.where(settled, mass, -np.inf)
    kept: list[int] = []
    for row in np.argsort(-mass):
        away = [_distance(ends[row] - ends[k], np.maximum(spread[row], spread[k])) for k in kept]
        heavy = mass[row] > max(float(mass.max()), most) - LIGHTEST
        if heavy and min(away, default=np.inf) > APART:
            kept.append(int(row))
        if len(kept) == MOST_OPTIMA:
            break
    return ends[kept], spread[kept]


def unmet(target: Target, y: np.ndarray, places: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Which optima have no path to a row y `[n, dim]` on which the density falls, `[optima]`.

    Straight paths to the `NEAREST` rows are looked at.
    """
    number = min(NEAREST, len(y))
    each = zip(places, spreads, strict=True)
    near = [np.argsort(np.sum(((y - place) / spread) ** 2, axis=1))[:number]
            for place, spread in each]  # fmt: skip
    rows = np.concatenate([places, y[np.concatenate(near)]])
    ends = len(places) + np.arange(len(places) * number)
    pairs = np.column_stack([np.repeat(np.arange(len(places)), number), ends])
    lowest, _ = saddles(rows, pairs, lambda rows: (rows, values_at(target, rows)))
    height = values_at(target, rows)
    fall = np.min(height[pairs], axis=1) - lowest
    return np.min(fall.reshape(len(places), number), axis=1) > DIP


def _distance(away: np.ndarray, spread: np.ndarray) -> float:
    """The root mean square over coordinates, in spreads."""
    return float(np.sqrt(np.mean((away / spread) ** 2)))


def with_optima(base: Tailed, places: np.ndarray, spreads: np.ndarray) -> Tailed:
    """`base` but for a share that lies around optima, alike."""
    number, dim = places.shape
    if not number:
        return base
    weights = np.append(
        base.log_weights + np.log1p(-AROUND_OPTIMA), np.full(number, np.log(AROUND_OPTIMA / number))
    )
    factors = INFLATED * spreads[:, :, None] * np.eye(dim)
    return Tailed(
        weights,
        np.concatenate([base.means, places]),
        np.concatenate([base.factors, factors]),
        np.append(base.freedoms, np.full(number, 5.0)),
    )


def from_descents(target: Target, u: np.ndarray, budget: Budget) -> tuple[Target, Bases]:
    """Around optima that descents from rows `[n, dim]` of free numbers reach, and these."""
    start = target.from_free(u)
    ends, value = ascents(target, start)
    ends = target.to_free(ends if len(ends) else start)
    order = np.argsort(-value) if len(value) else np.arange(len(ends))
    _, local = _spreads(target, target.from_free(ends[order][:8]))
    local = np.max(local, axis=0) * np.asarray(target.scale, np.float64)
    mean = np.median(ends, axis=0)
    outward = np.quantile(np.abs(ends - mean), 0.9, axis=0)
    spread = np.sqrt(outward**2 + (3 * local) ** 2 + (SPREAD / 3) ** 2)
    new = target.placed(mean, spread, float(target.reference))
    dim = len(mean)
    narrow = Tailed.single(np.zeros(dim), np.eye(dim), 5.0)
    wide = Tailed.single(np.zeros(dim), WIDER * np.eye(dim), 5.0)
    budget.spend("search", len(u) * (DESCENT_STEPS + 1) + 8 * (dim + 1), f"{len(ends)} descents")
    return new, Bases(narrow, wide, f"around what {len(u)} descents from random starts reached")


@compiled
def _ascended(
    target: Target, y: Float[Array, "n dim"], first: Array, steps: Array
) -> Float[Array, "n dim"]:
    """Rows after steps of resilient propagation, which knows no scale (Riedmiller, Braun 1993)."""
    gradient = jax.vmap(jax.grad(target) if target.differentiable else _slope_of(target))

    def step(_: Array, carry: tuple) -> tuple:
        y, size, before = carry
        slope = jnp.sign(jnp.nan_to_num(gradient(y)))
        same = slope * before
        size = jnp.clip(size * jnp.where(same > 0, 1.3, jnp.where(same < 0, 0.5, 1.0)), 1e-6, 1e4)
        slope = jnp.where(same < 0, 0.0, slope)
        return y + size * slope, size, slope

    carry = (y, jnp.full_like(y, first), jnp.zeros_like(y))
    return jax.lax.fori_loop(0, steps, step, carry)[0]


def _slope_of(target: Target) -> Callable[[Array], Array]:
    """The gradient of a target that has none, by differences of so many values as coordinates.

    Only its signs count.
    """

    def slope(y: Array) -> Array:
        rows = jnp.concatenate([y[None], y + DIFFERENCE * jnp.eye(len(y), dtype=y.dtype)])
        values = jax.vmap(target.wide)(rows)
        return ((values[1:] - values[0]) / DIFFERENCE).astype(y.dtype)

    return slope


def _spreads(target: Target, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradient at rows `[n, dim]`, and 1 / sqrt of the curvature along each coordinate."""
    dim, small = y.shape[1], DIFFERENCE
    if not target.differentiable:
        return _spreads_of_values(target, y)
    moved = np.concatenate([y[:, None], y[:, None] + small * np.eye(dim)], axis=1)
    _, slopes = gradients_at(target, moved.reshape(-1, dim).astype(np.float32))
    slopes = slopes.reshape(len(y), dim + 1, dim)
    bend = (slopes[:, :1] - slopes[:, 1:]) / small
    diagonal = np.nan_to_num(np.diagonal(bend, axis1=1, axis2=2), nan=1.0, posinf=1e12, neginf=0.0)
    return slopes[:, 0], 1 / np.sqrt(np.maximum(diagonal, 1e-2))


def _spreads_of_values(target: Target, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, by differences of values on both sides."""
    dim, small = y.shape[1], 10 * DIFFERENCE
    steps = small * np.concatenate([np.zeros((1, dim)), np.eye(dim), -np.eye(dim)])
    values = values_at(target, (y[:, None] + steps).reshape(-1, dim)).reshape(len(y), -1)
    up, down = values[:, 1 : dim + 1], values[:, dim + 1 :]
    bend = np.nan_to_num((2 * values[:, :1] - up - down) / small**2, nan=1.0, posinf=1e12, neginf=0)
    return (up - down) / (2 * small), 1 / np.sqrt(np.maximum(bend, 1e-2))


def _moments(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of rows, and a factor of their covariance, shrunk a little."""
    covariance = np.atleast_2d(np.cov(y, rowvar=False))
    diagonal = np.diag(np.maximum(np.diagonal(covariance), 1e-8))
    return y.mean(axis=0), np.linalg.cholesky(0.95 * covariance + 0.05 * diagonal + 1e-9 * diagonal)


def drawn(start: Any, parameters: Parameters, rng: np.random.Generator) -> Any:
    """Draws from what the user starts with: distributions are drawn from, draws stay.

    Args:
        start: draws, or a dict of distributions by name: frozen ones of SciPy (`rvs`), ones of
            NumPyro (`sample`), or a list of one for each component.
        parameters: whose they are.
        rng: random numbers.

    Raises:
        InputError: draws and distributions are mixed, or there are too few draws.
    """
    if not isinstance(start, Mapping):
        return start
    made = {}
    for name, given in start.items():
        is_list = isinstance(given, list | tuple) and len(given) and _is_distribution(given[0])
        if is_list:
            made[name] = np.stack([_drawn(one, rng) for one in given], axis=1)
        else:
            made[name] = _drawn(given, rng) if _is_distribution(given) else given
    for name, kind in zip(parameters.names, parameters.kinds, strict=True):
        if name in made and _is_distribution(start[name]) and kind.shape:
            values = np.asarray(made[name])
            if values.ndim == 1:  # one distribution for all components
                each = [_drawn(start[name], rng) for _ in range(int(np.prod(kind.shape)))]
                made[name] = np.stack(each, axis=1).reshape(-1, *kind.shape)
    return made


def _is_distribution(given: Any) -> bool:
    return hasattr(given, "rvs") or (hasattr(given, "sample") and hasattr(given, "log_prob"))


def _drawn(distribution: Any, rng: np.random.Generator) -> np.ndarray:
    if hasattr(distribution, "rvs"):
        return np.asarray(distribution.rvs(size=DRAWN, random_state=rng))
    key = jax.random.key(int(rng.integers(2**31)))
    return np.asarray(distribution.sample(key, (DRAWN,)))
