"""Other people's densities in the shoot-out, within the same seconds; validation rows choose.

Each works in standardised columns and in the units that `tiltflow.fit` has for the set, and counts
their log-determinant. What is not installed says so, and is left out.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from density_ours import Scored
from density_sets import Shared
from sklearn.mixture import GaussianMixture

from tiltflow.backbones import fit_units
from tiltflow.backbones.units.bijections import Units
from tiltflow.fitting.recipes import units_for
from tiltflow.fitting.settings import suited_to

COMPONENTS = {"full": (1, 2, 4, 8, 16, 32), "tied": (16, 64), "diag": (32, 96)}
FLOORS = (1e-4, 1e-2)
MIXTURE_ROWS = 10_000  # training rows of a mixture, at most: expectation maximisation is slow
BANDWIDTHS = tuple(np.geomspace(0.05, 1.5, 11))
CENTRES = 20_000
SHARE = 0.85  # of the seconds left, that a flow may learn for before it has to be scored
Left = Callable[[], float]


class Coordinates:
    """The rows of a set in one kind of units."""

    def __init__(self, shared: Shared, name: str, units: Units) -> None:
        self.name = name
        encode = jax.jit(jax.vmap(units.encode_and_log_det))

        def encoded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            y, log_det = encode(jnp.asarray(x.reshape(-1, x.shape[-1])))
            return np.asarray(y, np.float64), np.asarray(log_det, np.float64)

        self.train, _ = encoded(shared.train)
        self.val, log_det = encoded(shared.val)
        self.val_level = float(log_det.mean() + shared.val_volume.mean())
        self.test, log_det = encoded(shared.test)
        self.test_level = log_det + shared.test_volume.ravel()
        self.shape = shared.test.shape[:2]

    def nll(self, log_q: np.ndarray) -> np.ndarray:
        """`[rows]`: from the log-density of the test coordinates."""
        return -(np.asarray(log_q).ravel() + self.test_level).reshape(self.shape).mean(axis=1)


def every_units(shared: Shared) -> Iterator[Coordinates]:
    """The coordinates that peers choose from."""
    yield Coordinates(shared, "standardised", standardised(shared))
    yield Coordinates(shared, "tiltflow's units", own_units(shared))


def standardised(shared: Shared) -> Units:
    """A deviation of 1 for each column."""
    return fit_units("standardise", shared.train, integers=False)


def own_units(shared: Shared) -> Units:
    """Those of `tiltflow.fit`, for rows that have their noise already."""
    data, train = shared.data, shared.data.take(shared.parts.train).values
    model = suited_to(None, len(train), data.shape).model
    limits = (float(data.values.min()), float(data.values.max()))
    cells = train if data.grid is None else data.grid.to_cells(train)
    return units_for(model, cells, integers=data.integers, limits=limits, grid=data.grid)


def score_mixture(shared: Shared, left: Left) -> Scored:
    """scikit-learn's Gaussian mixtures, over components, kinds of covariance, floors and units."""
    best, chosen, tried = np.inf, None, 0
    units = list(every_units(shared))
    grid = [
        (c, kind, number, floor)
        for kind, numbers in COMPONENTS.items()
        for number in numbers
        for floor in FLOORS
        for c in units
    ]
    longest = 0.0
    for c, kind, number, floor in grid:
        if left() < 1.5 * longest:
            break
        began = time.monotonic()
        mixture = GaussianMixture(
            number, covariance_type=kind, reg_covar=floor, max_iter=60, tol=1e-2,
            init_params="k-means++", random_state=0,
        )  # fmt: skip
        with np.errstate(all="ignore"):
            nll = -mixture.fit(c.train[:MIXTURE_ROWS]).score(c.val) - c.val_level
        if nll < best:
            best, chosen = nll, (c, mixture, f"{number} {kind}, floor {floor:g}, {c.name}")
        longest, tried = max(longest, time.monotonic() - began), tried + 1
    assert chosen is not None
    c, mixture, words = chosen
    return Scored(c.nll(mixture.score_samples(c.test)), f"{words} ({tried} of {len(grid)} tried)")


def score_kernels(shared: Shared, left: Left) -> Scored:
    """A Gaussian kernel on every training row, over bandwidths and units."""
    best, chosen = np.inf, None
    picked = np.random.default_rng(0).permutation(shared.val.shape[0] * shared.val.shape[1])[:2_000]
    for c in every_units(shared):
        val, centres = jnp.asarray(c.val[picked]), jnp.asarray(c.train[:CENTRES])
        for bandwidth in BANDWIDTHS:
            log_q = kernel_log_density(val, centres, jnp.asarray(bandwidth))
            nll = -float(log_q.mean()) - c.val_level
            if nll < best:
                best, chosen = nll, (c, bandwidth, f"bandwidth {bandwidth:.2f}, {c.name}")
    assert chosen is not None
    c, bandwidth, words = chosen
    centres = jnp.asarray(c.train[:CENTRES])
    log_q = kernel_log_density(jnp.asarray(c.test), centres, jnp.asarray(bandwidth))
    return Scored(c.nll(np.asarray(log_q)), words)


@jax.jit
def kernel_log_density(x: jax.Array, centres: jax.Array, bandwidth: jax.Array) -> jax.Array:
    """log of the mean of N(x; centre, bandwidth^2 I) over centres, for each row of x."""
    norms, dim = jnp.sum(centres**2, axis=1), centres.shape[1]

    def part(x: jax.Array) -> jax.Array:
        squares = jnp.sum(x**2) + norms - 2 * centres @ x
        return jax.nn.logsumexp(-0.5 * squares / bandwidth**2)

    level = jnp.log(len(centres)) + dim * (jnp.log(bandwidth) + 0.5 * jnp.log(2 * jnp.pi))
    return jax.lax.map(part, x, batch_size=256) - level


def flowjax_flow(which: str, units: Callable[[Shared], Units]) -> Callable[[Shared, Left], Scored]:
    """A flow of flowjax of its default size, by Adam, stopped by validation rows."""

    def scored(shared: Shared, left: Left) -> Scored:
        if importlib.util.find_spec("flowjax") is None:
            raise SystemExit("flowjax is not installed")
        import equinox as eqx
        import optax
        from flowjax.bijections import RationalQuadraticSpline
        from flowjax.distributions import Normal
        from flowjax.flows import coupling_flow, masked_autoregressive_flow

        c = Coordinates(shared, units.__name__, units(shared))
        dim, many = c.train.shape[1], len(shared.parts.train) >= 5_000
        make = masked_autoregressive_flow if which == "maf" else coupling_flow
        spline = {} if which == "maf" else {
            "transformer": RationalQuadraticSpline(knots=8, interval=4)
        }  # fmt: skip
        flow = make(jr.key(0), base_dist=Normal(jnp.zeros(dim)), **spline)
        batch = 256 if many else 100
        adam = optax.adam(1e-3 if many else 5e-4)
        train, val = jnp.asarray(c.train, jnp.float32), jnp.asarray(c.val, jnp.float32)
        parameters, frozen = eqx.partition(flow, eqx.is_inexact_array)

        @eqx.filter_jit
        def epoch(parameters, state, key):
            def step(carry, key):
                parameters, state = carry
                rows = train[jr.randint(key, (batch,), 0, len(train))]

                def loss(parameters):
                    return -jnp.mean(eqx.combine(parameters, frozen).log_prob(rows))

                gradient = jax.grad(loss)(parameters)
                updates, state = adam.update(gradient, state, parameters)
                return (eqx.apply_updates(parameters, updates), state), None

            (parameters, state), _ = jax.lax.scan(step, (parameters, state), jr.split(key, 100))
            return parameters, state

        @eqx.filter_jit
        def log_probs(parameters, x):
            return jax.lax.map(eqx.combine(parameters, frozen).log_prob, x, batch_size=2_048)

        state, best, kept, waited, number = adam.init(parameters), np.inf, parameters, 0, 0
        planned = SHARE * left()
        began = time.monotonic()
        while time.monotonic() - began < planned and waited < 20:
            parameters, state = epoch(parameters, state, jr.fold_in(jr.key(1), number))
            nll = -float(log_probs(parameters, val).mean())
            number, waited = number + 1, waited + 1
            if nll < best:
                best, kept, waited = nll, parameters, 0
        log_q = np.asarray(log_probs(kept, jnp.asarray(c.test, jnp.float32)), np.float64)
        return Scored(c.nll(log_q), f"{100 * number} steps")

    return scored


PEERS = {
    "mixture": score_mixture,
    "kernels": score_kernels,
    "flowjax maf": flowjax_flow("maf", standardised),
    "flowjax spline": flowjax_flow("spline", standardised),
    "flowjax maf, our units": flowjax_flow("maf", own_units),
    "flowjax spline, our units": flowjax_flow("spline", own_units),
}
