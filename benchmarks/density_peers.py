"""Other people's densities in the shoot-out, each chosen by validation rows.

Every peer works in the coordinates of several units, all fitted to training rows, and counts
their log-determinant: those of the tilted flow and plain standardisation, and on the digits
logits too. Validation rows choose the units along with everything else. What only one package
provides is skipped with a line where that package is not installed.
"""

import importlib.util
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from density_sets import Shared
from density_tilted import Progress, Scored, by_parts, units_of
from sklearn.mixture import GaussianMixture

from tiltflow.backbones import fit_units
from tiltflow.backbones.units.bijections import Units

COMPONENTS = {"full": (1, 4, 16), "tied": (16, 64), "diag": (32, 128)}
MIXTURE_ROWS = 10_000  # training rows of a mixture, at most: expectation maximisation is slow
BANDWIDTHS = tuple(np.geomspace(0.05, 1.5, 11))
KERNEL_ROWS = 2_000  # held-out rows that choose a bandwidth, at most
FLOW_ROWS = 20_000  # of flowjax, at most
FLOW_EPOCHS = 50  # of flowjax, at most; all else are its defaults
EBM_STEPS = 2_000  # of ebmkit


class Coordinates:
    """The rows of a set in one kind of units."""

    def __init__(self, shared: Shared, name: str, units: Units) -> None:
        self.name = name

        def encoded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(
                jnp.asarray(x.reshape(-1, *units.data_shape))
            )
            return np.asarray(y, np.float64), np.asarray(log_det, np.float64)

        self.train, _ = encoded(shared.train)
        self.val, log_det = encoded(shared.val_flat)
        self.val_log_det = float(log_det.mean())
        self.test, self.test_log_det = encoded(shared.test_flat)
        self.shape = shared.test.shape[:2]

    def nll(self, log_q: np.ndarray) -> np.ndarray:
        """`[rows]`: from the log-density of the test coordinates."""
        return -(np.asarray(log_q) + self.test_log_det).reshape(self.shape).mean(axis=1)


def every_units(shared: Shared) -> Iterator[Coordinates]:
    """The coordinates that peers choose from."""
    yield Coordinates(shared, "the tilted flow's units", units_of(shared))
    yield Coordinates(
        shared, "standardised", fit_units("standardise", shared.train, integers=False)
    )
    if shared.integers is not None:
        logit = fit_units("logit", shared.integers, integers=True, limits=(0.0, 16.0))
        yield Coordinates(shared, "logits", logit)


def score_mixture(shared: Shared, say: Progress) -> Scored:
    """Gaussian mixtures over a grid of components, kinds of covariance and units."""
    started = time.perf_counter()
    best, chosen = np.inf, None
    for c in every_units(shared):
        train = c.train[:MIXTURE_ROWS]
        for kind, numbers in COMPONENTS.items():
            for number in numbers:
                # On the digits a covariance has more numbers than a component has rows.
                floor = 0.1 if shared.integers is not None else 1e-4
                mixture = GaussianMixture(
                    number, covariance_type=kind, reg_covar=floor, max_iter=60, tol=1e-2,
                    init_params="k-means++", random_state=0,
                )  # fmt: skip
                with np.errstate(all="ignore"):
                    nll = -mixture.fit(train).score(c.val) - c.val_log_det
                if nll < best:
                    best, chosen = nll, (c, mixture, f"{number} {kind}, {c.name}")
        say(f"mixtures, {c.name}: best so far {best:.2f} on validation rows")
    c, mixture, words = chosen
    return Scored(c.nll(mixture.score_samples(c.test)), time.perf_counter() - started, words)


@jax.jit
def kernel_log_density(x: jax.Array, centres: jax.Array, bandwidth: jax.Array) -> jax.Array:
    """log of the mean of N(x; centre, bandwidth^2 I) over centres, for each row of x."""
    norms, dim = jnp.sum(centres**2, axis=1), centres.shape[1]

    def part(x: jax.Array) -> jax.Array:
        squares = jnp.sum(x**2) + norms - 2 * centres @ x
        return jax.nn.logsumexp(-0.5 * squares / bandwidth**2)

    level = jnp.log(len(centres)) + dim * (jnp.log(bandwidth) + 0.5 * jnp.log(2 * jnp.pi))
    return jax.lax.map(part, x, batch_size=256) - level


def score_kernels(shared: Shared, say: Progress) -> Scored:
    """A Gaussian kernel on every training row, over a grid of bandwidths and units."""
    started = time.perf_counter()
    best, chosen = np.inf, None
    picked = np.random.default_rng(0).permutation(len(shared.val_flat))[:KERNEL_ROWS]
    for c in every_units(shared):
        val, centres = jnp.asarray(c.val[picked]), jnp.asarray(c.train)
        for bandwidth in BANDWIDTHS:
            log_q = kernel_log_density(val, centres, jnp.asarray(bandwidth))
            nll = -float(log_q.mean()) - c.val_log_det
            if nll < best:
                best, chosen = nll, (c, bandwidth, f"bandwidth {bandwidth:.2f}, {c.name}")
        say(f"kernels, {c.name}: best so far {best:.2f} on validation rows")
    c, bandwidth, words = chosen
    log_q = kernel_log_density(jnp.asarray(c.test), jnp.asarray(c.train), jnp.asarray(bandwidth))
    return Scored(c.nll(np.asarray(log_q)), time.perf_counter() - started, words)


def score_flowjax(shared: Shared, say: Progress) -> Scored | None:
    """flowjax's rational-quadratic coupling flow, by its own `fit_to_data` and defaults."""
    if importlib.util.find_spec("flowjax") is None:
        say("flowjax is not installed: skipped")
        return None
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow
    from flowjax.train import fit_to_data

    started = time.perf_counter()
    c = next(every_units(shared))
    val, test = (
        x.reshape(-1, shared.test.shape[1] if x is c.test else 1, x.shape[1]).astype(np.float32)
        for x in (c.val, c.test)
    )
    best, chosen = np.inf, None
    # Copies of rows make its own validation split too kind: ours says whether they help.
    for rows in sorted({min(shared.rows, FLOW_ROWS), min(len(c.train), FLOW_ROWS)}):
        flow_key, fit_key = jr.split(jr.key(0))
        flow = coupling_flow(
            flow_key,
            base_dist=Normal(jnp.zeros(c.train.shape[1])),
            transformer=RationalQuadraticSpline(knots=8, interval=4),
        )
        train = jnp.asarray(c.train[:rows], jnp.float32)
        flow, losses = fit_to_data(
            fit_key, flow, train, max_epochs=FLOW_EPOCHS, show_progress=False
        )
        nll = -by_parts(flow.log_prob, val).mean() - c.val_log_det
        words = f"{rows} rows, {len(losses['val'])} epochs"
        say(f"flowjax, {words}: {nll:.2f} on validation rows")
        if nll < best:
            best, chosen = nll, (flow, words)
    flow, words = chosen
    log_q = by_parts(flow.log_prob, test)
    return Scored(c.nll(log_q.ravel()), time.perf_counter() - started, words)


def score_ebmkit(shared: Shared, say: Progress) -> Scored | None:
    """ebmkit's energy-based model by persistent contrastive divergence, log Z by its own AIS.

    Annealing from a normal bounds log Z from below on average: the nats flatter the model.
    """
    if importlib.util.find_spec("ebm") is None:
        say("ebmkit is not installed: skipped")
        return None
    import ebm
    import torch

    started = time.perf_counter()
    torch.manual_seed(0)
    c = next(every_units(shared))
    dim = c.train.shape[1]
    train, test = (torch.as_tensor(x, dtype=torch.float32) for x in (c.train, c.test))
    energy = ebm.nets.MLPEnergy(dim=dim, hidden=(128, 128))
    sampler = ebm.LangevinDynamics(step_size=1e-2, steps=20)
    loss = ebm.ContrastiveDivergence(
        sampler, buffer=ebm.ReplayBuffer(8_192, (dim,)), energy_reg=1e-3
    )
    ebm.Trainer(energy, loss, device="cpu", ema_decay=0.999).fit(
        train, steps=EBM_STEPS, batch_size=256, verbose=False
    )
    result = ebm.ais_log_z(energy, (dim,), n_temps=1_000, n_chains=256)
    with torch.no_grad():
        log_p = ebm.log_likelihood(energy, test, result.log_z).numpy()
    words = f"AIS log Z {result.log_z:.2f}, {result.ess:.0f} of 256 chains effective"
    return Scored(c.nll(log_p), time.perf_counter() - started, words)
