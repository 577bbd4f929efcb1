"""Bad files by name, and a good model folder that tests may damage."""

import gzip
import io
import json
import struct
import zipfile
from functools import cache

import jax.random as jr
import numpy as np
import safetensors.numpy

from tiltflow.backbones import fit_units
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.runs import atomic

RNG = np.random.default_rng(0)
REALS = RNG.normal(size=(40, 3))
PICTURES = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def header(text):
    """A .npy file of which only the header is there."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def table(array, first="", separator=","):
    lines = [first] if first else []
    lines += [separator.join(map(str, row)) for row in np.asarray(array).tolist()]
    return "\n".join(lines).encode() + b"\n"


def idx(array, kind=0x08, axes=None):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, axes or array.ndim]) + sizes + array.tobytes()


def parquet(**columns):
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def png(array):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def zipped(name, content, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def with_value(value, array=REALS):
    array = np.array(array)
    array[7, 1] = value
    return array


@cache
def good_model():
    """The files of a small model folder, by name."""
    import tempfile
    from pathlib import Path

    units = fit_units("standardise", REALS.astype(np.float32), integers=False)
    spec = specify(units, blocks=2, flow_width=4, tilt_width=4)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    log_z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")
    with tempfile.TemporaryDirectory() as folder:
        FittedModel(model, spec, log_z, False, 0.5, 4).save(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def write_run(folder, **files):
    """A run with a good model in `folder`, but for `files`: bytes by name, dots as in `NAME`."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    atomic.write_toml(folder / "config.toml", {"data": {"source": "digits", "name": "digits"}})
    atomic.write_bytes(folder / "events.jsonl", b"")
    for name, content in good_model().items():
        (folder / "model" / name).write_bytes(content)
    for name, content in files.items():
        (folder / name.replace("__", "/").replace("_dot_", ".")).write_bytes(content)


def config(**changes):
    """The model's configuration with changes, `a__b` for b inside a."""
    values = json.loads(good_model()["config.json"])
    for key, value in changes.items():
        *parents, last = key.split("__")
        block = values
        for parent in parents:
            block = block[parent]
        block[last] = value
    return json.dumps(values).encode()


def weights(change):
    """The model's weights after `change` has been at the dictionary of arrays."""
    arrays = dict(safetensors.numpy.load(good_model()["weights.safetensors"]))
    change(arrays)
    return safetensors.numpy.save(arrays)


def raw_weights(text, data=b"", length=None):
    """A safetensors file with any header."""
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def gzipped(content):
    return gzip.compress(content, mtime=0)


def zstandard(content):
    import pyarrow

    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, "zstd") as out:
        out.write(content)
    return stream.getvalue().to_pybytes()
