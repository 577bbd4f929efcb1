"""How a coupling flow cuts coordinates into halves."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.backbones.coupling import splits_of


def flow_of(dim, num_blocks, splits=None):
    rows = np.random.default_rng(0).normal(size=(4 * dim, dim))
    units = fit_units("standardise", rows, integers=False)
    return CouplingFlow(units, num_blocks=num_blocks, width=2, splits=splits, key=jr.key(0))


def never_apart(flow):
    """The share of pairs of coordinates that are in the same half in every block."""
    (dim,) = flow.latent_shape
    places, together = jnp.arange(dim), np.ones((dim, dim), bool)
    for block in flow.blocks:
        side = np.zeros(dim, bool)
        side[np.asarray(block._halves(places)[0], int)] = True
        together &= side[:, None] == side[None]
        places = block.forward(places.astype(float))[0].astype(int)
    return (together.sum() - dim) / (dim * (dim - 1))


@pytest.mark.parametrize(("dim", "splits"), [(1, 1), (7, 1), (10, 1), (12, 2), (64, 3), (784, 3)])
def test_runs_are_halved_while_they_can_be(dim, splits):
    assert splits_of(dim) == splits


@pytest.mark.parametrize("dim", [16, 64])
def test_three_cuts_leave_one_pair_of_eight_together(dim):
    assert never_apart(flow_of(dim, 3)) == pytest.approx((dim / 8 - 1) / (dim - 1))
    assert never_apart(flow_of(dim, 3, splits=1)) == pytest.approx(1 / 8, abs=0.05)
    assert never_apart(flow_of(dim, 1)) == pytest.approx((dim / 2 - 1) / (dim - 1))


def test_a_permutation_follows_the_last_cut_and_the_last_block():
    assert [b.order is not None for b in flow_of(64, 5).blocks] == [False, False, True, False, True]
    assert [b.runs for b in flow_of(64, 5).blocks] == [1, 2, 4, 1, 2]


@pytest.mark.parametrize("dim", [3, 12, 16])
def test_a_fresh_flow_is_a_permutation(dim):
    flow = flow_of(dim, 4)
    u = jnp.arange(float(dim))
    np.testing.assert_array_equal(np.sort(flow.coordinates(u)), u)
    np.testing.assert_array_equal(flow.inverse(flow.coordinates(u))[0], u)
