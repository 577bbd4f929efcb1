"""A model saved by an earlier version loads, with the numbers it had.

`saved_models/vN` holds models of format N as that version wrote them, with rows and their
log-densities in `expected.json`. They are never written anew: a format that cannot be read any
more is a reason for a new one, vN + 1, beside it.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from tiltflow.errors import InputError
from tiltflow.model import loading
from tiltflow.model.fitted import FORMAT
from tiltflow.model.loading import load_model
from tiltflow.model.specs.migrations import STACKED, unstacked

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


@pytest.mark.parametrize("folder", FOLDERS[-1:], ids=lambda f: f.name)
def test_a_process_with_64_bits_has_the_same_numbers(folder, tmp_path):
    """And one without has those of a model that was saved with them."""
    with jax.enable_x64(True):
        assert apart(folder) < 1e-4
    wide = shutil.copytree(folder, tmp_path / "model")
    path = wide / "weights.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    path.write_bytes(safetensors.numpy.save({n: x.astype(_wide(x)) for n, x in arrays.items()}))
    assert apart(wide) < 1e-4


def _wide(x):
    return {"f": np.float64, "i": np.int64}.get(x.dtype.kind, x.dtype)


def test_an_array_of_another_kind_is_refused(tmp_path):
    folder = shutil.copytree(FOLDERS[-1], tmp_path / "model")
    path = folder / "weights.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    arrays["tilt.layers.0.weight"] = arrays["tilt.layers.0.weight"].astype(np.int32)
    path.write_bytes(safetensors.numpy.save(arrays))
    with pytest.raises(InputError, match=r"'tilt\.layers\.0\.weight' is int32"):
        load_model(folder)


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
    words = f"format {FORMAT + 1}; expected 1 to {FORMAT}: use the version of tiltflow that wrote"
    with pytest.raises(InputError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_the_numbers_notice_blocks_in_another_order(monkeypatch):
    def backwards(arrays, blocks):
        turned = {k: v[::-1] if k.startswith(STACKED) else v for k, v in arrays.items()}
        return unstacked(turned, blocks)

    monkeypatch.setattr(loading, "unstacked", backwards)
    assert apart(SAVED / "v1" / "three-blocks") > 1e-2


@pytest.mark.parametrize("shape", [(10**9, 0), (), (4, 2)], ids=str)
def test_a_stack_of_other_than_the_blocks_is_left_alone_and_refused(shape, tmp_path):
    name = f"{STACKED}x"
    odd = {name: np.zeros(shape, np.float32)}
    assert set(unstacked(odd, 3)) == {name}
    folder = shutil.copytree(SAVED / "v1" / "three-blocks", tmp_path / "model")
    path = folder / "weights.safetensors"
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load(path.read_bytes()) | odd))
    with pytest.raises(InputError, match=f"array '{name}' is in one of them only"):
        load_model(folder)
