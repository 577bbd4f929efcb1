"""`tiltflow fit --config FILE`: layers of settings; and `--tensorboard` beside it."""

import json
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.cli.main import run
from tiltflow.cli.run_data import run_data
from tiltflow.data import load
from tiltflow.errors import InputError, Interrupted
from tiltflow.fitting import experiment
from tiltflow.fitting.config import layered, read_config
from tiltflow.fitting.settings import Settings
from tiltflow.learning import TiltSettings
from tiltflow.runs.lock import Lock

SMALL = """
seed = 5
[data]
source = {source!r}
[backbone]
steps = 250
[tilt]
steps = 40
particles = 64
[sampling]
chains = 8
draws = 10
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two columns."""
    path = tmp_path_factory.mktemp("data") / "plane.npy"
    np.save(path, np.random.default_rng(0).normal(size=(300, 2)))
    return path


@pytest.fixture
def asked(monkeypatch):
    """What the experiment is asked for, in place of hours of learning."""
    calls = []

    def stop(data, settings, *, seed, listen, **others):
        calls.append((data.fingerprint, settings, seed))
        listen("tilt", "stage", step=20, gain_val=0.5, acceptance=0.8)
        raise Interrupted("interrupted")

    monkeypatch.setattr(experiment, "fit", stop)
    return calls


def test_the_command_line_lies_on_top_of_the_file(source, tmp_path, asked):
    (tmp_path / "small.toml").write_text(SMALL.format(source=str(source)))
    command = ["fit", "--config", str(tmp_path / "small.toml"), "--out", str(tmp_path / "run")]
    assert run([*command, "--tilt-steps", "60"]) == 130
    ((_, settings, seed),) = asked
    assert (seed, settings.tilt.steps, settings.tilt.particles) == (5, 60, 64)
    assert (settings.sampling.chains, settings.sampling.draws) == (8, 10)
    assert settings.tilt.rate == TiltSettings().rate
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["data"]["source"] == str(source)
    assert config["tilt"]["steps"] == 60


def test_a_runs_own_config_asks_for_the_same_run(source, tmp_path, asked):
    """And the power twin: one setting changed asks for another."""
    first, config = tmp_path / "first", str(tmp_path / "first" / "config.toml")
    options = ["--learner", "persistent", "--units", "whiten", "--seed", "3", "--chains", "8"]
    run(["fit", str(source), "--out", str(first), *options])
    run(["fit", "--config", config, "--out", str(tmp_path / "second")])
    run(["fit", "--config", config, "--out", str(tmp_path / "third"), "--draws", "7"])
    assert asked[0] == asked[1]
    assert asked[2] != asked[0]


def test_steps_of_the_tilt_are_those_of_the_contrast_where_that_is_all(source, tmp_path, asked):
    steps = ["--tilt-steps", "70", "--overwrite", "--out", str(tmp_path / "run")]
    for learner in ("nce", "nce+mle", "population"):
        run(["fit", str(source), "--learner", learner, *steps])
    (tmp_path / "x.toml").write_text('[tilt]\nlearner = "nce"\n')
    run(["fit", str(source), "--config", str(tmp_path / "x.toml"), *steps])
    found = [(settings.tilt.nce_steps == 70, settings.tilt.steps == 70) for _, settings, _ in asked]
    assert found == [(True, False), (False, True), (False, True), (True, False)]


def test_the_users_word_on_integers_is_kept_with_the_run(tmp_path, asked):
    def kept(folder):
        config = tomllib.loads((folder / "config.toml").read_text())
        return run_data(SimpleNamespace(path=folder, config=lambda: config)).integers

    path = tmp_path / "counts.csv"
    np.savetxt(path, np.random.default_rng(0).poisson(500, (400, 2)), delimiter=",", fmt="%d")
    for word, integers in (("--integers", True), ("--continuous", False)):
        folder, again = tmp_path / f"x{word}", tmp_path / f"y{word}"
        run(["fit", str(path), word, "--out", str(folder)])
        run(["fit", "--config", str(folder / "config.toml"), "--out", str(again)])
        assert kept(folder) is kept(again) is integers


def test_what_the_file_says_of_data_goes_with_the_same_data(tmp_path, asked, capsys):
    counts = np.random.default_rng(1).integers(0, 9, (300, 2))
    np.save(tmp_path / "counts.npy", counts)
    taken = load(tmp_path / "counts.npy", integers=False).fingerprint
    for number, (text, integers) in enumerate(
        [
            ("[data]\nintegers = false\n", False),
            (f"[data]\nsource = '{tmp_path / 'counts.npy'}'\nintegers = false\n", False),
            ("[data]\nsource = 'other.npy'\nintegers = false\n", None),
        ]
    ):
        (tmp_path / "c.toml").write_text(text)
        out = tmp_path / f"run{number}"
        command = ["fit", str(tmp_path / "counts.npy"), "--config", str(tmp_path / "c.toml")]
        assert run([*command, "--out", str(out)]) == 130
        assert tomllib.loads((out / "config.toml").read_text())["data"].get("integers") is integers
    assert asked[0][0] == taken
    assert "says of data is of other.npy" in capsys.readouterr().err


def test_a_network_of_a_vae_wants_a_vae(source, tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert run(["fit", str(source), "--network", "conv", *out]) == 2
    assert "--network conv is of a vae; expected --backbone vae" in capsys.readouterr().err


def test_a_model_that_could_not_be_loaded_is_not_learned(source):
    deep = layered(Settings(), {"model": {"blocks": 300}})
    with pytest.raises(InputError, match="blocks is 300; expected at most 256"):
        experiment.fit(load(source), deep)


def test_tensorboard_hears_what_the_log_hears(source, tmp_path, asked):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "run"
    command = ["fit", str(source), "--out", str(folder), "--tensorboard"]
    run(command)
    run([*command, "--resume"])
    (path,) = (folder / "tensorboard").iterdir()
    assert path.read_bytes().count(b"tilt/gain_val") == 1
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["stage", "stopped"]


MISTAKES = {
    "unknown setting": ("[tilt]\nparticels = 7\n", "did you mean particles?"),
    "wrong type": ("[tilt]\nsteps = 'many'\n", "expected a whole number"),
    "a value that cannot be": ("[tilt]\nparticles = 7\n", "7 particles"),
    "a mixture": ("[model]\ncomponents = -3\n", "components is -3"),
    "a network": ("[model.vae]\nz_dim = 0\n", "z_dim is 0"),
    "a memory": ("[backbone]\nmemory = 1.0\n", "memory 1.0"),
    "no data": ("seed = 1\n", "no DATA"),
    "other data": ("[data]\nsource = 'digits'\nfingerprint = 'ab'\n", "digits is not what"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file_is_one_line(name, tmp_path, monkeypatch, capsys):
    text, words = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(text)
    data = [] if "data" in name else ["digits"]
    assert run(["fit", *data, "--config", "a.toml"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.toml"]


def test_a_run_that_another_process_makes_is_left_alone(source, tmp_path, capsys):
    with Lock(tmp_path / ".run.lock", tmp_path / "run", advice="wait"):
        assert run(["fit", str(source), "--out", str(tmp_path / "run")]) == 2
    assert "is being written by process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# With real learning ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    """A run of a file's settings, with one of them from the command line."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.toml").write_text(SMALL.format(source=str(source)))
    command = ["fit", "--config", str(folder / "small.toml"), "--out", str(folder / "run")]
    assert run([*command, "--tilt-steps", "60", "--tensorboard", "--json"]) in (0, 3)
    return folder / "run"


def numbers(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: block for name, block in metrics.items() if name != "seconds"}


@pytest.mark.slow
def test_a_runs_own_config_makes_the_same_run(made, tmp_path):
    again = tmp_path / "again"
    assert run(["fit", "--config", str(made / "config.toml"), "--out", str(again), "--json"]) in (
        0,
        3,
    )
    assert numbers(again) == numbers(made)
    assert read_config(again / "config.toml") == read_config(made / "config.toml")


@pytest.mark.slow
def test_what_was_learned_is_in_tensorboard(made):
    """The held-out gain of every stage, by step, and every figure of the report."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = (made / "tensorboard").iterdir()
    data, at, scalars, figures = path.read_bytes(), 0, {}, set()
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        for value in event.summary.value:
            if value.HasField("image"):
                figures.add(value.tag)
            else:
                scalars[value.tag, event.step] = value.simple_value
        at += length + 16
    lines = [json.loads(line) for line in (made / "events.jsonl").read_text().splitlines()]
    stages = {e["step"]: e["gain_val"] for e in lines if e["event"] == "stage"}
    assert stages
    for step, gain in stages.items():
        assert scalars["tilt/gain_val", step] == pytest.approx(gain, rel=1e-6)
    assert figures == {f"report/{entry.stem}" for entry in (made / "figures").iterdir()}
