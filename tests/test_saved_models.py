"""A model saved by an earlier version loads, with the numbers it had.

`saved_models/vN` holds models of format N as that version wrote them, with rows and their
log-densities in `expected.json`. They are never written anew: a format that cannot be read any
more is a reason for a new one, vN + 1, beside it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tiltflow.errors import InputError
from tiltflow.fitted import FORMAT, load_model

SAVED = Path(__file__).parent / "saved_models"
FOLDERS = sorted(SAVED.glob("v*/*"))


def apart(folder):
    """The largest difference from the numbers that were saved, in nats."""
    model, expected = load_model(folder), json.loads((folder / "expected.json").read_text())
    x = np.asarray(expected["rows"], np.float32)
    return max(
        np.abs(getattr(model, name)(x) - expected[name]).max()
        for name in ("log_prob", "backbone_log_prob")
    )


def test_there_is_a_model_of_the_present_format():
    assert f"v{FORMAT}" in {folder.parent.name for folder in FOLDERS}
    for folder in FOLDERS:
        config = json.loads((folder / "config.json").read_text())
        assert f"v{config['format']}" == folder.parent.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_the_numbers_are_those_of_the_version_that_saved_it(folder):
    assert apart(folder) < 1e-4


def test_the_numbers_notice_another_weight(tmp_path):
    folder = shutil.copytree(FOLDERS[0], tmp_path / "model")
    path = folder / "weights.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    arrays["tilt.layers.0.weight"] = arrays["tilt.layers.0.weight"] * 1.01
    path.write_bytes(safetensors.numpy.save(arrays))
    assert apart(folder) > 1e-4


def test_a_newer_format_is_refused_in_one_line(tmp_path):
    folder = shutil.copytree(FOLDERS[0], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": FORMAT + 1}))
    words = f"format {FORMAT + 1}; expected {FORMAT}: use the version of tiltflow that wrote it"
    with pytest.raises(InputError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
