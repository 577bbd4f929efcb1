"""Final chains and the ladder go on where they were stopped, and end in the same numbers."""

from contextlib import ExitStack, closing
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import Interrupted
from tiltflow.evaluation.chains import SamplingSettings, fresh_chains, more_chains
from tiltflow.evaluation.kept_chains import KeptRounds
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.annealed import LadderSettings, annealed
from tiltflow.runs.checkpoint import Checkpoints
from tiltflow.runs.events import EventLog
from tiltflow.tilts import CoordinateTilt

SETTINGS = SamplingSettings(chains=4, draws=150, warmup=150, leapfrogs=2, kernel="hmc")
LADDER = LadderSettings(particles=64, least_rounds=3, most_rounds=3)


def curved(y):
    return -jnp.sum((y - 1.0) ** 2)


@pytest.fixture(scope="module")
def model():
    flow = CouplingFlow(identity((2,)), num_blocks=1, width=4, key=jr.key(0))
    return TiltedModel(flow, CoordinateTilt(curved))


class Stops:
    """Says that the fit is to stop when it is asked for the nth time; 0: never."""

    def __init__(self, asked=0):
        self.asked, self.left = asked, asked

    def __call__(self):
        self.left -= 1
        return "the time limit is reached" if self.asked and self.left <= 0 else None


@pytest.fixture
def keeper_in():
    """Makes keepers of a folder, whose event logs are closed at the end."""
    with ExitStack() as logs:

        def make(folder, stop=lambda: None):
            folder.mkdir(exist_ok=True)
            log = logs.enter_context(closing(EventLog(folder / "events")))
            return Checkpoints(folder / "checkpoints", log, stop=stop)

        yield make


def both_runs(model, keeper, settings=SETTINGS, heard=None):
    """The first draws and as many again, as `enough_chains` makes them."""

    def listen(phase, event, **fields):
        if heard is not None:
            heard.append(fields["step"])

    how = {"keeper": keeper, "listen": listen}
    draws = fresh_chains(model, settings, jr.key(1), **how)
    return more_chains(model, settings, jr.key(2), draws=draws, stage="chains 2", **how)


def test_chains_go_on_where_they_were_stopped(model, keeper_in, tmp_path):
    """In the warm-up, among the draws, and among the further ones; no transition is made again."""
    events = []
    whole = both_runs(model, None, heard=events)
    for asked in (1, 3, 5):
        heard, folder = [], tmp_path / str(asked)
        with pytest.raises(Interrupted, match="time limit"):
            both_runs(model, keeper_in(folder, Stops(asked)), heard=heard)
        found = both_runs(model, keeper_in(folder), heard=heard)
        assert heard == events
        for name in ("positions", "energies", "divergent"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        np.testing.assert_array_equal(found.summaries["f"], whole.summaries["f"])
        for name in ("acceptance", "divergences", "transitions", "gradients", "step_size"):
            assert getattr(found, name) == getattr(whole, name)


def test_chains_of_another_model_are_begun_anew(model, keeper_in, tmp_path):
    with pytest.raises(Interrupted):
        both_runs(model, keeper_in(tmp_path, Stops(3)))
    other = eqx.tree_at(lambda m: m.backbone.blocks[0].to_second.out.bias, model, jnp.ones(2))
    heard = []
    found = both_runs(other, keeper_in(tmp_path), heard=heard)
    np.testing.assert_array_equal(found.positions, both_runs(other, None).positions)
    assert heard[0] == 100  # the first of all chunks


def ladder(model, draws, rounds=None, settings=LADDER):
    heard = []
    found = annealed(
        model.latent_log_densities,
        draws,
        key=jr.key(3),
        settings=settings,
        rounds=rounds,
        on_round=lambda done, *_: heard.append(done),
    )
    return found, heard


def test_the_ladder_goes_on_after_the_rounds_that_were_made(model, keeper_in, tmp_path):
    """Killed after the last round there is nothing left to do; the twin begins anew."""
    draws = np.asarray(fresh_chains(model, SETTINGS, jr.key(1), lambda *_, **__: 0).positions)
    whole, heard = ladder(model, draws)
    assert heard == [1, 2, 3]
    for asked, left in ((1, [2, 3]), (3, [])):
        folder = tmp_path / str(asked)
        with pytest.raises(Interrupted):
            ladder(model, draws, KeptRounds(keeper_in(folder, Stops(asked))))
        assert ladder(model, draws, KeptRounds(keeper_in(folder))) == (whole, left)
    assert ladder(model, draws, KeptRounds())[1] == [1, 2, 3]
    wide = replace(LADDER, tolerance=100.0, least_rounds=1)  # over after the first of three
    with pytest.raises(Interrupted):
        ladder(model, draws, KeptRounds(keeper_in(tmp_path, Stops(1))), wide)
    assert ladder(model, draws, KeptRounds(keeper_in(tmp_path)), wide)[1] == []
