"""Settings from TOML: what a file may say, what it may not, and what lies on top of what."""

from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.errors import InputError
from tiltflow.fitting.config import PARTS, layered, read_config
from tiltflow.fitting.settings import Settings, suited, suited_to
from tiltflow.learning import TiltSettings
from tiltflow.runs import atomic


def config_of(folder, text):
    path = folder / "settings.toml"
    path.write_text(text)
    return read_config(path)


def test_a_file_sets_what_it_names(tmp_path):
    config = config_of(
        tmp_path,
        'seed = 3\n[data]\nsource = "x.npz"\nkey = "a"\n[tilt]\nrate = 1\nwatch = false\n',
    )
    assert (config.source, config.how, config.seed) == ("x.npz", {"key": "a"}, 3)
    assert config.settings == {"tilt": {"rate": 1, "watch": False}}
    assert config.fingerprint is None
    expected = replace(Settings(), tilt=replace(Settings().tilt, rate=1, watch=False))
    assert layered(Settings(), config.settings) == expected


def test_a_runs_own_configuration_is_such_a_file(tmp_path):
    """Every setting comes back as it was, in every part."""
    base = suited(10_000, 27)
    path = tmp_path / "config.toml"
    about = {"source": "digits", "key": None, "name": "digits", "fingerprint": "ab"}
    table = {"command": "tiltflow fit digits", "data": about, "seed": 0}
    atomic.write_toml(path, table | asdict(base))
    config = read_config(path)
    assert set(config.settings) == set(PARTS) == {part.name for part in fields(Settings)}
    assert layered(Settings(), config.settings) == base
    assert (config.source, config.fingerprint, config.seed) == ("digits", "ab", 0)


def test_layers_lie_on_top_of_each_other():
    file = {"tilt": {"steps": 10, "rate": 0.5}, "model": {"units": "logit"}}
    line = {"tilt": {"steps": 20, "particles": None}, "model": {"units": None}}
    found = layered(Settings(), file, line)
    assert (found.tilt.steps, found.tilt.rate, found.model.units) == (20, 0.5, "logit")
    assert found.tilt.particles == Settings().tilt.particles
    assert layered(Settings(), line, file).tilt.steps == 10  # the power twin: the order counts


def test_another_learner_brings_its_own_ground():
    found = layered(Settings(), {"tilt": {"steps": 10}}, {"tilt": {"learner": "persistent"}})
    assert found.tilt == TiltSettings.default("persistent", steps=10)


def test_another_learner_leaves_what_the_backbone_has_chosen():
    """As how many particles of a Glow are in hand at a time, and its lower rate."""
    glow = suited_to("glow", 50_000, (28, 28))
    found = layered(glow, {"tilt": {"learner": "persistent"}})
    assert found.tilt == replace(glow.tilt, learner="persistent")
    assert found.tilt.moved_at_once == 256


MISTAKES = {
    "rat = 1": "unknown setting 'rat'",
    "rate = 1": r"it belongs into \[backbone\], \[members\], \[vae\], \[tilt\] or \[data_tilt\]",
    "sed = 1": "did you mean seed",
    "[tild]": r"did you mean \[tilt\]",
    "zzz = 1": r"expected seed, command or a table, \[model\]",
    "[tilt]\nrats = 1": "'rats' in .tilt.: did you mean rate",
    "[tilt]\nzzzz = 1": "expected one of learner, nce_steps",
    "[tilt]\nsteps = 1.5": r"tilt.steps is 1.5; expected a whole number",
    "[tilt]\nsteps = true": "tilt.steps is True; expected a whole number",
    "[tilt]\nsteps = '7'": "tilt.steps is '7'; expected a whole number",
    "[tilt]\nsteps = 99999999999999999999": "expected a whole number",
    "[tilt]\nrate = nan": "tilt.rate is nan; expected a number",
    "[tilt]\nrate = [1]": "expected a number",
    "[tilt]\nwatch = 1": "expected true or false",
    "[tilt]\nlearner = 2": "expected text in quotes",
    "[tilt.rate]\na = 1": "expected a number",
    "tilt = 3": r"expected a table, \[tilt\]",
    "seed = 'x'": "seed is 'x'; expected a whole number",
    "[data]\nsource = 3": "expected text in quotes",
    "[data]\nchannels = 'red'": "data.channels is 'red'; expected 'grey' or 'rgb'",
    "[data]\nchannels = 3": "expected 'grey' or 'rgb'",
    "[sampling]\nkernel = 3": "sampling.kernel is 3; expected text in quotes",
    "[data]\nsauce = 'x'": "did you mean source",
    "seed = ": "is not TOML",
    "seed = 1\nseed = 2": "is not TOML",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_refused_in_one_line(tmp_path, text):
    with pytest.raises(InputError, match=MISTAKES[text]) as caught:
        config_of(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "settings.toml" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_config(tmp_path)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text(alphabet='abtilse[]="\n.0129{}#-\\ \u00e9\x00', max_size=60))
def test_whatever_a_file_holds_only_our_error_comes_out(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text(text)
    try:
        config = read_config(path)
    except InputError:
        return
    layered(Settings(), config.settings)
