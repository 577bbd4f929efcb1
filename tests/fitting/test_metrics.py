"""What the verdict looks at beside the chains: log Z, the truth of learning, the gain."""

import dataclasses

import jax.numpy as jnp
import pytest

from tiltflow.evaluation.calibration import Calibration
from tiltflow.fitting.metrics import checks_of
from tiltflow.learning.witnesses import Judgement
from tiltflow.normalizer import Interval, LogZ

LOG_Z = LogZ(2.0, 0.05, 1.9, 2.1, "bridge", 900.0, 800.0, holds=True, words="Fine.")
GAIN = Interval(1.5, 1.2, 1.8, 0.15, 0.05, 0.14)


def told(log_z_of_learning=2.1, gain=GAIN, log_z=LOG_Z, calibration=None):
    judgement = dataclasses.replace(Judgement.nothing(), log_z=jnp.asarray(log_z_of_learning))
    return {check.name: check for check in checks_of(log_z, judgement, gain, calibration)}


def test_a_sound_model_passes_all_three():
    assert all(check.ok for check in told().values())
    assert list(told()) == [
        "log Z, standard error", "witnesses against fresh chains", "gain, upper end",
    ]  # fmt: skip


def test_each_fault_is_seen_by_its_check_alone():
    unknown = dataclasses.replace(LOG_Z, holds=False, words="No overlap.")
    for name, found in {
        "log Z, standard error": told(log_z=unknown),
        "witnesses against fresh chains": told(log_z_of_learning=3.5),
        "gain, upper end": told(gain=dataclasses.replace(GAIN, low=-0.3, high=-0.1)),
    }.items():
        assert [check.name for check in found.values() if not check.ok] == [name]
    assert "No overlap." in told(log_z=unknown)["log Z, standard error"].means


@pytest.mark.parametrize(("beta", "ok"), [(0.85, True), (0.7, False), (1.3, False)])
def test_a_tilt_that_was_scaled_is_judged_by_its_scale(beta, ok):
    """Learning told log Z of the tilt before; that of the scaled one is so much more."""
    found = told(log_z_of_learning=5.0, calibration=Calibration(beta, rise=0.4, log_ratio=-2.9))
    assert found["witnesses against fresh chains"].ok
    check = found["scale of the tilt, off 1 by"]
    assert check.ok is ok
    assert f"multiplied by {beta}" in check.means
    off = told(log_z_of_learning=5.0, calibration=Calibration(beta, rise=0.4))
    assert not off["witnesses against fresh chains"].ok
    assert off["witnesses against fresh chains"].severity == "caution"  # it was mended
    unscaled = told(log_z_of_learning=5.0, calibration=Calibration(1.02, rise=0.01))
    assert unscaled["witnesses against fresh chains"].severity == "failed"
