"""Quality beside a generator's likelihood: draws of chains are known as such."""

from types import SimpleNamespace

import jax.random as jr
import numpy as np
import pytest
from correlated import standing

from tiltflow.evaluation import generated


def check_zero(seeds=range(30)):
    """The kernel distance of 20 chains that stand still, from the data's own distribution."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        test, train = rng.normal(size=(2, 200, 3))
        positions = np.repeat(rng.normal(size=(20, 1, 3)), 50, axis=1)
        as_they_are = SimpleNamespace(push=lambda latent, noise: latent)
        block = generated._quality(as_they_are, positions, test, train, jr.key(seed))
        found.append(block["tilted"]["kernel"])
    assert abs(standing(found)) < 4


def test_chains_like_the_data_are_at_zero(monkeypatch):
    check_zero()
    over_chains = generated.over_chains

    def forgotten(positions, rows):
        return over_chains(positions, rows)[0], np.arange(rows)

    monkeypatch.setattr(generated, "over_chains", forgotten)
    with pytest.raises(AssertionError):  # power: which chain a draw is of is lost
        check_zero()
