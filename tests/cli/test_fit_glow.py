"""`tiltflow fit --backbone glow`: what it refuses at once, and a whole run on little."""

import json

import numpy as np
import pytest

from tiltflow.cli.main import run
from tiltflow.model.loading import load_model

TINY = """
[model.glow]
steps = 1
width = 8
[model.conv]
channels = 4
width = 16
[backbone]
steps = 250
flips = true
[tilt]
steps = 20
particles = 64
bank = 500
[sampling]
draws = 20
warmup = 20
exact_draws = 2000
"""


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((7, 8), "images of 7 x 8 pixels; expected even sides"),
        ((5,), "data of shape (5,); expected images"),
    ],
)
def test_what_cannot_be_halved_is_refused_in_one_line(tmp_path, capsys, shape, words):
    x = np.random.default_rng(0).integers(0, 256, (100, *shape))
    np.save(tmp_path / "x.npy", x.astype(np.uint8))
    arguments = ["fit", str(tmp_path / "x.npy"), "--backbone", "glow"]
    assert run([*arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_glow_is_fitted_shown_and_loaded_again(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(TINY)
    folder = tmp_path / "run"
    arguments = ["fit", "digits", "--backbone", "glow", "--config", str(tmp_path / "tiny.toml")]
    assert run([*arguments, "--chains", "8", "--out", str(folder)]) in (0, 3)
    assert "tilted.bpd" in capsys.readouterr().out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["calibration"]["rise"] >= 0
    bits = metrics["backbone"]["nll_test"] / (64 * np.log(2))
    assert metrics["backbone"]["bpd"] == pytest.approx(bits)
    assert "bits/dim" in (folder / "report.html").read_text()
    fitted = load_model(folder / "model")
    assert fitted.spec is not None
    assert fitted.spec.kind == "glow"
    x, _ = fitted.sample(chains=4, draws=4, warmup=4)
    assert x.shape == (4, 4, 8, 8)
