"""A tilt that is too steep gets the scale that validation data ask for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.evaluation.calibration import LEAST_RISE, calibrate, scaled
from tiltflow.tilts import ConvSizes, ConvTilt, Frozen, MLPTilt, Sum

SLOPE = 1.5  # of f(u) = SLOPE u over N(0, 1): the tilted model is N(SLOPE, 1)
DRAWS = 40_000


def f_of(seed: int, mean: float) -> np.ndarray:
    return SLOPE * (mean + np.random.default_rng(seed).normal(size=DRAWS))


@pytest.mark.parametrize("beta", [0.7, 1.0, 1.25])
def test_the_scale_is_that_of_the_data(beta):
    """Data of N(beta SLOPE, 1): the best tilt is beta f, and its gain is known."""
    found = calibrate(f_of(0, beta * SLOPE), f_of(1, SLOPE))
    assert found.beta == pytest.approx(beta, abs=0.03)
    rise = 0.5 * SLOPE**2 * (beta - 1) ** 2
    assert found.rise == pytest.approx(rise, abs=0.02)
    assert found.matters is (beta != 1.0)
    assert found.log_ratio == pytest.approx(0.5 * SLOPE**2 * (found.beta**2 - 1), abs=0.05)
    backwards = calibrate(-f_of(0, beta * SLOPE), f_of(1, SLOPE))
    assert abs(backwards.beta - beta) > 0.1  # power: a sign that is wrong is seen


def test_it_goes_no_further_than_the_draws():
    """Whose weights at beta have the share exp(-(beta - 1)^2 s^2) for normal f of width s."""
    furthest = 1 + np.sqrt(-np.log(0.2)) / (4 * SLOPE)
    far = calibrate(4 * f_of(0, 9 * SLOPE), 4 * f_of(1, SLOPE))
    assert far.beta == pytest.approx(furthest, abs=0.03)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_scaled_tilt_is_so_many_times_the_tilt(kind):
    if kind == "mlp":
        tilt = MLPTilt(16, width=8, key=jr.key(0))
        tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, replace_fn=lambda w: w + 0.3)
    else:
        tilt = ConvTilt((4, 4), ConvSizes(channels=2, width=4), key=jr.key(0))
        tilt = eqx.tree_at(lambda t: t.last.weight, tilt, replace_fn=lambda w: w + 0.3)
    tilt = eqx.tree_at(lambda t: t.level, tilt, jnp.asarray(0.7))
    y = jr.normal(jr.key(1), (5, 16))
    np.testing.assert_allclose(
        jax.vmap(scaled(tilt, 0.8))(y), 0.8 * jax.vmap(tilt)(y), rtol=1e-5, atol=1e-6
    )


def test_what_cannot_be_calibrated_is_an_input_error():
    assert LEAST_RISE > 0
    with pytest.raises(InputError, match="f is not finite at all rows and draws"):
        calibrate(np.array([np.nan]), f_of(1, SLOPE))
    with pytest.raises(InputError, match="a Sum cannot be scaled; expected MLPTilt or ConvTilt"):
        scaled(Sum(Frozen(MLPTilt(2, width=2, key=jr.key(0)))), 0.5)
