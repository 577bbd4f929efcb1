"""The whole pipeline where there is nothing to gain: it says so."""

import json

import numpy as np
import pytest

import tiltflow
from tiltflow.cli.show import show_metrics
from tiltflow.data import Dataset, Splits
from tiltflow.data.checks import refuse_constant_in_training
from tiltflow.errors import InputError
from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.learning.keeping import KeepsNothing


class Listens(KeepsNothing):
    """Remembers the phases that were told, and at which of them it was asked to stop."""

    def __init__(self):
        super().__init__()
        self.told, self.asked = [], []

    def tell(self, phase, event, **fields):
        self.told.append(phase)

    def listen(self):
        self.asked.append(self.told[-1])


def test_a_tilt_that_gains_nothing_is_said_to(tmp_path, capsys):
    """A rate of almost 0: f stays constant, which has no R-hat, and must not break anything."""
    keeper = Listens()
    settings = Settings(
        model=ModelSettings(blocks=1, flow_width=32, tilt_width=32, tilt_depth=1),
        backbone=BackboneSettings(steps=250, batch=64),
        tilt=TiltSettings(steps=20, particles=256, batch_particles=128, bank=2_000, rate=1e-20),
        sampling=SamplingSettings(chains=16, draws=400, exact_draws=20_000),
    )
    result = tiltflow.fit(tiltflow.load_data("digits"), settings, listen=keeper.tell, keeper=keeper)
    # Chains are offered to the keeper, which may stop them, too.
    assert list(dict.fromkeys(keeper.asked)) == ["copies", "interpolation", "simple"]
    verdict = result.metrics["verdict"]
    assert verdict["status"] == "ok"
    assert verdict["text"].endswith("The tilt gains nothing: the model is its backbone.")
    assert result.metrics["gain_nats"]["mean"] == pytest.approx(0, abs=1e-6)
    show_metrics(result.metrics, tmp_path, json=True)
    json.loads(capsys.readouterr().out)
    show_metrics(result.metrics, tmp_path, json=False)


def table(odd):
    """Three columns, of which one is 20 but in the row `odd`; learned from rows 0 to 199."""
    values = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    values[:, 1] = 20.0
    values[odd, 1] = 25.0
    rows = np.arange(300)
    return Dataset("t", values, integers=False, columns=("a", "level", "b")), Splits(
        rows[:200], rows[200:250], rows[250:]
    )


def test_a_column_that_is_constant_where_it_is_learned_from_is_refused():
    data, parts = table(odd=270)
    words = r"column 'level' is 20 in all 200 rows .* in row 270"
    with pytest.raises(InputError, match=words):
        refuse_constant_in_training(data, parts.train)
    with pytest.raises(InputError, match=words):
        tiltflow.fit(data, parts=parts)
    refuse_constant_in_training(table(odd=7)[0], parts.train)  # power: it varies there


def test_a_test_row_without_a_density_fails_the_verdict_and_costs_nothing_else(tmp_path, capsys):
    """A fill value, so far out that |u|^2 is not finite."""
    values = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    values[-1] = 1e30
    settings = Settings(
        model=ModelSettings(units="standardise", blocks=1, flow_width=16, tilt_width=16),
        backbone=BackboneSettings(steps=250),
        tilt=TiltSettings(steps=20, particles=64),
        sampling=SamplingSettings(chains=4, draws=50, warmup=20, exact_draws=1_000),
    )
    rows = np.arange(300)
    parts = Splits(rows[:200], rows[200:250], rows[250:])
    result = tiltflow.fit(Dataset("plane", values, integers=False), settings, parts=parts)
    assert not result.converged
    failed = [c["name"] for c in result.metrics["verdict"]["checks"] if not c["ok"]]
    assert "rows scored, share not finite" in failed
    show_metrics(result.metrics, tmp_path, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["tilted"]["nll_test"] is None
    assert told["log_z"]["mean"] is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(model=ModelSettings(units="magic")), "units 'magic'"),
        (Settings(model=ModelSettings(tilt_dropout=1.5)), "tilt_dropout is 1.5"),
        (Settings(model=ModelSettings(flow_dropout=1.0)), "flow_dropout is 1.0"),
        (Settings(model=ModelSettings(blocks=0)), "blocks is 0"),
        (Settings(tilt=TiltSettings(check_every=0)), "check_every is 0"),
        (Settings(tilt=TiltSettings(share_end=1.0)), "share_end is 1.0"),
        (Settings(tilt=TiltSettings(rate=-1.0)), "rate is -1.0"),
        (Settings(tilt=TiltSettings(target=1.5)), "target is 1.5"),
        (Settings(tilt=TiltSettings(decay=-1.0)), "decay is -1.0"),
        (Settings(tilt=TiltSettings(agree_within=0.0)), "agree_within 0.0"),
        (Settings(tilt=TiltSettings(most_transitions=1)), "transitions from 2 to 1"),
        (Settings(sampling=SamplingSettings(leapfrogs=20_000)), "expected at most 10,000"),
        (Settings(sampling=SamplingSettings(warmup=-1)), "warmup is -1"),
        (Settings(sampling=SamplingSettings(leapfrogs=0)), "leapfrogs is 0"),
        (Settings(sampling=SamplingSettings(chains=2)), "2 chains"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_learning(settings, words):
    with pytest.raises(InputError, match=words):
        settings.check(seed=0)
