"""Draws on disk: what was drawn is what is read, whole chunks only, resumed bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from stream_worker import log_density, norm, stream

from tiltflow.errors import InputError
from tiltflow.mcmc import HMC, Until, sample
from tiltflow.runs import atomic
from tiltflow.runs.draws import LOCK, DrawsFolder, load_draws
from tiltflow.runs.lock import Lock

WORKER = Path(__file__).with_name("stream_worker.py")


def contents(folder):
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def diagnose(draws):
    """As many effective draws as are looked at."""
    return float(draws.shape[1]), 1.0


class Stop(Exception):
    """Ends a run in the middle of something."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """130 draws, never interrupted: the folder and what was returned."""
    folder = tmp_path_factory.mktemp("whole") / "draws"
    return folder, stream(folder, 130, 20)


def test_what_is_drawn_is_what_is_read(whole):
    folder, draws = whole
    stored = load_draws(folder)
    memory = sample(
        jr.key(0), log_density, jnp.zeros((64, 3)), num_draws=130, num_warmup=40, num_leapfrogs=3,
        chunk=20, summary=norm,
    )  # fmt: skip
    assert set(stored.arrays) == {"positions", "energies", "divergent", "norm"}
    for read in (stored.positions, draws.positions):
        assert isinstance(read, np.memmap)
        np.testing.assert_array_equal(read, memory.positions)
    np.testing.assert_array_equal(stored.arrays["norm"], memory.summaries["norm"])
    np.testing.assert_array_equal(draws.energies, memory.energies)
    assert (draws.acceptance, draws.gradients) == (memory.acceptance, memory.gradients)
    assert stored.counts.draws == 130


def test_a_run_interrupted_anywhere_resumes_to_the_same_bytes(whole, tmp_path):
    """In warm-up, between chunks, and after the rows of a chunk but before its index."""

    def stop_at(done):
        def tell(news):
            if news.done == done:
                raise Stop

        return tell

    for done in (20, 40, 80):
        with pytest.raises(Stop):
            stream(tmp_path, 130, 20, on_chunk=stop_at(done))
        assert load_draws(tmp_path).counts.draws == max(0, done - 40)

    def tear(path, value):
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "write_json", tear)
        with pytest.raises(Stop):
            stream(tmp_path, 130, 20)
    assert load_draws(tmp_path).counts.draws == 40
    assert len(contents(tmp_path)["norm.raw"]) == 60 * 64 * 4  # a torn chunk, not looked at
    draws = stream(tmp_path, 130, 20)
    assert contents(tmp_path) == contents(whole[0])
    assert draws.acceptance == whole[1].acceptance
    np.testing.assert_array_equal(draws.final.position, whole[1].final.position)


def test_a_finished_run_goes_on_for_more_draws(whole, tmp_path):
    stream(tmp_path, 50, 20)
    assert stream(tmp_path, 50, 20).positions.shape == (64, 50, 3)
    stream(tmp_path, 130, 20)
    for name in ("positions.raw", "energies.raw", "norm.raw"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_a_resumed_run_stops_where_it_would_have_stopped(tmp_path):
    def stop(news):
        if news.done == 100:
            raise Stop

    targets = {"until": Until(ess=90), "diagnose": diagnose}
    whole = stream(tmp_path / "whole", 400, 20, **targets)
    assert whole.stopped == "ess"
    with pytest.raises(Stop):
        stream(tmp_path / "torn", 400, 20, on_chunk=stop, **targets)
    stream(tmp_path / "torn", 400, 20, **targets)
    stream(tmp_path / "torn", 400, 20, **targets)  # it is there: nothing is added
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_moments_are_resumed_too(tmp_path):
    def stop(news):
        if news.done == 80:
            raise Stop

    whole = stream(tmp_path / "whole", 100, 20, keep=False)
    with pytest.raises(Stop):
        stream(tmp_path / "torn", 100, 20, keep=False, on_chunk=stop)
    torn = stream(tmp_path / "torn", 100, 20, keep=False)
    np.testing.assert_array_equal(torn.moments.mean, whole.moments.mean)
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")
    assert "positions" not in load_draws(tmp_path / "torn").arrays


def test_derived_arrays_are_stored_beside_the_draws(tmp_path):
    sink = DrawsFolder(tmp_path, derive=lambda chunk: {"x": 2 * chunk["positions"]}, about={"a": 1})
    draws = sample(
        jr.key(0), log_density, jnp.zeros((64, 3)), num_draws=30, num_warmup=40, num_leapfrogs=3,
        chunk=20, summary=norm, sink=sink,
    )  # fmt: skip
    stored = load_draws(tmp_path)
    np.testing.assert_array_equal(stored.arrays["x"], 2 * stored.positions)
    assert stored.about == {"a": 1}
    assert set(draws.summaries) == {"norm"}


def test_another_run_is_not_resumed_and_a_taken_folder_not_touched(whole, tmp_path):
    folder = whole[0]
    before = contents(folder)

    def again(key=0, start=0.0, resume=True, path=folder, **settings):
        chosen = {"num_draws": 200, "num_warmup": 40, "chunk": 20, "summary": norm} | settings
        if "kernel" not in chosen:
            chosen["num_leapfrogs"] = 3
        sink = DrawsFolder(path, resume=resume)
        sample(jr.key(key), log_density, jnp.full((64, 3), start), sink=sink, **chosen)

    for settings, words in (
        ({"key": 1}, "another key"),
        ({"start": 1.0}, "another start"),
        ({"kernel": HMC(num_leapfrogs=4)}, "another kernel"),
        ({"kernel": HMC(num_leapfrogs=3, jitter=0.1)}, "another kernel"),
        ({"thin": 2}, "another thin"),
        ({"num_warmup": 60}, "another num_warmup"),
        ({"resume": False}, "holds draws"),
    ):
        with pytest.raises(InputError, match=words):
            again(**settings)
    assert contents(folder) == before
    (tmp_path / "letter.txt").write_text("dear")
    for resume in (True, False):
        with pytest.raises(InputError, match=r"letter\.txt is in it"):
            again(path=tmp_path, resume=resume)
    assert contents(tmp_path) == {"letter.txt": b"dear"}


@pytest.mark.parametrize("others", [{"z.txt": b"dear"}, {}])
def test_pictures_of_a_stranger_stay(others, tmp_path):
    """Files that are called as ours, beside others, or where no run was killed."""
    mine = {"IMG.raw": b"raw", "carry-on.txt": b"x", ".a.tmp": b"y", **others}
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"\.a\.tmp is in it"):
        stream(tmp_path, 130, 20)
    (tmp_path / LOCK).write_text("1\n")
    with pytest.raises(InputError, match="is in it"):
        stream(tmp_path, 130, 20)
    assert contents(tmp_path) == mine


def test_what_a_killed_first_chunk_has_left_is_removed(tmp_path, whole):
    (tmp_path / LOCK).write_text("1\n")
    (tmp_path / "positions.raw").write_bytes(b"half")
    (tmp_path / "carry-000000000060.safetensors").write_bytes(b"")
    stream(tmp_path, 130, 20)
    assert contents(tmp_path) == contents(whole[0])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("index.json", lambda data: data[:40], "not JSON"),
        ("index.json", lambda data: data.replace(b'"draws"', b'"dr"'), "damaged"),
        ("index.json", lambda data: data.replace(b'"positions"', b'"../x"'), "damaged"),
        ("index.json", lambda data: data.replace(b'"format": 1', b'"format": 9'), "format 9"),
        ("positions.raw", lambda data: data[:-1], "damaged"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(name, change, words, whole, tmp_path):
    for entry, data in contents(whole[0]).items():
        (tmp_path / entry).write_bytes(change(data) if entry == name else data)
    with pytest.raises(InputError, match=words):
        load_draws(tmp_path)
    with pytest.raises(InputError, match=words):
        stream(tmp_path, 200, 20)
    with pytest.raises(InputError, match="holds no draws"):
        load_draws(tmp_path / "nothing")


def kill_repeatedly(folder, draws, kills, seed):
    """Resume the run in `folder` again and again, killed by signal 9 at random moments.

    The first is killed as soon as there is a folder, the others once they have gone on. Returns
    the numbers of draws that were found after each.
    """
    moments, found = random.Random(seed), []
    index = folder / "index.json"
    for kill in range(kills):
        before = index.stat().st_mtime_ns if index.exists() else 0
        worker = subprocess.Popen([sys.executable, WORKER, folder, str(draws), "10"])
        while worker.poll() is None and (
            not (index if kill else folder).exists()
            or (kill > 0 and index.stat().st_mtime_ns == before)
        ):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        if index.exists():
            stored = load_draws(folder)
            found.append(stored.counts.draws)
            assert stored.counts.draws % 10 == 0
            for array in stored.arrays.values():
                assert array.shape[1] == stored.counts.draws
                assert np.all(np.isfinite(array))
    return found


@pytest.mark.parametrize(
    ("kills", "draws"), [(2, 1000), pytest.param(20, 4000, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_it_resumes_to_the_same_bytes(kills, draws, tmp_path):
    found = kill_repeatedly(tmp_path / "killed", draws, kills, seed=kills)
    assert found
    assert found == sorted(found)
    if kills > 2:
        assert len({*found}) > 5  # it was killed on its way
        print(found)
    stream(tmp_path / "killed", draws, 10)
    stream(tmp_path / "whole", draws, 10)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_memory_does_not_grow_with_the_draws_that_are_streamed(tmp_path):
    def peak(folder, draws):
        command = [sys.executable, WORKER, folder, f"{draws}", "500"]
        return float(subprocess.run(command, check=True, capture_output=True).stdout)

    few, many = peak(tmp_path / "few", 1_000), peak(tmp_path / "many", 100_000)
    kept = peak("-", 100_000)
    print(f"MiB: {few:.0f} for 1,000 draws, {many:.0f} for 100,000, {kept:.0f} in memory")
    assert many < 1.1 * few
    assert kept > 1.1 * few  # the twin: they do not fit into the margin


def test_a_folder_that_another_writes_is_left_alone(tmp_path):
    stream(tmp_path, 50, 20)
    before = contents(tmp_path)
    with Lock(tmp_path / LOCK, tmp_path, advice="wait"):
        with pytest.raises(InputError, match=f"written by process {os.getpid()}: wait for it, or"):
            stream(tmp_path, 130, 20)
        assert contents(tmp_path) | before == contents(tmp_path)
    assert contents(tmp_path) == before
    stream(tmp_path, 130, 20)
    assert contents(tmp_path) != before
