"""The contract that every backbone goes through, and that broken ones must not pass.

A case is a kind of units, a shape of data and a class of flows, whose weights are drawn far from
the identity, last layers too. Every check is a function of a backbone that asserts, so that its
power twin can run the same function on a deliberately broken backbone.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, Glow, GlowSizes, dequantise, fit_units
from tiltflow.backbones.base import Flow, standard_normal_log_prob
from tiltflow.backbones.scale import fit_logit_scale, fit_scale
from tiltflow.backbones.units import TAIL, Affine, Logit

KINDS = ("gaussianise", "histogram", "logit", "standardise", "whiten")
SHAPES = ((2,), (5,), (4, 4))
INTEGERS = ("gaussianise", "logit", "logit of images")
LEVELS = 5

COUPLINGS = [(kind, shape, CouplingFlow) for kind in KINDS for shape in SHAPES]
GLOWS = [("scale of images", (4, 2, 3), Glow), ("logit of images", (4, 4), Glow)]
every_case = pytest.mark.parametrize(("kind", "shape", "flow"), COUPLINGS + GLOWS)
every_plane = pytest.mark.parametrize("kind", KINDS)


class LogDetFlipped(CouplingFlow):
    """Broken: the flow's log-determinant has the wrong sign."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, -log_det


class UnitsForgotten(CouplingFlow):
    """Broken: the density is one of coordinates, not of data."""

    def log_prob(self, x):
        return self.log_prob_coordinates(self.units.encode(x))


class NotTheInverse(CouplingFlow):
    """Broken: push and pull are different maps."""

    def coordinates(self, u):
        return super().coordinates(1.05 * u)


class PushIgnoresUnits(CouplingFlow):
    """Broken: push returns coordinates, in the shape of data."""

    def push(self, u):
        return self.coordinates(u).reshape(self.data_shape)


class FlatData(CouplingFlow):
    """Broken: push forgets the shape of the data."""

    def push(self, u):
        return super().push(u).ravel()


class QuadraticTails(CouplingFlow):
    """Broken: far away the map is quadratic."""

    def coordinates(self, u):
        y = super().coordinates(u)
        return y + 0.1 * y * jnp.abs(y)


class ExponentialTails(CouplingFlow):
    """Broken: the map overflows float32 where a chain may go."""

    def coordinates(self, u):
        return jnp.sinh(4 * super().coordinates(u))


class GlowLogDetFlipped(Glow):
    """Broken: the flow's log-determinant has the wrong sign."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, -log_det


class GlowNotTheInverse(Glow):
    """Broken: push and pull are different maps."""

    def coordinates(self, u):
        return super().coordinates(1.05 * u)


def rows(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Correlated rows: integers 0 to 4, or normals off centre with unequal scales."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(400, *shape)) + rng.normal(size=(400, *[1] * len(shape)))
    if kind in INTEGERS:
        return np.clip(np.round(2 + noise), 0, LEVELS - 1)
    return 3.0 + noise * np.linspace(0.5, 2.0, int(np.prod(shape))).reshape(shape)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Programs here are many and run once: compiling them is all that takes time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def make(kind: str, shape: tuple[int, ...], flow: type[Flow] = CouplingFlow) -> Flow:
    """A flow whose scales and shifts are far from those of the identity."""
    if issubclass(flow, Glow):
        return make_glow(kind, shape, flow)
    units = fit_units(kind, rows(kind, shape), integers=kind in INTEGERS)
    backbone = flow(units, num_blocks=2, width=8, key=jr.key(1))

    def conditioners(f):
        return [c.out for c in (f.blocks.to_second, f.blocks.to_first)]

    outs, treedef = jax.tree.flatten(conditioners(backbone))
    keys = jr.split(jr.key(2), len(outs))
    outs = [0.4 * jr.normal(k, out.shape) for k, out in zip(keys, outs, strict=True)]
    return eqx.tree_at(conditioners, backbone, jax.tree.unflatten(treedef, outs))


def make_glow(kind: str, shape: tuple[int, ...], flow: type[Glow]) -> Flow:
    """A Glow with noise on all that is learned."""
    x = rows(kind, shape)
    units = fit_logit_scale(x) if kind in INTEGERS else fit_scale(x, integers=False)
    backbone = flow(units, GlowSizes(steps=1, width=6), key=jr.key(1))
    learned, rest = eqx.partition(backbone.scales, eqx.is_inexact_array)
    leaves, treedef = jax.tree.flatten(learned)
    keys = jr.split(jr.key(2), len(leaves))
    leaves = [leaf + 0.1 * jr.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    scales = eqx.combine(jax.tree.unflatten(treedef, leaves), rest)
    return eqx.tree_at(lambda b: b.scales, backbone, scales)


def noise(backbone: Flow, number: int = 32, seed: int = 3) -> jax.Array:
    return jr.normal(jr.key(seed), (number, *backbone.latent_shape))


@eqx.filter_jit
def mapped(function, backbone: Flow, examples: jax.Array) -> jax.Array:
    """`function(backbone, example)` for each of `examples`."""
    return jax.vmap(lambda example: function(backbone, example))(examples)


# `mapped` compiles once for each of these and each backbone, if batches have one size.
def push(backbone, u):
    return backbone.push(u)


def pull(backbone, x):
    return backbone.pull(x)


def coordinates(backbone, u):
    return backbone.coordinates(u)


def log_prob(backbone, x):
    return backbone.log_prob(x)


def check_round_trip(backbone: Flow, data: jax.Array) -> None:
    """pull(push(u)) = u for noise, push(pull(x)) = x for rows of data."""
    u = noise(backbone)
    back = mapped(pull, backbone, mapped(push, backbone, u))
    np.testing.assert_allclose(back, u, atol=3e-3)
    back = mapped(push, backbone, mapped(pull, backbone, data))
    np.testing.assert_allclose(back, data, atol=2e-4 * float(jnp.max(jnp.abs(data))))


def by_autodiff(backbone: Flow, x: jax.Array) -> jax.Array:
    """Log N(pull(x)) + log|det d pull / dx|."""
    jacobian = jax.jacfwd(backbone.pull)(x).reshape(x.size, x.size)
    return standard_normal_log_prob(backbone.pull(x)) + jnp.linalg.slogdet(jacobian)[1]


def check_log_det(backbone: Flow) -> None:
    """log_prob is the change of variables by pull's Jacobian."""
    x = mapped(push, backbone, noise(backbone))
    difference = mapped(lambda b, x: b.log_prob(x) - by_autodiff(b, x), backbone, x)
    np.testing.assert_allclose(difference, 0.0, atol=2e-2)


def check_shapes(backbone: Flow) -> None:
    """One example in, one out; vmap makes batches."""
    dim = int(np.prod(backbone.data_shape))
    u = jnp.zeros(backbone.latent_shape)
    x = jax.eval_shape(backbone.push, u)
    assert x.shape == backbone.data_shape
    assert jax.eval_shape(backbone.coordinates, u).shape == (dim,)
    assert jax.eval_shape(backbone.pull, x).shape == backbone.latent_shape
    assert jax.eval_shape(backbone.log_prob, x).shape == ()
    batch = jax.eval_shape(jax.vmap(backbone.push), noise(backbone, 3))
    assert batch.shape == (3, *backbone.data_shape)
    assert jax.eval_shape(jax.vmap(backbone.log_prob), batch).shape == (3,)


def check_push_decodes(backbone: Flow) -> None:
    """A tilt reads coordinates: push must be nothing but their decoding."""
    u = noise(backbone)
    y = mapped(coordinates, backbone, u)
    decoded = mapped(lambda b, y: b.units.decode(y), backbone, y)
    np.testing.assert_allclose(mapped(push, backbone, u), decoded, rtol=1e-5, atol=1e-5)


def far(backbone: Flow, radius: float) -> jax.Array:
    u = noise(backbone)
    norms = jnp.sqrt(jnp.sum(u**2, axis=tuple(range(1, u.ndim)), keepdims=True))
    return radius * u / norms


def check_coordinates_far_out(backbone: Flow) -> None:
    """Coordinates and their gradients are finite where only a stray chain goes."""
    u = far(backbone, 30.0)
    jacobian = mapped(lambda b, u: jax.jacfwd(b.coordinates)(u), backbone, u)
    assert jnp.all(jnp.isfinite(mapped(coordinates, backbone, u)))
    assert jnp.all(jnp.isfinite(jacobian))


def check_log_prob_far_out(backbone: Flow, data: jax.Array) -> None:
    """log q and its gradient are finite far outside the range of the data."""
    away = jnp.ptp(data) * jnp.asarray([-30.0, -3.0, 3.0, 30.0])
    away = away.reshape(-1, *[1] * len(backbone.data_shape))
    x = jnp.mean(data, axis=0) + away * jnp.ones(backbone.data_shape)
    gradient = mapped(lambda b, x: jax.grad(b.log_prob)(x), backbone, x)
    assert jnp.all(jnp.isfinite(mapped(log_prob, backbone, x)))
    assert jnp.all(jnp.isfinite(gradient))


def check_linear_tails(backbone: Flow) -> None:
    """Twice as far out in u is at most about twice as far out in coordinates."""
    near, twice = (
        jnp.linalg.norm(mapped(coordinates, backbone, far(backbone, r)), axis=1)
        for r in (50.0, 100.0)
    )
    assert jnp.max(twice / near) < 2.7  # a quadratic map makes it nearly 4


def axis_nodes(backbone: Flow, number: int = 400) -> np.ndarray:
    """`[nodes, 2]`: nodes on either data axis, dense where the backbone's mass is.

    The density of a dequantised histogram jumps at the edges of bins: nodes lie on both sides.
    """
    reach = jnp.asarray([-0.2, 1.2])[:, None]
    if isinstance(backbone.units, Affine):
        x = mapped(push, backbone, noise(backbone, 10_000))
        ends = jnp.min(x, axis=0) + reach * jnp.ptp(x, axis=0)
        return np.linspace(*np.asarray(ends, np.float64), number)
    y = mapped(coordinates, backbone, noise(backbone, 10_000))
    ends = jnp.min(y, axis=0) + reach * jnp.ptp(y, axis=0)
    nodes = np.asarray(jax.vmap(backbone.units.decode)(jnp.linspace(*ends, number)), np.float64)
    if isinstance(backbone.units, Logit):
        return nodes
    edges = np.arange(LEVELS + 1.0)[:, None] + np.zeros(2)
    return np.sort(np.concatenate([nodes, edges - 1e-4, edges + 1e-4]), axis=0)


def density_on(backbone: Flow, nodes: np.ndarray) -> np.ndarray:
    """`[nodes, nodes]`: q at the grid that the nodes span."""
    grid = np.stack(np.meshgrid(nodes[:, 0], nodes[:, 1], indexing="ij"), axis=-1)
    points = jnp.asarray(grid.reshape(-1, 2), jnp.float32)
    log_q = mapped(log_prob, backbone, points)
    return np.exp(np.asarray(log_q, np.float64)).reshape(len(nodes), len(nodes))


def check_integrates(backbone: Flow) -> None:
    """In two dimensions, q in data units integrates to 1 over the plane."""
    nodes = axis_nodes(backbone)
    inner = np.trapezoid(density_on(backbone, nodes), nodes[:, 1], axis=1)
    np.testing.assert_allclose(np.trapezoid(inner, nodes[:, 0]), 1.0, atol=1e-2)


def bin_probabilities(backbone: Flow, order: int = 24) -> np.ndarray:
    """`[LEVELS, LEVELS]`: q integrated over each bin [i, i+1) x [j, j+1), by Gauss-Legendre."""
    places, weights = np.polynomial.legendre.leggauss(order)
    places, weights = (places + 1) / 2, weights / 2
    axis = (np.arange(LEVELS)[:, None] + places).ravel()
    q = density_on(backbone, np.stack([axis, axis], axis=1))
    q = q.reshape(LEVELS, order, LEVELS, order)
    return np.einsum("iajb,a,b->ij", q, weights, weights)


def check_bins(backbone: Flow) -> None:
    """Each bin's probability is the frequency of draws in it, within 4.5 standard errors.

    Draws come from `push` and probabilities from `log_prob`, so this ties sampling to scoring.
    """
    number = 100_000
    probabilities = bin_probabilities(backbone)
    x = np.asarray(mapped(push, backbone, noise(backbone, number, seed=11)))
    level = np.floor(x).astype(int)
    level = level[np.all((level >= 0) & (level < LEVELS), axis=1)]
    frequencies = np.zeros((LEVELS, LEVELS))
    np.add.at(frequencies, (level[:, 0], level[:, 1]), 1 / number)
    error = np.sqrt(probabilities * (1 - np.minimum(probabilities, 1)) / number) + 1e-5
    assert np.max(np.abs(frequencies - probabilities) / error) < 4.5
    outside = 1 - len(level) / number
    np.testing.assert_allclose(probabilities.sum() + outside, 1.0, atol=5e-3)


def data(kind: str, shape: tuple[int, ...]) -> jax.Array:
    x = jnp.asarray(rows(kind, shape)[:32], jnp.float32)
    return dequantise(jr.key(5), x) if kind in INTEGERS else x


@every_case
def test_push_and_pull_are_inverses(kind, shape, flow):
    check_round_trip(make(kind, shape, flow), data(kind, shape))


@every_case
def test_log_prob_is_the_change_of_variables_that_autodiff_finds(kind, shape, flow):
    check_log_det(make(kind, shape, flow))


@every_case
def test_one_example_goes_in_and_one_comes_out(kind, shape, flow):
    check_shapes(make(kind, shape, flow))


@every_case
def test_push_decodes_coordinates(kind, shape, flow):
    check_push_decodes(make(kind, shape, flow))


@every_plane
def test_the_checks_so_far_have_power(kind):
    with pytest.raises(AssertionError):
        check_round_trip(make(kind, (2,), NotTheInverse), data(kind, (2,)))
    for broken in (LogDetFlipped, UnitsForgotten):
        with pytest.raises(AssertionError):
            check_log_det(make(kind, (2,), broken))
    with pytest.raises(AssertionError):
        check_push_decodes(make(kind, (2,), PushIgnoresUnits))


@pytest.mark.parametrize(("kind", "shape"), [case[:2] for case in GLOWS])
def test_they_have_power_over_images(kind, shape):
    with pytest.raises(AssertionError):
        check_round_trip(make(kind, shape, GlowNotTheInverse), data(kind, shape))
    with pytest.raises(AssertionError):
        check_log_det(make(kind, shape, GlowLogDetFlipped))


def test_the_check_of_shapes_has_power():
    with pytest.raises(AssertionError):
        check_shapes(make("standardise", (4, 4), FlatData))


@every_case
def test_tails_are_linear_and_gradients_finite(kind, shape, flow):
    check_coordinates_far_out(make(kind, shape, flow))
    check_linear_tails(make(kind, shape, flow))


def test_the_tail_checks_have_power():
    with pytest.raises(AssertionError):
        check_coordinates_far_out(make("whiten", (5,), ExponentialTails))
    with pytest.raises(AssertionError):
        check_linear_tails(make("whiten", (5,), QuadraticTails))


@pytest.mark.parametrize(
    ("kind", "shape", "flow"), [case for case in COUPLINGS + GLOWS if "logit" not in case[0]]
)
def test_log_prob_is_finite_far_outside_the_data(kind, shape, flow):
    check_log_prob_far_out(make(kind, shape, flow), data(kind, shape))


def test_an_interval_has_no_tails():
    """`logit` is documented not to reach beyond its interval: the check above sees it."""
    with pytest.raises(AssertionError):
        check_log_prob_far_out(make("logit", (2,)), data("logit", (2,)))


@every_plane
def test_the_density_integrates_to_one_in_data_units(kind):
    check_integrates(make(kind, (2,)))
    for broken in (LogDetFlipped, UnitsForgotten):
        with pytest.raises(AssertionError):
            check_integrates(make(kind, (2,), broken))


@pytest.mark.parametrize("kind", ["gaussianise", "logit"])
def test_bins_have_the_probability_of_draws_in_them(kind):
    check_bins(make(kind, (2,)))
    for broken in (LogDetFlipped, UnitsForgotten, NotTheInverse):
        with pytest.raises(AssertionError):
            check_bins(make(kind, (2,), broken))


def test_bins_of_independent_columns_are_products_of_histograms():
    """At the identity the flow adds nothing, and only `TAIL` lies outside the bins."""
    x = rows("gaussianise", (2,))
    units = fit_units("gaussianise", x, integers=True)
    backbone = CouplingFlow(units, num_blocks=2, width=4, key=jr.key(0))
    probabilities = bin_probabilities(backbone)
    expected = np.outer(*np.asarray(units.mass, np.float64))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(), (1 - 2 * TAIL) ** 2, atol=1e-4)
