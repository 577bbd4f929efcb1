"""Model folders from strangers: links, pipes, and what a header may cost."""

import os
import tracemalloc

import numpy as np
import pytest
from bad_files import config, write_run
from PIL import Image

from tiltflow.cli.run_data import other_rows, run_data
from tiltflow.errors import InputError
from tiltflow.model.loading import load_model
from tiltflow.runs import RunStore, reading

FILES = ("config.json", "weights.safetensors")


@pytest.fixture
def model(tmp_path):
    write_run(tmp_path / "run")
    return tmp_path / "run" / "model"


def refused(folder):
    with pytest.raises(InputError) as caught:
        load_model(folder)
    return str(caught.value)


def test_the_folder_is_good_as_long_as_nobody_touches_it(model):
    assert load_model(model).leapfrogs == 4


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_a_file_elsewhere_is_refused(name, model, tmp_path):
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    assert "is a link to a file outside" in refused(model)
    (model / name).unlink()
    (model / name).symlink_to("../../elsewhere")
    assert "is a link to a file outside" in refused(model)


def test_links_inside_the_folder_and_to_the_folder_are_followed(model, tmp_path):
    (model / "weights.safetensors").rename(model / "weights-1")
    (model / "weights.safetensors").symlink_to("weights-1")
    (tmp_path / "latest").symlink_to(model)
    assert load_model(tmp_path / "latest").leapfrogs == 4


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_itself_a_pipe_and_a_folder_are_refused(name, model):
    (model / name).unlink()
    (model / name).symlink_to(name)
    assert name in refused(model)
    (model / name).unlink()
    os.mkfifo(model / name)
    assert "is not a regular file" in refused(model)  # and nobody waits for a writer
    (model / name).unlink()
    (model / name).mkdir()
    assert name in refused(model)


def test_a_device_is_not_read(tmp_path):
    with pytest.raises(InputError, match="not a regular file"):
        reading.read_bytes("/dev/zero")
    with pytest.raises(InputError, match="cannot be read"):
        reading.read_bytes("a\0b")


def test_a_large_architecture_costs_nothing_until_its_weights_are_there(model):
    values = {"tilt_width": 4000, "tilt_depth": 5}
    (model / "config.json").write_bytes(config(**{f"model__{k}": v for k, v in values.items()}))
    tracemalloc.start()
    assert "in one of them only" in refused(model)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = 3", "does not say where its data are"),
        ("[data]\nsource = 5", "does not say where its data are"),
        ("[data", "is not TOML"),
        ("[data]\nsource = '/dev/zero.npy'", "does not exist"),
        ("[data]\nsource = 'run'\nimage_size = 'x'", "the image size is 'x'; expected 1 to 4,096"),
        ("[data]\nsource = 'run'\nchannels = 'hsv'", "channels 'hsv'; expected grey or rgb"),
        ("[data]\nsource = 'digits'\nfingerprint = 'other'", "is not what"),
    ],
)
def test_what_a_run_says_of_its_data(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", config_dot_toml=text.encode())
    with pytest.raises(InputError) as caught:
        run_data(RunStore.open(tmp_path / "run"))
    assert words in str(caught.value)


def test_pictures_to_score_are_read_as_those_of_the_run_were(tmp_path):
    """Of two sizes and kinds; a run that says nothing of it cannot read them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size, mode in (("a", 40, "RGB"), ("b", 50, "L")):
        Image.new(mode, (size, size)).save(folder / f"{name}.png")
    how = b"[data]\nsource = 'gone'\nimage_size = 8\nchannels = 'grey'"
    write_run(tmp_path / "run", config_dot_toml=how)
    write_run(tmp_path / "other", config_dot_toml=b"[data]\nsource = 'gone'")
    assert other_rows(RunStore.open(tmp_path / "run"), folder, None).shape == (8, 8)
    with pytest.raises(InputError, match="pass --channels"):
        other_rows(RunStore.open(tmp_path / "other"), folder, None)


def test_archives_of_a_run_are_bounded(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=np.zeros(1000))
    assert reading.read_arrays(tmp_path / "x.npz")["x"].shape == (1000,)
    monkeypatch.setattr(reading, "LARGEST_ARRAYS", 1000)
    with pytest.raises(InputError, match="at most 1,000: write fewer, or draws to a folder"):
        reading.read_arrays(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=np.array([{}]))
    with pytest.raises(InputError, match="is not a whole"):
        reading.read_arrays(tmp_path / "x.npz")
