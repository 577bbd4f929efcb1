"""A given density as a tilted model: p is that density, and log Z its evidence.

The density is a curved Gaussian in the plane, exp(l) with

    l(x) = -x0^2 / 2 - (x1 - bend x0^2)^2 / (2 width^2) + shift,

whose integral is 2 pi width exp(shift). The backbone is far from it and from the identity, with
units that scale, so that a term left out anywhere shows.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.mcmc import sample
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import importance
from tiltflow.tilts import GivenTilt

BEND, WIDTH, SHIFT = 0.5, 0.7, 2.5
EVIDENCE = SHIFT + math.log(2 * math.pi * WIDTH)


def log_density(x):
    across = (x[1] - BEND * x[0] ** 2) / WIDTH
    return -0.5 * x[0] ** 2 - 0.5 * across**2 + SHIFT


class UnitsForgotten(GivenTilt):
    """Broken: q is taken in coordinates, not in data units."""

    def __call__(self, y):
        x = self.backbone.units.decode(y)
        return self.log_density(x) - self.backbone.log_prob_coordinates(y)


class BackboneForgotten(GivenTilt):
    """Broken: the tilt is l itself, so that p is exp(l) q."""

    def __call__(self, y):
        return self.log_density(self.backbone.units.decode(y))


@pytest.fixture(scope="module")
def backbone():
    x = np.random.default_rng(0).normal(size=(500, 2)) * np.array([1.3, 1.6]) + np.array([0, 0.5])
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=8, key=jr.key(0))

    def outs(f):
        return (f.blocks[0].to_second.out.weight, f.blocks[0].to_first.out.weight)

    first, second = outs(flow)
    drawn = (0.2 * jr.normal(jr.key(1), first.shape), 0.2 * jr.normal(jr.key(2), second.shape))
    return eqx.tree_at(outs, flow, drawn)


def check_density(model):
    """Log p is l minus the evidence, at any x."""
    x = 2 * jr.normal(jr.key(3), (64, 2))
    found = jax.jit(jax.vmap(lambda x: model.log_prob(x, EVIDENCE)))(x)
    np.testing.assert_allclose(found, jax.vmap(log_density)(x) - EVIDENCE, atol=2e-3)


def check_evidence(model):
    """Within 4 standard errors of its mean weight under exact draws of the backbone."""
    found = importance(np.asarray(exact_f(model, 100_000, jr.key(4))))
    assert found.holds
    assert found.standard_error < 0.05
    assert abs(found.mean - EVIDENCE) < 4 * found.standard_error


def check_moments(model):
    """E x0^2 = 1, E x1 = bend, E x0 x1 = 0 within 4 standard errors over chains."""
    draws = sample(
        jr.key(5),
        model.latent_log_densities,
        jr.normal(jr.key(6), (128, 2)),
        num_draws=300,
        num_warmup=200,
        step_size=0.3,
    )
    u = jnp.asarray(draws.positions)
    x = np.asarray(jax.jit(jax.vmap(jax.vmap(model.backbone.push)))(u), np.float64)
    first, second = x[..., 0], x[..., 1]
    for values, truth in ((first**2, 1.0), (second, BEND), (first * second, 0.0)):
        by_chain = values.mean(axis=1)
        error = by_chain.std() / math.sqrt(len(by_chain))
        assert abs(by_chain.mean() - truth) < 4 * error


@pytest.mark.parametrize("check", [check_density, check_evidence, check_moments])
def test_the_model_is_the_given_density(backbone, check):
    check(TiltedModel(backbone, GivenTilt(log_density, backbone)))


@pytest.mark.parametrize("check", [check_density, check_evidence])
@pytest.mark.parametrize("broken", [UnitsForgotten, BackboneForgotten])
def test_power_of_density_and_evidence(backbone, check, broken):
    with pytest.raises(AssertionError):
        check(TiltedModel(backbone, broken(log_density, backbone)))


def test_power_of_moments(backbone):
    """The units' factor is constant here: it shifts log Z, and no moment."""
    with pytest.raises(AssertionError):
        check_moments(TiltedModel(backbone, BackboneForgotten(log_density, backbone)))


def test_it_is_neural_transport(backbone):
    """f(g(u)) - |u|^2/2 is l(g(u)) + log|det J_g(u)|, up to a constant."""
    model = TiltedModel(backbone, GivenTilt(log_density, backbone))

    def transported(u):
        jacobian = jax.jacfwd(backbone.push)(u)
        return log_density(backbone.push(u)) + jnp.linalg.slogdet(jacobian)[1]

    u = jr.normal(jr.key(7), (64, 2))
    apart = model.latent_log_densities(u) - jax.jit(jax.vmap(transported))(u)
    np.testing.assert_allclose(apart, math.log(2 * math.pi), atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda x: x, r"has shape \(2,\); expected a scalar: write it for one example"),
        (lambda x: x[:, 0].sum(), r"fails for one example of shape \(2,\)"),
        (lambda x: (x[0], x[1]), r"has shape None; expected a scalar"),
    ],
    ids=["vector", "batch", "tuple"],
)
def test_what_is_no_log_density_is_an_input_error(backbone, wrong, expected):
    with pytest.raises(InputError, match=expected):
        GivenTilt(wrong, backbone)
