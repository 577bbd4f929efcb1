"""Chains go on until there are enough draws, and no longer where that would not help."""

from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.evaluation import chains
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.evaluation.enough import enough_chains, wants_more
from tiltflow.learning.early_stopping import silent
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MLPTilt

FEW = SamplingSettings(chains=8, draws=60, warmup=100, leapfrogs=2, at_most=8)


@pytest.fixture(scope="module")
def model():
    x = np.random.default_rng(0).normal(size=(200, 2))
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    return TiltedModel(flow, MLPTilt(2, width=4, key=jr.key(1)))


def test_chains_that_are_too_few_go_on_where_they_ended(model, monkeypatch):
    starts, parts = [], []

    def watched(key, log_density, start, **settings):
        starts.append(np.asarray(start))
        parts.append(sample(key, log_density, start, **settings))
        return parts[-1]

    sample = chains.sample
    monkeypatch.setattr(chains, "sample", watched)
    draws, mixed = enough_chains(model, FEW, jr.key(3), silent)
    assert len(parts) > 1
    assert min(mixed.ess_bulk.min(), mixed.ess_tail.min()) >= 400
    assert mixed.rhat.max() <= 1.01
    for start, before in zip(starts[1:], parts, strict=False):
        assert np.array_equal(start, before.positions[:, -1])
    positions = np.concatenate([part.positions for part in parts], axis=1)
    assert np.array_equal(draws.positions, positions)
    assert draws.transitions == mixed.draws == positions.shape[1]
    assert {x.shape for x in draws.summaries.values()} == {positions.shape[:2]}
    assert len({part.step_size for part in parts}) == 1  # tuned once
    assert len(np.unique(positions.reshape(-1, 2), axis=0)) > 0.5 * positions[..., 0].size


def test_as_many_as_were_asked_for_are_too_few(model):
    """Power: what the test above finds is what the rounds have brought."""
    draws, mixed = enough_chains(model, replace(FEW, at_most=1), jr.key(3), silent)
    assert draws.positions.shape[1] == FEW.draws
    assert wants_more(mixed)


class Found:
    """As far as rounds look at it."""

    def __init__(self, rhat, size):
        self.rhat = np.array([1.0, rhat])
        self.ess_bulk, self.ess_tail = np.array([size, 900.0]), np.array([900.0])


@pytest.mark.parametrize(
    ("rhat", "size", "more"),
    [(1.005, 900, False), (1.03, 900, True), (1.005, 90, True), (1.3, 900, False)],
)
def test_chains_that_do_not_agree_at_all_are_not_drawn_for_longer(rhat, size, more):
    assert wants_more(Found(rhat, size)) is more
