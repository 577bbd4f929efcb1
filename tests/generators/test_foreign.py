"""The bridge to other frameworks: values and gradients, alone, in batches and inside programs."""

import importlib.util

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import Generator
from tiltflow.backbones.foreign import from_foreign, from_torch
from tiltflow.errors import InputError
from tiltflow.mcmc import sample
from tiltflow.model.tilted import TiltedModel

WEIGHT = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


class Stand:
    """tanh(W z), as a module of NumPy; `wrong` breaks its gradient."""

    def __init__(self, wrong=1.0):
        self.wrong = wrong

    def forward(self, z):
        return np.tanh(z @ WEIGHT.T)

    def backward(self, z, cotangent):
        return self.wrong * (cotangent * (1 - np.tanh(z @ WEIGHT.T) ** 2)) @ WEIGHT


def same(z):
    return jnp.tanh(jnp.asarray(WEIGHT) @ z)


def check_gradient(function) -> None:
    """Against central differences, for each of a batch inside a compiled program."""

    def scalar(z):
        return jnp.sum(jnp.sin(2 * function(z)))

    z = jr.normal(jr.key(0), (7, 2))
    found = jax.jit(jax.vmap(jax.grad(scalar)))(z)
    step = 1e-2
    for axis in range(2):
        shift = step * jnp.eye(2)[axis]
        values = jax.vmap(scalar)
        slope = (values(z + shift) - values(z - shift)) / (2 * step)
        np.testing.assert_allclose(found[:, axis], slope, atol=5e-3)


def test_gradients_are_those_of_finite_differences():
    check_gradient(from_foreign(Stand(), (2,)))
    with pytest.raises(AssertionError):
        check_gradient(from_foreign(Stand(wrong=1.1), (2,)))


def test_values_are_the_modules_alone_and_in_batches_of_batches():
    function = from_foreign(Stand(), (2,))
    z = jr.normal(jr.key(1), (4, 5, 2))
    np.testing.assert_allclose(function(z[0, 0]), same(z[0, 0]), rtol=1e-6)
    nested = jax.jit(jax.vmap(jax.vmap(function)))(z)
    np.testing.assert_allclose(nested, jax.vmap(jax.vmap(same))(z), rtol=1e-6)


def test_chains_through_the_bridge_are_those_of_jax():
    """The same seed, the same draws: a tilted model over the module and over its twin."""

    def draws(function):
        backbone = Generator.from_function(function, (2,), noise=0.5)
        model = TiltedModel(backbone, lambda x: -0.5 * jnp.sum((x - 0.5) ** 2))
        start = jr.normal(jr.key(2), (4, *backbone.latent_shape))
        found = sample(
            jr.key(3), model.latent_log_densities, start, num_draws=5, num_warmup=5, step_size=0.2
        )
        return np.asarray(found.positions)

    np.testing.assert_allclose(draws(from_foreign(Stand(), (2,))), draws(same), atol=1e-3)


def test_what_is_no_module_is_an_input_error():
    class Pooled(Stand):
        def forward(self, z):
            return np.sum(z, axis=0)

    with pytest.raises(InputError, match="expected two finite examples"):
        from_foreign(Pooled(), (3,))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_module_of_pytorch():
    import torch

    layer = torch.nn.Linear(2, 3, bias=False)
    layer.weight.data = torch.tensor(WEIGHT)
    function = from_torch(torch.nn.Sequential(layer, torch.nn.Tanh()).eval(), (2,))
    check_gradient(function)
    z = jr.normal(jr.key(4), (2,))
    np.testing.assert_allclose(function(z), same(z), rtol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_the_bridge_says_what_to_install():
    with pytest.raises(InputError, match="PyTorch is not installed; expected the extra"):
        from_torch(None, (2,))
