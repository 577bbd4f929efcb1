"""Each way in which a model is none is seen by its own check."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.evaluation.soundness import drawn, soundness
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MLPTilt


class NotTheInverse(CouplingFlow):
    """Broken: what comes back is half of what went."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return 0.5 * u, log_det


class WrongVolume(CouplingFlow):
    """Broken: the log-determinant has a term too many."""

    def _inverse(self, y, key):
        u, log_det = super()._inverse(y, key)
        return u, log_det + 0.1


class Runaway(MLPTilt):
    """Broken: no backbone falls as fast as this rises."""

    def __call__(self, y, key=None):
        return 0.01 * jnp.sum(y**2) ** 2


class Undefined(MLPTilt):
    """Broken: no number in places."""

    def __call__(self, y, key=None):
        return jnp.log(2.0 - y[0])


def broken(flow=CouplingFlow, tilt=MLPTilt) -> list[str]:
    """The checks that a model of such parts does not pass."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    units = fit_units("standardise", x, integers=False)
    model = TiltedModel(
        flow(units, num_blocks=1, width=4, key=jr.key(0)), tilt(3, width=4, key=jr.key(1))
    )
    return [check.name for check in soundness(model, drawn(model, jr.key(2))) if not check.ok]


class Flat(CouplingFlow):
    """Broken: a dimension is led nowhere, and brought back all the same."""

    def coordinates(self, u):
        return super().coordinates(u) * jnp.asarray([1.0, 1.0, 1e-6])

    def inverse(self, y):
        return super().inverse(y / jnp.asarray([1.0, 1.0, 1e-6]))


class Nowhere(CouplingFlow):
    """Broken: some draws are not finite."""

    def coordinates(self, u):
        return super().coordinates(u) + jnp.where(u[0] > 2, jnp.nan, 0.0)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"flow": NotTheInverse}, "round trip"),
        ({"flow": Flat}, "narrowest coordinate"),
        ({"flow": Nowhere}, "draws of the backbone"),
        ({"flow": WrongVolume}, "density of a draw"),
        ({"tilt": Runaway}, "rise of the log-density"),
        ({"tilt": Undefined}, "f at the backbone's draws"),
    ],
)
def test_each_fault_of_a_model_is_seen_by_its_check(part, name):
    assert broken() == []
    assert any(found.startswith(name) for found in broken(**part))
