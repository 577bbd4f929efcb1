"""The autoencoder as a generator, and recovery that needs its noise and its chains."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


def rows(number, rng):
    """Six numbers near a bent surface of two dimensions, between 0 and 1."""
    t = rng.uniform(-1, 1, (number, 2))
    a, b = t.T
    x = np.stack([a, b, a * b, a**2, b**2, a - b], axis=1) / 4 + 0.5
    return (x + 0.01 * rng.standard_normal(x.shape)).astype("f4")


def test_z_of_the_rows_is_standard_and_leads_back(recipe):
    s07, x = recipe("s07"), rows(400, np.random.default_rng(0))
    network = s07.Autoencoder(6, key=jr.key(0))
    whitened = network.whitened(x)
    z, log_scale = jax.vmap(whitened.encode)(jnp.asarray(x))
    assert np.allclose(np.cov(np.asarray(z).T), np.eye(3), atol=0.02)
    raw, _ = jax.vmap(network.encode)(jnp.asarray(x))
    assert not np.allclose(np.cov(np.asarray(raw).T), np.eye(3), atol=0.02)
    assert np.all(np.asarray(log_scale) < -5)
    again = jax.vmap(whitened.decode)(z) - jax.vmap(network.decode)(raw)
    assert float(jnp.abs(again).max()) < 1e-3
    assert s07.backbone_of(whitened, x).latent_shape == (9,)


def test_a_folder_that_is_not_there(recipe, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["s07", "--data", "nowhere"])
    assert recipe("s07").main() == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.slow
def test_recovery_tells_rows_off_the_surface(recipe):
    """The twin: no noise and no chain, so that negatives are reconstructions, is behind."""
    rng = np.random.default_rng(0)
    x, test = rows(1_500, rng), rows(400, rng)
    test[200:] = test[200:][:, rng.permutation(6)]  # each number ordinary, the row not

    def auroc(**how):
        found = recipe("s07").scores(x, test, 300, 0, **how)["ours"]
        return (found[200:, None] > found[None, :200]).mean()

    whole = auroc()
    assert whole > 0.8
    assert whole > auroc(transitions=0, low=1e-3, high=1e-3) + 0.015
