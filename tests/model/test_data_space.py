"""The data-space twin: the tilted model in coordinates, and the same start."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.mcmc import HMC, Tuning
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import CoordinateTilt


class LogDetLeftOut(CouplingFlow):
    """Broken: the density of u stands for that of y."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, 0 * log_det


def make(flow):
    x = np.random.default_rng(0).normal(size=(200, 2)) * np.array([0.5, 3.0]) + 1.0
    backbone = flow(
        fit_units("standardise", x, integers=False), num_blocks=1, width=4, key=jr.key(0)
    )

    def outs(f):
        return [c.out.weight for b in f.blocks for c in (b.to_second, b.to_first)]

    keys = jr.split(jr.key(1), len(outs(backbone)))
    drawn = [0.5 * jr.normal(k, w.shape) for k, w in zip(keys, outs(backbone), strict=True)]
    tilt = CoordinateTilt(lambda y: jnp.sin(y[0]) - y[1] ** 2)
    return TiltedModel(eqx.tree_at(outs, backbone, drawn), tilt)


def check_change_of_variables(model):
    """log p(y) + log|det dy/du| is the latent log-density, up to a constant."""
    u = jr.normal(jr.key(3), (32, 2))
    in_data = data_space_log_density(model)(data_space_start(model, u))
    jacobian = jax.vmap(jax.jacfwd(model.backbone.coordinates))(u)
    log_det = jnp.linalg.slogdet(jacobian)[1]
    apart = in_data + log_det - model.latent_log_densities(u)
    np.testing.assert_allclose(apart, -np.log(2 * np.pi), atol=1e-3)


def test_the_twin_is_the_change_of_variables():
    check_change_of_variables(make(CouplingFlow))
    with pytest.raises(AssertionError):
        check_change_of_variables(make(LogDetLeftOut))


def check_units_are_counted(model, volume):
    """The density of data is that of coordinates times `volume`, |det dy/dx|."""
    u = jr.normal(jr.key(3), (32, 2))
    in_data = data_space_log_density(model, of_data=True)(data_space_start(model, u, of_data=True))
    in_coordinates = data_space_log_density(model)(data_space_start(model, u))
    np.testing.assert_allclose(in_data - in_coordinates, np.log(volume), atol=1e-3)


def test_the_twin_of_data_counts_the_units():
    model = make(CouplingFlow)
    volume = float(jnp.prod(jnp.diag(model.backbone.units.matrix)))
    check_units_are_counted(model, volume)
    with pytest.raises(AssertionError):
        check_units_are_counted(model, 1.0)


def test_kernels_run_on_the_twin():
    model = make(CouplingFlow)
    log_density = data_space_log_density(model)
    kernel = HMC(num_leapfrogs=3)

    @eqx.filter_jit
    def step(log_density, y):
        tuning = Tuning(jnp.asarray(0.05), jnp.asarray(1.0))
        return kernel.step(jr.key(5), log_density, kernel.init(log_density, y), tuning)

    state, info = step(log_density, data_space_start(model, jr.normal(jr.key(4), (16, 2))))
    assert bool(jnp.all(jnp.isfinite(state.position)))
    assert float(info.acceptance_rate.mean()) > 0.8


def test_a_backbone_that_is_no_flow_is_refused():
    with pytest.raises(InputError, match="expected a flow"):
        data_space_log_density(TiltedModel(None, CoordinateTilt(lambda y: 0.0)))
