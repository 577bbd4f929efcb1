"""The contract of a density: it integrates to one, and its draws are its own.

An ensemble is a backbone besides: its excess over N(0, I) has the mean that makes exact draws
exact. Each check is a function that asserts, and its twin runs it on a broken density.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import (
    AutoregressiveFlow,
    CelledFlow,
    CopulaDensity,
    CouplingFlow,
    Ensemble,
    MixtureDensity,
    fit_units,
)
from tiltflow.backbones.cells import Cells
from tiltflow.backbones.copula import OrderedCells
from tiltflow.backbones.splines import backward, forward

DRAWS = 20_000
CELLS = np.linspace(-9, 9, 241)


def shaken(tree, key, by=0.4):
    """The same with noise on every number: nothing stays at zero or the identity."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jr.split(key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            x + by * jr.normal(k, x.shape) if eqx.is_inexact_array(x) else x
            for x, k in zip(leaves, keys, strict=True)
        ],
    )


def mixture():
    means = jnp.array([[-2.0, 0.0], [2.0, 1.0], [0.0, -2.0]])
    whiteners = jnp.array([[[0.3, 0], [0.8, 0.1]], [[0.0, 0], [-0.5, 0.5]], [[0.5, 0], [0, 0.2]]])
    return MixtureDensity(jnp.array([0.0, 0.5, -0.5]), means, whiteners)


def autoregressive():
    flow = AutoregressiveFlow(mixture(), 2, width=16, key=jr.key(0))
    return eqx.tree_at(lambda f: f.network, flow, shaken(flow.network, jr.key(1), by=0.15))


NO_CELLS = Cells.between([])


def of_cells(many=0, cells=Cells):
    """The second coordinate lies in three cells, whose shares are masses if they are many."""
    base = MixtureDensity(jnp.zeros(2), jnp.array([[-1.0], [2.0]]), jnp.array([[[0.3]], [[-0.2]]]))
    made = cells.between([np.array([-1.1625, 0.1875, 1.0875, 2.1375])])
    both = (made, NO_CELLS) if many else (NO_CELLS, made)
    return CelledFlow(base, *both, jnp.array([0, 1]), width=16, key=jr.key(0))


def celled(many=0, cells=Cells):
    begun = of_cells(many, cells)
    return eqx.tree_at(lambda f: f.network, begun, shaken(begun.network, jr.key(1), by=0.25))


@eqx.filter_jit
def log_probs(density, y):
    return jax.lax.map(density.log_prob, y, batch_size=4_096)


def grid():
    return jnp.asarray(np.stack(np.meshgrid(CELLS, CELLS, indexing="ij"), axis=-1).reshape(-1, 2))


def check_integrates(density):
    total = np.exp(np.asarray(log_probs(density, grid()), np.float64)).sum()
    assert total * (CELLS[1] - CELLS[0]) ** 2 == pytest.approx(1, abs=5e-3)


def check_draws(density):
    """Shares of draws in the cells of a coarse grid, against the density's own."""
    y = np.asarray(eqx.filter_jit(lambda d, k: d.draws(k, DRAWS))(density, jr.key(2)))
    edges = np.linspace(-9, 9, 16) + (CELLS[1] - CELLS[0]) / 2  # between two points
    found = np.histogramdd(y, [edges, edges])[0].ravel() / DRAWS
    p = np.exp(np.asarray(log_probs(density, grid()), np.float64))
    points = np.asarray(grid())
    expected = np.histogramdd(points, [edges, edges], weights=p)[0].ravel() / p.sum()
    error = np.sqrt(expected / DRAWS) + 2e-3
    assert np.max(np.abs(found - expected) / error) < 4.5


def copula(kind=CopulaDensity):
    """A normal column, and three cells in an order of their own."""
    cells = Cells.between([np.array([-1.1625, 0.1875, 1.0875, 2.1375])])
    ordered = OrderedCells.of_orders(cells, [np.array([3, 1, 2])])
    raw = jnp.array([[0.0, 0.0], [1.5, 0.0]])
    return kind(jnp.array([0.5]), jnp.array([-0.2]), raw, ordered, jnp.array([0, 1]))


DENSITIES = {
    "mixture": mixture,
    "autoregressive": autoregressive,
    "few": celled,
    "many": lambda: celled(1),
    "copula": copula,
}
every_density = pytest.mark.parametrize("name", DENSITIES)


@every_density
def test_it_integrates_to_one_and_draws_are_its_own(name):
    check_integrates(DENSITIES[name]())
    check_draws(DENSITIES[name]())


class WithoutSlopes(AutoregressiveFlow):
    """The log-determinant is forgotten."""

    def _log_prob(self, y, key):
        ordered = y[self.order]
        z, _ = jax.vmap(backward)(ordered, self.network(ordered, key))
        return self.base.log_prob(z[jnp.argsort(self.order)])


class DrawsOfBase(AutoregressiveFlow):
    """What is drawn has not gone through the network."""

    def draws(self, key, number):
        return self.base.draws(key, number)


class EqualWeights(MixtureDensity):
    """Draws take components as if all had the same weight."""

    def draws(self, key, number):
        even = eqx.tree_at(lambda m: m.log_weights, self, jnp.zeros(len(self.means)))
        return MixtureDensity.draws(even, key, number)


class SharesThatAreNone(Cells):
    """The shares of a column's levels do not add up to 1."""

    def log_prob(self, y, shift):
        return Cells.log_prob(self, y, shift) + jax.nn.logsumexp(self.log_mass + shift, axis=1)

    def log_prob_between(self, y, rising):
        return Cells.log_prob_between(self, y, rising) + 0.1 * self.level(y)


class CellsOfNormal(Cells):
    """Draws are those of N(0, 1) without its upper half, whatever the shares."""

    def within(self, key, level, place):
        return -jnp.abs(jr.normal(key, level.shape))


@pytest.mark.parametrize("many", [0, 1])
def test_the_checks_have_power_on_cells(many):
    for broken, check in ((SharesThatAreNone, check_integrates), (CellsOfNormal, check_draws)):
        with pytest.raises(AssertionError):
            check(celled(many, broken))


class Forgetful(CopulaDensity):
    """Columns in cells are told nothing of what came before them, by draws alone."""

    def draws(self, key, number):
        even = eqx.tree_at(lambda c: c.raw, self, jnp.zeros((2, 2)))
        return CopulaDensity.draws(even, key, number)


class TwiceSeen(CopulaDensity):
    """What a cell has goes into the density twice."""

    def _seen(self, believed, place, level):
        believed, log_mass = super()._seen(believed, place, level)
        return believed, 2 * log_mass


def test_the_checks_have_power_on_copulas():
    for broken, check in ((TwiceSeen, check_integrates), (Forgetful, check_draws)):
        with pytest.raises(AssertionError):
            check(copula(broken))


@pytest.mark.parametrize("many", [0, 1])
def test_within_a_cell_the_density_is_that_of_its_noise(many):
    """That of N(0, 1), whatever the network; at its start everywhere."""
    flow, begun = celled(many), of_cells(many)
    y = jnp.stack([jnp.full(52, 0.7), jnp.linspace(0.19, 1.08, 52)], axis=1)
    y = y.at[:2].set(jnp.array([[0.7, 0.18], [0.7, 0.19]]))
    found = log_probs(flow, y) + 0.5 * y[:, 1] ** 2
    assert float(jnp.ptp(found[1:])) < 1e-5
    assert abs(float(found[1] - found[0])) > 0.02  # power: between two cells it jumps
    at_first = (
        jax.vmap(begun.base.log_prob)(y[:, :1]) - 0.5 * y[:, 1] ** 2 - 0.5 * np.log(2 * np.pi)
    )
    np.testing.assert_allclose(log_probs(begun, y), at_first, atol=1e-4)


def test_the_checks_have_power():
    flow = autoregressive()
    for broken, check in ((WithoutSlopes, check_integrates), (DrawsOfBase, check_draws)):
        wrong = broken(mixture(), 2, width=16, key=jr.key(0))
        wrong = eqx.tree_at(lambda f: f.network, wrong, flow.network)
        with pytest.raises(AssertionError):
            check(wrong)
    with pytest.raises(AssertionError):
        check_draws(EqualWeights(jnp.array([0.0, 2.0, -2.0]), mixture().means, mixture().whiteners))


def test_it_starts_at_its_base():
    y = jr.normal(jr.key(3), (200, 2)) * 3
    flow = AutoregressiveFlow(mixture(), 2, width=8, key=jr.key(0))
    np.testing.assert_allclose(log_probs(flow, y), log_probs(mixture(), y), atol=1e-4)


def test_a_coordinate_depends_on_those_before_it_alone():
    flow = AutoregressiveFlow(MixtureDensity.standard(1, 5), 5, width=32, depth=2, key=jr.key(0))
    network = shaken(flow.network, jr.key(1))
    jacobian = np.asarray(
        jax.jit(jax.jacobian(lambda y: jnp.sum(network(y) ** 2, axis=1)))(jnp.ones(5))
    )
    assert np.all(np.triu(jacobian) == 0)
    assert np.all(np.tril(jacobian, -1)[np.tril_indices(5, -1)] != 0)  # power: the others do


@pytest.mark.parametrize("width", [3, 32], ids=["degrees without units", "many units of each"])
def test_coordinate_by_coordinate_the_network_says_what_it_says_at_once(width):
    flow = AutoregressiveFlow(MixtureDensity.standard(1, 5), 5, width=width, key=jr.key(0))
    network = shaken(flow.network, jr.key(1))
    rows = jr.normal(jr.key(2), (3, 5))
    whole = np.asarray(jax.jit(jax.vmap(network))(rows))
    at, known = eqx.filter_jit(network.at), network.nothing_known(3)
    for place in range(5):
        to_come = jnp.arange(5) >= place
        raw, known = at(jnp.where(to_come, 7.0, rows).T, known, jnp.asarray(place))
        np.testing.assert_allclose(raw.T, whole[:, place], rtol=1e-4, atol=1e-5)
    _, known = at(rows.T, network.nothing_known(3), jnp.asarray(2))
    skipped, _ = at(rows.T, known, jnp.asarray(3))
    assert np.max(np.abs(skipped.T - whole[:, 3])) > 0.01  # power: in order alone


def test_splines_and_their_inverses():
    """Inside and outside of the knots; their slopes are those that autodiff finds."""
    raw = jr.normal(jr.key(4), (300, 25))
    y = jr.normal(jr.key(5), (300,)) * 5
    z, log_slopes = jax.jit(jax.vmap(backward))(y, raw)
    np.testing.assert_allclose(jax.jit(jax.vmap(forward))(z, raw), y, atol=2e-3)
    slopes = jax.jit(jax.vmap(jax.grad(lambda y, raw: backward(y, raw)[0])))(y, raw)
    np.testing.assert_allclose(np.log(slopes), log_slopes, atol=1e-3)


def ensemble(weights=(0.2, 0.5, 0.3)):
    x = np.asarray(mixture().draws(jr.key(6), 2_000))
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=2, width=8, key=jr.key(7))
    members = (mixture(), autoregressive())
    return Ensemble(shaken_flow(flow), members, jnp.log(jnp.asarray(weights)))


def shaken_flow(flow):
    return eqx.tree_at(lambda f: f.blocks, flow, shaken(flow.blocks, jr.key(8), by=0.2))


def check_excess(backbone):
    """E exp(-excess) over exact draws is 1; it is bounded, since the transport has a weight."""

    def excess(u):
        return jax.vmap(lambda u: backbone.excess(u, backbone.coordinates(u)))(u)

    u = eqx.filter_jit(lambda b: b.draws(jr.key(10), DRAWS))(backbone)
    values = np.exp(-np.asarray(jax.jit(excess)(u), np.float64))
    error = values.std() / np.sqrt(DRAWS)
    assert error < 0.03
    assert abs(values.mean() - 1) < 4.5 * error


def test_the_excess_is_that_of_exact_draws():
    check_excess(ensemble())


class DrawsOfTransport(Ensemble):
    """Only the transport is drawn from."""

    def draws(self, key, number):
        return jr.normal(key, (number, *self.latent_shape))


class TwiceTheExcess(Ensemble):
    """The excess counts twice."""

    def excess(self, u, c):
        return 2 * Ensemble.excess(self, u, c)


@pytest.mark.parametrize("broken", [DrawsOfTransport, TwiceTheExcess])
def test_the_check_of_the_excess_has_power(broken):
    sound = ensemble()
    with pytest.raises(AssertionError):
        check_excess(broken(sound.transport, sound.members, sound.log_weights))


def test_an_ensemble_is_the_mixture_of_its_members():
    backbone = ensemble()
    y = jr.normal(jr.key(11), (50, 2))
    each = np.asarray(jax.jit(jax.vmap(backbone.each))(y), np.float64)
    expected = np.log(np.exp(each) @ np.array([0.2, 0.5, 0.3]))
    found = jax.jit(jax.vmap(backbone.log_prob_coordinates))(y)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not backbone.is_normal
    assert backbone.transport.is_normal
