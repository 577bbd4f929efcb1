"""A function of one's own reads x in data units; what reads coordinates says so in its type.

The backbone is normal with a mean and a scale of its own, so that coordinates are not data, and f
is a quadratic in x: log Z is known. That of the same f of coordinates holds as well, and is wrong.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, Generator, Prior
from tiltflow.backbones.units.fitting import fit_standardise
from tiltflow.errors import InputError
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import importance
from tiltflow.tilts import CoordinateTilt, DataTilt, Frozen, MLPTilt, NetworkTilt, as_tilt
from tiltflow.tilts.base import freeze, is_kept
from tiltflow.tilts.data import as_learned

MEAN, SCALE = np.array([1.0, -1.0]), np.array([2.0, 0.5])
CENTRE, PRECISION = np.array([0.5, 0.0]), np.array([0.4, 0.8])


def quadratic(x):
    return -0.5 * jnp.sum(PRECISION * (x - CENTRE) ** 2)


def log_z(mean, variance):
    """Of the quadratic over independent normals."""
    wider = 1 + PRECISION * variance
    return float(-0.5 * np.sum(np.log(wider) + PRECISION * (mean - CENTRE) ** 2 / wider))


@pytest.fixture(scope="module")
def flow():
    """x ~ N(MEAN, SCALE^2), exactly: a coupling flow at the identity, behind units."""
    x = MEAN + SCALE * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    units = fit_standardise(x, integers=False)
    return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))


def generator():
    """x = MEAN + SCALE z + 0.1 eps: coordinates are (z, x)."""
    return Generator.from_function(lambda z: MEAN + SCALE * z, (2,), noise=0.1)


def check_log_z(model, truth):
    """Within 4 standard errors of the mean weight under exact draws of the backbone."""
    found = importance(np.asarray(exact_f(model, 20_000, jr.key(1))))
    if not (found.holds and found.standard_error < 0.01):
        pytest.fail("log Z itself is not known")  # no AssertionError: twins have to get further
    assert abs(found.mean - truth) < 4 * found.standard_error


def test_log_z_of_a_plain_function_is_that_of_a_function_of_data(flow):
    truth = log_z(MEAN, SCALE**2)
    check_log_z(TiltedModel(flow, quadratic), truth)
    with pytest.raises(AssertionError):  # power: the same function, fed coordinates
        check_log_z(TiltedModel(flow, CoordinateTilt(quadratic)), truth)


def test_over_a_generator_it_reads_the_data_and_not_z():
    check_log_z(TiltedModel(generator(), quadratic), log_z(MEAN, SCALE**2 + 0.01))
    of_z = CoordinateTilt(lambda c: quadratic(c[:2]))
    with pytest.raises(AssertionError):  # power: z in place of x
        check_log_z(TiltedModel(generator(), of_z), log_z(MEAN, SCALE**2 + 0.01))


def test_f_of_a_row_is_the_function_of_it(flow):
    x = jnp.asarray(MEAN + SCALE, jnp.float32)
    assert float(TiltedModel(flow, quadratic).f(x)) == pytest.approx(float(quadratic(x)), rel=1e-4)
    coordinates = TiltedModel(flow, CoordinateTilt(quadratic)).f(x)
    assert float(coordinates) == pytest.approx(float(quadratic(jnp.ones(2))), rel=1e-4)


def mlp(**changes):
    return eqx.nn.MLP(2, "scalar", 4, 1, activation=jax.nn.silu, key=jr.key(2), **changes)


def test_the_type_says_what_is_read(flow):
    """A module is no exception: a network of coordinates goes into NetworkTilt."""
    assert isinstance(TiltedModel(flow, mlp()).tilt, DataTilt)
    for tilt in (MLPTilt(2, width=4, key=jr.key(3)), NetworkTilt(mlp()), CoordinateTilt(mlp())):
        assert as_tilt(tilt, flow) is tilt


def test_what_is_learned_is_what_has_arrays_of_floats(flow):
    learned = as_learned(mlp(), flow)
    assert isinstance(learned, NetworkTilt)
    assert isinstance(learned.network, DataTilt)
    assert float(learned(jnp.ones(2))) == 0.0  # behind a closed gate
    trained = jax.tree.leaves(freeze(learned)[0])
    assert len(trained) == len(jax.tree.leaves(eqx.filter(mlp(), eqx.is_array))) + 1  # no units
    for kept in (as_learned(quadratic, flow), as_learned(Frozen(NetworkTilt(mlp())), flow)):
        assert isinstance(kept, Frozen)
        assert is_kept(kept)
    assert not is_kept(learned)


def test_dropout_acts_where_there_is_a_key(flow):
    network = eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Linear(2, "scalar", key=jr.key(4))])
    tilt = NetworkTilt(DataTilt(network, flow), gate=1.0)
    c = jnp.ones(2)
    assert float(tilt(c)) == pytest.approx(
        float(eqx.nn.inference_mode(network)(flow.decode(c))), rel=1e-5
    )
    assert len({float(tilt(c, key)) for key in jr.split(jr.key(5), 8)}) > 1
    assert math.isfinite(float(DataTilt(network, flow)(c)))


@pytest.mark.parametrize(
    ("tilt", "expected"),
    [
        (3.0, "the tilt is a float; expected a tiltflow.tilts.Tilt, or a function"),
        (lambda x: x, r"the tilt of one example of shape \(2,\) has shape \(2,\)"),
        (lambda x: jnp.sum(x[:, 0]), r"the tilt fails for one example of shape \(2,\)"),
        (lambda x: float(np.sum(x)), r"the tilt fails for one example of shape \(2,\)"),
    ],
    ids=["no function", "vector", "batch", "NumPy"],
)
def test_what_is_no_tilt_is_an_input_error(flow, tilt, expected):
    with pytest.raises(InputError, match=expected):
        TiltedModel(flow, tilt)


def test_a_function_of_data_over_z_alone_is_an_input_error():
    with pytest.raises(InputError, match="a function of data x over a Prior"):
        TiltedModel(Prior(generator()), quadratic)
