"""Recovery finds the f of maximum likelihood, whatever the noise; and only if its chains move."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

from tiltflow.backbones import Ensemble, Gaussian
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.learning.recovery import Recovery, fit_recovery, recover
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import Tilt

VARIANCES = np.array([0.4, 2.0])
FLOW = Gaussian(identity((2,)))  # N(0, I)
SETTINGS = TiltSettings(
    steps=300, iterations=300, batch_data=512, rate=0.05, final_rate=0.02, decay=0.0, memory=0.98
)


class Squares(Tilt):
    """f(x) = sum of a x^2 / 2: a model of variances 1 / (1 - a)."""

    a: Float[Array, " dim"]
    level: Float[Array, ""]

    def __call__(self, c, key=None):
        return 0.5 * jnp.sum(self.a * c**2) - self.level


ZERO = Squares(jnp.zeros(2), jnp.zeros(()))


def normal_rows():
    x = np.random.default_rng(0).standard_normal((4_000, 2))
    x = (x - x.mean(axis=0)) / x.std(axis=0) * np.sqrt(VARIANCES)
    return Rows(x.astype("f4"), identity((2,)), False)


@pytest.mark.parametrize(
    ("low", "high", "transitions", "right"),
    [(0.3, 0.6, 3, True), (1.0, 2.0, 3, True), (1.0, 2.0, 0, False)],  # the last: no chain moves
)
def test_variances_are_those_of_the_rows(low, high, transitions, right):
    how = Recovery(low, high, transitions=transitions, settings=SETTINGS)
    found = fit_recovery(FLOW, ZERO, normal_rows(), how, key=jr.key(1))
    variances = 1 / (1 - np.asarray(found.a))
    near = np.abs(variances / VARIANCES - 1) < 0.12
    assert np.all(near) == right, variances


def test_what_is_recovered_has_the_posterior_moments():
    """Where f = 0, rows that are N(0, I) are recovered as N(0, I), and as far as noise has it."""
    u = jr.normal(jr.key(0), (20_000, 2))
    sigma = jnp.full(len(u), 0.5)
    found = recover(TiltedModel(FLOW, ZERO), u, sigma, jr.key(1), transitions=1, leapfrogs=2)
    y = np.asarray(found.y)
    assert np.allclose(y.var(axis=0), 1.0, atol=0.04)
    correlation = np.mean(y * np.asarray(u))
    assert abs(correlation - 1 / 1.25) < 0.02
    # Without the prior's part, the noise itself would be left: variances of 1 + 2 sigma^2.
    assert not np.allclose(y.var(axis=0), 1.5, atol=0.3)


@pytest.mark.slow
def test_as_a_learner_it_is_judged_by_a_population():
    how = Recovery(0.5, 1.0, settings=replace(SETTINGS, particles=512, iterations=20, bank=4_000))
    rows = normal_rows()
    tilt, judgement, _ = fit_tilt(
        FLOW, ZERO, rows, rows, how.settings, key=jr.key(2), stage=how.stage
    )
    assert isinstance(tilt, Squares)
    gain = 0.5 * np.sum(VARIANCES - 1 - np.log(VARIANCES))
    assert bool(judgement.holds)
    assert abs(float(judgement.gain_val) - gain) < 0.08


def test_settings_that_cannot_work():
    with pytest.raises(InputError, match="sigma is from 0"):
        Recovery(0.0, 1.0)
    with pytest.raises(InputError, match="0 leapfrogs"):
        Recovery(leapfrogs=0)
    model = TiltedModel(Ensemble(FLOW, (), jnp.zeros(1)), ZERO)
    with pytest.raises(InputError, match="Ensemble"):
        recover(model, jnp.zeros((2, 2)), jnp.ones(2), jr.key(0), transitions=1, leapfrogs=1)
