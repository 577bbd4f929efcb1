"""Each stage proposes draws of its own: f is not told twice to fall at the same ones."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning import Rows, TiltSettings, fit_tilt, stages
from tiltflow.learning.bank import with_fresh_draws
from tiltflow.learning.state import StageInfo
from tiltflow.tilts import MLPTilt

STAGES = 3
SETTINGS = TiltSettings(
    steps=STAGES, particles=40, batch_particles=20, bank=40, judge_every=10, watch=False
)


class Dear(CouplingFlow):
    """Draws that are told to be other than N(0, I), so that there is a bank of them."""

    def excess(self, u, c):
        return jnp.zeros(())


def banks():
    """The draws that each stage of a learner is handed."""
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    backbone = Dear(units, num_blocks=1, width=4, key=jr.key(0))
    seen = []

    def stage(state, backbone, rows, settings, course, key):
        seen.append(np.asarray(backbone.u))
        nothing = jnp.zeros(())
        info = StageInfo(jnp.ones(()), *[nothing] * 6)
        return state.__class__(**{**vars(state), "steps": state.steps + 1}), info

    rows = Rows(x, units, False)
    tilt = MLPTilt(2, width=4, key=jr.key(1))
    fit_tilt(backbone, tilt, rows, rows, SETTINGS, key=jr.key(2), stage=stage)
    return seen


def shared(seen):
    """How many draws of a stage are in another one's bank, too."""
    rows = np.concatenate(seen)
    return len(rows) - len(np.unique(rows, axis=0))


def test_every_stage_has_a_bank_of_its_own(monkeypatch):
    seen = banks()
    assert [len(bank) for bank in seen] == [2 * SETTINGS.particles] * STAGES
    assert shared(seen) == 0
    monkeypatch.setattr(  # power: the first stage's bank for all
        stages,
        "with_fresh_draws",
        lambda backbone, key, n: with_fresh_draws(backbone, jr.key(1), n),
    )
    assert shared(banks()) == (STAGES - 1) * 2 * SETTINGS.particles


def test_a_backbone_whose_draws_are_normal_needs_none():
    x = np.random.default_rng(0).normal(size=(60, 2))
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    assert with_fresh_draws(flow, jr.key(0), 40) is flow
