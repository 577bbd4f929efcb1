"""The examples run as they stand."""

import contextlib
import io
import re
import runpy
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest
import safetensors.numpy

import tiltflow
from tiltflow.fitting.recipes import begin_backbone, begin_tilt, specification, units_for
from tiltflow.fitting.settings import ModelSettings
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SAVED = HERE / "model" / "saved_models" / "v1" / "standardise"


def printed(name, tmp_path, *arguments):
    """The lines that an example prints; it runs in this process, whose programs are compiled."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", [name, *arguments, "--quick"])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return out.getvalue().splitlines()


def test_quickstart(tmp_path):
    first, before, after = printed("quickstart.py", tmp_path)
    assert "mean" in first
    assert before == after  # what was saved is what is loaded


@pytest.mark.slow
def test_outliers(tmp_path):
    head, row = printed("outliers.py", tmp_path)
    assert "isolation forest" in head
    _, *areas = map(float, row.split())
    assert len(areas) == 4
    assert all(0.8 < area <= 1 for area in areas)  # zeros are easily told from the others


def test_inpainting(tmp_path):
    """By a normal model of the digits: nothing is learned, and halves still tell of one another."""
    data = tiltflow.load_data("digits")
    known = data.values[tiltflow.data.split(data).train]
    settings = ModelSettings(units="whiten", blocks=1, flow_width=4, tilt_width=4)
    units = units_for(settings, known, integers=True, limits=(0.0, 16.0))
    spec = specification(settings, units)
    tilt, _ = begin_tilt(spec, None, 0, key=jr.key(0))
    model = TiltedModel(begin_backbone(spec, units, key=jr.key(1)), tilt)
    log_z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0)
    FittedModel(model, spec, log_z, True, 0.1, 16).save(tmp_path / "run" / "model")
    *_, last = printed("inpainting.py", tmp_path, "run")
    told = re.fullmatch(r"all: draws (\S+) +mean image (\S+)", last)
    assert told
    assert float(told[1]) < 0.95 * float(told[2])
    assert (tmp_path / "inpainting.png").stat().st_size > 1_000


def sharpen(weights):
    """Make f six times as large: then p differs from q by more than chance."""
    arrays = safetensors.numpy.load(weights.read_bytes())
    arrays["tilt.layers.2.weight"] *= 6
    weights.write_bytes(safetensors.numpy.save(arrays))


def agree(found):
    """Whether means, each with its standard error, are all within 5 joint ones of each other."""
    return all(
        abs(a - b) < 5 * np.hypot(error_a, error_b)
        for (a, error_a), (b, error_b) in pairwise(found)
    )


def test_other_samplers_agree_with_ours(tmp_path):
    folder = shutil.copytree(SAVED, tmp_path / "run" / "model")
    sharpen(folder / "weights.safetensors")
    lines = printed("other_samplers.py", tmp_path, "run")
    told = [re.search(r"mean f +(\S+) ± (\S+)", line) for line in lines]
    found = [(float(one[1]), float(one[2])) for one in told if one]
    left_out = sum("not installed" in line for line in lines)
    assert len(found) >= 3
    assert len(lines) == 5
    assert len(found) + left_out >= 4
    assert agree(found)

    # A sampler that left f out would draw from the backbone.
    model = tiltflow.load_model(folder).model
    u = jr.normal(jr.key(0), (16, 50, 3))
    f = np.asarray(jax.vmap(jax.vmap(lambda u: model.tilt(model.backbone.coordinates(u))))(u))
    error = f.mean(axis=1).std(ddof=1) / 4
    assert not agree([found[0], (f.mean(), error)])
