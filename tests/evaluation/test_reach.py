"""Coverage on models that are known: each witness passes a sound case and tells a broken one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.data import Dataset
from tiltflow.evaluation.chains import SamplingSettings, fresh_chains
from tiltflow.evaluation.coverage import against_data_space, against_held_out, reach
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import ReadsCoordinates

LOG_Z = LogZ(0.0, 0.01, -0.1, 0.1, "bridge", 900.0, 800.0, holds=True, words="Fine.")


def silent(*_, **__):
    """Nobody listens."""


class Bump(ReadsCoordinates):
    """A tilt that draws coordinates towards `centre`."""

    centre: jax.Array
    weight: jax.Array

    def __call__(self, y):
        return -0.5 * self.weight * jnp.sum((y - self.centre) ** 2)


class Counted(CouplingFlow):
    """Sound where the log-determinant counts once; left out, the density of u stands for y's."""

    times: jax.Array

    def __init__(self, units, times, **how):
        super().__init__(units, **how)
        self.times = jnp.asarray(times)

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, self.times * log_det


def make(centre, weight=1.0, times=1.0):
    x = np.random.default_rng(0).normal(size=(400, 2))
    units = fit_units("standardise", x, integers=False)
    backbone = Counted(units, times, num_blocks=1, width=4, key=jr.key(0))

    def outs(f):
        return (f.blocks[0].to_second.out.weight, f.blocks[0].to_first.out.weight)

    shape = outs(backbone)[0].shape
    drawn = (2 * jr.normal(jr.key(1), shape), 2 * jr.normal(jr.key(2), shape))
    backbone = eqx.tree_at(outs, backbone, drawn)
    return TiltedModel(backbone, Bump(jnp.asarray(centre), jnp.asarray(weight)))


@pytest.fixture(scope="module")
def near():
    """A model whose mass is where its backbone's is, and chains of it."""
    model = make(0.5)
    return model, fresh_chains(model, SamplingSettings(16, 600, 200, 4), jr.key(2), silent)


def test_a_backbone_that_misses_the_mass_is_told():
    assert reach(make(0.5), 20_000, jr.key(3)).check.ok
    far = reach(make(6.0, weight=8.0), 20_000, jr.key(3)).check
    assert not far.ok
    assert far.severity == "caution"
    assert "hardly reach" in far.means


def test_the_data_space_reference_agrees_and_a_wrong_density_does_not(near):
    model, draws = near
    settings = {"draws": 600, "warmup": 200, "leapfrogs": 4, "key": jr.key(4), "listen": silent}
    found = against_data_space(model, np.asarray(draws.positions), **settings)
    assert found.block["compared"] == 1.0
    assert found.check.ok
    broken = make(0.5, times=0.0)
    found = against_data_space(broken, np.asarray(draws.positions), **settings)
    assert not found.check.ok
    assert found.check.severity == "failed"


def test_a_reference_that_has_not_converged_says_nothing(near):
    model, draws = near
    found = against_data_space(
        model, np.asarray(draws.positions),
        draws=8, warmup=0, leapfrogs=4, key=jr.key(5), listen=silent,
    )  # fmt: skip
    assert found.check is None
    assert "has not converged itself" in found.note


def test_rows_of_the_model_pass_and_others_do_not(near):
    model, draws = near
    spec = specify(model.backbone.units, blocks=1, flow_width=4, tilt_width=4)
    fitted = FittedModel(model, spec, LOG_Z, False, 0.5, 4)
    positions, f = np.asarray(draws.positions), draws.summaries["f"]
    x = fitted.push(positions[:, ::50]).reshape(-1, 2)
    rows = Dataset("own", x, False)
    found = against_held_out(fitted, positions, f, rows, jr.key(6))
    assert found.check.ok
    assert found.block["rows"] == len(x)
    shifted = Dataset("others", x + np.float32(1.0), False)
    found = against_held_out(fitted, positions, f, shifted, jr.key(6))
    assert not found.check.ok
    assert found.check.severity == "caution"
