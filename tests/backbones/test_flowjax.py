"""A flow of flowjax, or what looks like one, as a backbone."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats import norm

from tiltflow.backbones import FlowjaxFlow
from tiltflow.backbones.base import standard_normal_log_prob
from tiltflow.backbones.units.fitting import fit_standardise
from tiltflow.errors import InputError

SHIFT, SCALE = jnp.array([3.0, -1.0]), jnp.array([2.0, 0.7])


class Affine(eqx.Module):
    """What flowjax's bijections have of methods."""

    shift: jax.Array
    scale: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    cond_shape: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def transform(self, x):
        return x * self.scale + self.shift

    def inverse_and_log_det(self, y):
        return (y - self.shift) / self.scale, -jnp.sum(jnp.log(self.scale))


class LogDetForgotten(Affine):
    """Broken."""

    def inverse_and_log_det(self, y):
        return super().inverse_and_log_det(y)[0], jnp.zeros(())


def distribution(bijection=None, log_prob=standard_normal_log_prob):
    bijection = Affine(SHIFT, SCALE) if bijection is None else bijection
    return SimpleNamespace(base_dist=SimpleNamespace(log_prob=log_prob), bijection=bijection)


def check_density(flow, mean, scale):
    """It is N(mean, scale^2), and its draws are where it says."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 2)), jnp.float32)
    expected = norm.logpdf(x, mean, scale).sum(axis=1)
    np.testing.assert_allclose(jax.vmap(flow.log_prob)(x), expected, rtol=1e-3, atol=1e-3)
    u = jr.normal(jr.key(0), (16, 2))
    np.testing.assert_allclose(jax.vmap(flow.push)(u), mean + scale * u, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(flow.pull)(jax.vmap(flow.push)(u)), u, atol=1e-4)


def test_it_has_the_distributions_density_and_draws():
    check_density(FlowjaxFlow(distribution()), SHIFT, SCALE)
    with pytest.raises(AssertionError):
        check_density(FlowjaxFlow(distribution(LogDetForgotten(SHIFT, SCALE))), SHIFT, SCALE)


def test_units_go_in_front():
    x = np.array([[9.0, 1.0], [11.0, 1.0], [9.0, 3.0], [11.0, 3.0]]) * np.array([1.0, 10.0])
    flow = FlowjaxFlow(distribution(), fit_standardise(x, integers=False))
    width = jnp.array([1.0, 10.0])
    check_density(flow, jnp.array([10.0, 20.0]) + width * SHIFT, width * SCALE)


def wide(u):
    return jnp.sum(norm.logpdf(u, 0.0, 1.1))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (distribution(log_prob=wide), "the flow's base is a SimpleNamespace that is not the"),
        (
            distribution(Affine(SHIFT, SCALE, cond_shape=(3,))),
            r"the flow waits for a condition of shape \(3,\)",
        ),
        (object(), "a object is no flow of flowjax; expected a distribution with base_dist"),
    ],
    ids=["base", "condition", "something else"],
)
def test_what_is_no_flow_over_normal_noise_is_an_input_error(given, expected):
    with pytest.raises(InputError, match=expected):
        FlowjaxFlow(given)


def test_units_of_other_data_are_an_input_error():
    with pytest.raises(InputError, match=r"the flow has shape \(2,\); expected the 3 numbers"):
        FlowjaxFlow(distribution(), fit_standardise(np.eye(3), integers=False))


def test_flows_of_flowjax_itself():
    """Density and draws are flowjax's own; parameters are found, and gradients are finite."""
    pytest.importorskip("flowjax", reason="flowjax is not installed")
    from flowjax.bijections import Affine as TheirAffine
    from flowjax.distributions import Normal, StandardNormal, Transformed
    from flowjax.flows import coupling_flow

    given = coupling_flow(jr.key(0), base_dist=StandardNormal((2,)), flow_layers=1)
    flow = FlowjaxFlow(given)
    x = jr.normal(jr.key(1), (8, 2))
    found = jax.vmap(flow.log_prob)(x)
    np.testing.assert_allclose(found, given.log_prob(x), rtol=1e-4, atol=1e-4)
    gradient = eqx.filter_grad(lambda f: f.log_prob(x[0]))(flow)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    bijection = TheirAffine(SHIFT, SCALE)
    check_density(FlowjaxFlow(Transformed(Normal(jnp.zeros(2)), bijection)), SHIFT, SCALE)
    with pytest.raises(InputError, match="is not the standard normal"):
        FlowjaxFlow(Transformed(Normal(jnp.ones(2)), bijection))
