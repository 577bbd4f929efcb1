"""What is looked at of chains, beside each latent coordinate."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.evaluation import mixing
from tiltflow.evaluation.mixing import PROJECTIONS, looked_at

CHAINS, DRAWS, DIM = 8, 400, 24


class Quarters(eqx.Module):
    """Data are far away in a direction of their own where u[0] and u[1] have one sign."""

    dim: int = DIM

    def coordinates(self, u):
        return u + 4.0 * jnp.sign(u[0] * u[1]) * jnp.ones(DIM)


class Model(eqx.Module):
    backbone: Quarters


def latent_draws(*, stuck):
    """Half of the chains stay where u[0] and u[1] have one sign, the others where they have not."""
    u = np.random.default_rng(0).normal(size=(CHAINS, DRAWS, DIM)).astype(np.float32)
    if stuck:
        side = np.where(np.arange(CHAINS) < CHAINS // 2, 1, -1)[:, None]
        u[..., 1] = np.abs(u[..., 1]) * np.sign(u[..., 0]) * side
    return u


@pytest.mark.parametrize("stuck", [False, True])
def test_chains_that_stay_in_a_kind_of_data_are_seen(stuck):
    """Each coordinate, f and the norm look well; only the data do not."""
    u = latent_draws(stuck=stuck)
    f = np.random.default_rng(1).normal(size=u.shape[:2])
    names, found = looked_at(Model(Quarters()), u, f, np.sum(u**2, axis=2))
    assert names[DIM:] == ("f", "|u|^2", *(f"projection[{i}]" for i in range(PROJECTIONS)))
    assert np.max(found.rhat[: DIM + 2]) < 1.03
    assert (np.max(found.rhat[DIM + 2 :]) > 1.2) is np.bool_(stuck)


def test_of_many_draws_some_are_projected(monkeypatch, tmp_path):
    """Evenly thinned, whatever file they lie in: never all of them are read."""
    u = latent_draws(stuck=False)
    np.save(tmp_path / "u.npy", np.ascontiguousarray(np.swapaxes(u, 0, 1)))
    mapped = np.swapaxes(np.load(tmp_path / "u.npy", mmap_mode="r"), 0, 1)
    f, norm = np.random.default_rng(1).normal(size=u.shape[:2]), np.sum(u**2, axis=2)
    model = Model(Quarters())
    every, third = looked_at(model, u, f, norm)[1], looked_at(model, u[:, ::3], f, norm)[1]
    monkeypatch.setattr(mixing, "LOOKED_AT", u.size // 3 + 8 * DIM)
    found = looked_at(model, mapped, f, norm)[1]
    assert np.allclose(found.rhat[: DIM + 2], every.rhat[: DIM + 2])
    assert np.allclose(found.rhat[DIM + 2 :], third.rhat[DIM + 2 :])
    assert not np.allclose(found.rhat[DIM + 2 :], every.rhat[DIM + 2 :])
