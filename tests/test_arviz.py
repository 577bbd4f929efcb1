"""Draws in ArviZ, in whichever of its lines is installed."""

import importlib.util

import numpy as np
import pytest

from tiltflow.arviz import to_arviz
from tiltflow.errors import InputError
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.sinks import Counts
from tiltflow.runs.draws import DrawsFolder

CHAINS, DRAWS = 4, 60
with_arviz = pytest.mark.skipif(
    importlib.util.find_spec("arviz") is None, reason="ArviZ is not installed"
)


def arrays(seed=0):
    """What a run records, as if it had drawn from a normal density with f = u[0]."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(CHAINS, DRAWS, 3)).astype(np.float32)
    return {
        "positions": u,
        "energies": rng.normal(size=(CHAINS, DRAWS)).astype(np.float32),
        "divergent": rng.random((CHAINS, DRAWS)) < 0.05,
        "f": u[..., 0],
        "norm": np.sum(u**2, axis=-1),
    }


def in_memory(**changes):
    found = arrays() | changes
    summaries = {name: found[name] for name in ("f", "norm")}
    return Draws(
        positions=found["positions"], summaries=summaries, energies=found["energies"],
        divergent=found["divergent"], replicas=None, moments=None, acceptance=0.8, divergences=3,
        transitions=DRAWS, gradients=480, tuning=Tuning(np.float32(0.5), np.float32(1.0)),
        final=None, seconds=1.0, stopped="draws", target=0.8, is_biased=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """The same draws, streamed in two chunks, with x = 2 u beside them."""
    sink = DrawsFolder(tmp_path / "draws", derive=lambda chunk: {"x": 2 * chunk["positions"]})
    sink.open({})
    for end in (40, DRAWS):
        start = 0 if end == 40 else 40
        chunk = {name: a.swapaxes(0, 1)[start:end] for name, a in arrays().items()}
        sink.write(chunk, [np.zeros(1)], Counts(end, end, gradients=8 * end))
    return tmp_path / "draws"


def assert_same(found, *, x):
    """Values, names and dimensions."""
    recorded = arrays()
    posterior, statistics = found["posterior"], found["sample_stats"]
    assert posterior["u"].dims[:2] == ("chain", "draw")
    np.testing.assert_array_equal(posterior["u"].values, recorded["positions"])
    np.testing.assert_array_equal(posterior["f"].values, recorded["f"])
    np.testing.assert_array_equal(posterior["x"].values, x)
    np.testing.assert_array_equal(statistics["energy"].values, recorded["energies"])
    np.testing.assert_array_equal(statistics["diverging"].values, recorded["divergent"])
    lp = recorded["f"] - 0.5 * recorded["norm"]
    np.testing.assert_allclose(statistics["lp"].values, lp, rtol=1e-6)
    assert statistics.attrs["inference_library"] == "tiltflow"


@with_arviz
def test_draws_in_memory():
    x = arrays(seed=1)["positions"]
    found = to_arviz(in_memory(), x=x)
    assert_same(found, x=x)
    assert found["sample_stats"].attrs["step_size"] == 0.5


@with_arviz
def test_a_streamed_folder(folder):
    assert_same(to_arviz(folder), x=2 * arrays()["positions"])


@with_arviz
def test_netcdf_and_back(folder, tmp_path):
    if not any(map(importlib.util.find_spec, ("h5netcdf", "netCDF4"))):
        pytest.skip("nothing that writes NetCDF is installed")
    import arviz

    path = tmp_path / "draws.nc"
    to_arviz(folder).to_netcdf(str(path))
    assert_same(arviz.from_netcdf(str(path)), x=2 * arrays()["positions"])


@with_arviz
def test_arviz_agrees_about_the_draws():
    import arviz

    from tiltflow.diagnostics.convergence import convergence

    summary = arviz.summary(to_arviz(in_memory()), var_names=["u"], round_to="none")
    ours = convergence(arrays()["positions"])
    np.testing.assert_allclose(summary["r_hat"].astype(float), ours.rhat, rtol=0.02)
    np.testing.assert_allclose(summary["ess_bulk"].astype(float), ours.ess_bulk, rtol=0.1)


def test_draws_that_cannot_be():
    none = {name: array[:, :0] for name, array in arrays().items()}
    with pytest.raises(InputError, match="4 chains of 0 draws"):
        to_arviz(in_memory(**none))
    with pytest.raises(InputError, match="x has shape"):
        to_arviz(in_memory(), x=np.zeros((CHAINS, DRAWS - 1, 3)))
    with pytest.raises(InputError, match="holds no draws"):
        to_arviz("/nowhere")


@pytest.mark.skipif(importlib.util.find_spec("arviz") is not None, reason="ArviZ is installed")
def test_without_arviz_it_says_what_to_install():
    with pytest.raises(InputError, match="pip install"):
        to_arviz(in_memory())
