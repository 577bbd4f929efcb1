"""`tiltflow diagnose`: fresh chains, draws on disk, a model that must fail, mistakes."""

import contextlib
import io
import json
import shutil
from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest
from rich.console import Console

from tiltflow.cli.main import run
from tiltflow.cli.show_diagnosis import show_diagnosis
from tiltflow.model.loading import load_model
from tiltflow.runs.draws import load_draws

SOME = ("--draws", "400", "--chains", "16", "--reference", "60")
FEW = ("--draws", "100", "--chains", "16", "--reference", "0")
BLOCKS = {
    "run", "chains", "mixing", "energy", "divergences", "times", "modes", "coverage", "notes",
    "seconds", "verdict",
}  # fmt: skip


def told_by(folder, *arguments):
    """The JSON object that the command prints, and its status."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = run(["diagnose", str(folder), *map(str, arguments), "--json"])
    return json.loads(out.getvalue()), status


def check_of(told, name):
    return next(check for check in told["verdict"]["checks"] if check["name"] == name)


def test_a_biased_kernel_is_never_ok(small_run):
    told, _ = told_by(small_run[0], *FEW, "--kernel", "langevin")
    assert told["energy"] is None
    check = check_of(told, "bias of the kernel")
    assert not check["ok"]
    assert "no Metropolis test" in check["means"]
    assert told["verdict"]["status"] != "ok"


@pytest.fixture(scope="module")
def fresh(small_run):
    return told_by(small_run[0], *SOME)


def test_fresh_chains(fresh):
    told, status = fresh
    assert set(told) == BLOCKS
    assert status == 0
    assert told["verdict"]["status"] != "failed"  # as below, with a steep tilt
    modes = told["modes"]
    assert modes["labels"] == "data"
    assert modes["names"] == [str(digit) for digit in range(10)]
    assert modes["classifier_accuracy"] > 0.95
    assert np.sum(modes["share"]) == pytest.approx(1)
    assert np.sum(modes["in_data"]) == pytest.approx(1)
    assert len(told["energy"]["e_bfmi"]) == 16
    assert check_of(told, "E-BFMI of the worst chain")["ok"]
    assert set(told["coverage"]) == {"backbone", "data_space", "held_out"}
    assert told["times"]["worst_of"].startswith("u[")
    for check in told["verdict"]["checks"]:
        assert check["means"]
        assert check["try"]


@pytest.mark.parametrize("width", [80, 120])
def test_what_it_prints_fits_the_terminal(fresh, width):
    console = Console(file=io.StringIO(), width=width)
    show_diagnosis(fresh[0], console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    for words in ("E-BFMI", "Modes by labels of the data", "held-out data", "Pareto k-hat"):
        assert any(words in line for line in lines)


def test_draws_on_disk_are_judged_as_the_chains_that_made_them(small_run, tmp_path, capsys):
    folder, out = small_run[0], tmp_path / "draws"
    sampling = ("--chains", "16", "--draws", "100", "--warmup", "50", "--json")
    capsys.readouterr()
    assert run(["sample", str(folder), "--out", str(out), "--stream", *sampling]) in (0, 3)
    sampled = json.loads(capsys.readouterr().out)
    options = ("--reference", 0, "--labels", "kmeans", "--modes", 4)
    told, _ = told_by(folder, "--draws", out, *options)
    for name in ("rhat_max", "ess_bulk_min", "ess_tail_min", "acceptance", "gradients"):
        # On disk numbers are float32, and ranks of near ties move.
        assert told["mixing"][name] == pytest.approx(sampled["mixing"][name], rel=1e-4)
    assert told["chains"]["kernel"] == "hmc"
    assert len(told["modes"]["names"]) == 4
    assert told["modes"]["classifier_accuracy"] is None
    assert told["energy"]["e_bfmi_min"] > 0.3

    stored, file = load_draws(out), tmp_path / "draws.npz"
    np.savez(file, u=stored.positions, f=stored.arrays["f"])
    from_file, _ = told_by(folder, "--draws", file, *options)
    assert from_file["mixing"]["rhat_max"] == pytest.approx(told["mixing"]["rhat_max"])
    assert from_file["energy"] is None
    assert any("records no energies" in note for note in from_file["notes"])

    np.savez(file, u=stored.positions, f=stored.arrays["f"], thin=4)
    thinned, _ = told_by(folder, "--draws", file, *options)
    assert thinned["times"]["f"] == pytest.approx(4 * from_file["times"]["f"])

    np.savez(file, u=stored.positions[..., ::-1], f=stored.arrays["f"])
    assert run(["diagnose", str(folder), "--draws", str(file)]) == 2
    assert "was not drawn from this model" in capsys.readouterr().err


def test_a_tilt_that_is_far_too_steep_fails(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    fitted = load_model(folder / "model")
    weight = fitted.model.tilt.layers[-1].weight  # f has learned little: its spread is 0.03 nats
    steep = eqx.tree_at(lambda model: model.tilt.layers[-1].weight, fitted.model, 1e4 * weight)
    replace(fitted, model=steep).save(folder / "model")
    told, status = told_by(folder, *SOME)
    assert status == 3
    assert told["verdict"]["status"] == "failed"
    assert told["verdict"]["part"] == "tilt"  # its density has no integral: no chain is begun
    assert "coverage" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--draws", "nowhere.npz"], "no such file"),
        (["--draws", "2"], "2 draws"),
        (["--chains", "1"], "1 chains"),
        (["--modes", "1"], "modes is 1"),
        (["--modes", "4"], "modes is 4, where the data's own labels tell modes apart"),
        (["--kernel", "gibbs"], "expected one of"),
        (["--kernel", "auto"], "expected the name of a kernel"),
        (["--draws", ".", "--chains", "8"], "chains is 8, but . is to be judged; leave it out"),
        (["--draws", ".", "--kernel", "nuts"], "kernel is nuts, but . is to be judged"),
        (["--labels", "magic"], "labels"),
        (["--seed", "-1"], "the seed is -1"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, small_run, capsys):
    capsys.readouterr()
    assert run(["diagnose", str(small_run[0]), *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
