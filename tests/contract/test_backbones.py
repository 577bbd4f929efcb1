"""The contract that every backbone goes through, and that broken ones must not pass.

A case is a kind of units, a shape of data and a class of flows, whose weights are drawn far from
the identity, last layers too. Every check is a function of a backbone that asserts, so that its
power twin can run the same function on a deliberately broken backbone.
"""

import jax.random as jr
import numpy as np
import pytest
from broken_flows import (
    ExponentialTails,
    FlatData,
    GlowLogDetFlipped,
    GlowNotTheInverse,
    LogDetFlipped,
    NotTheInverse,
    PushIgnoresUnits,
    QuadraticTails,
    UnitsForgotten,
)
from contract_flows import data, make, rows
from flow_checks import (
    bin_probabilities,
    check_bins,
    check_coordinates_far_out,
    check_integrates,
    check_linear_tails,
    check_log_det,
    check_log_prob_far_out,
    check_push_decodes,
    check_round_trip,
    check_shapes,
)

from tiltflow.backbones import CouplingFlow, Gaussian, Glow, fit_units
from tiltflow.backbones.units.bijections import TAIL

KINDS = ("gaussianise", "histogram", "logit", "standardise", "whiten")
SHAPES = ((2,), (5,), (4, 4))

FIRST = [("gaussianise", (2,)), ("whiten", (5,)), ("gaussianise", (4, 4))]  # the others are slow


def coupling(kind, shape):
    """Every kind integrates to one in the plane; its other checks are slow, but for these."""
    slow = () if (kind, shape) in FIRST else pytest.mark.slow
    return pytest.param(kind, shape, CouplingFlow, marks=slow)


COUPLINGS = [coupling(kind, shape) for kind in KINDS for shape in SHAPES]
GLOWS = [("scale of images", (4, 2, 3), Glow), ("logit of images", (4, 4), Glow)]
GAUSSIANS = [("whiten", (5,), Gaussian)]
every_case = pytest.mark.parametrize(("kind", "shape", "flow"), COUPLINGS + GLOWS + GAUSSIANS)
every_plane = pytest.mark.parametrize("kind", KINDS)


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


@pytest.mark.parametrize("kind", ["gaussianise", "whiten"])
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
    ("kind", "shape", "flow"),
    [case for case in COUPLINGS + GLOWS if "logit" not in getattr(case, "values", case)[0]],
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
