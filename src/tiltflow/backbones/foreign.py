"""Generators of another framework as functions of JAX: PyTorch modules above all.

All that is needed of them is `Foreign`: values, and the product of a cotangent with the Jacobian,
both of batches of NumPy arrays. They are called back from compiled programs, so chains stay in
one program, but each evaluation leaves it: expect the speed of the other framework, and its
memory. The module is neither learned nor saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError


class Foreign(Protocol):
    """A differentiable function of batches, outside JAX."""

    def forward(self, z: np.ndarray) -> np.ndarray:
        """`[n, *latent_shape]` to `[n, *data_shape]`, float32."""
        ...

    def backward(self, z: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """`[n, *latent_shape]` and `[n, *data_shape]` to the gradients, `[n, *latent_shape]`."""
        ...


def from_foreign(foreign: Foreign, latent_shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """A function of one example, for `Generator.from_function`; reverse-mode derivatives only.

    Raises:
        InputError: values that are not finite, or not one example for each that goes in.
    """
    known = np.asarray(foreign.forward(np.zeros((2, *latent_shape), np.float32)))
    if len(known) != 2 or not np.isfinite(known).all():
        raise InputError(
            f"the module returns shape {known.shape} for two zeros of shape {latent_shape}; "
            f"expected two finite examples"
        )
    data_shape = known.shape[1:]

    def values(z: Any) -> np.ndarray:
        flat = np.asarray(z, np.float32).reshape(-1, *latent_shape)
        found = np.asarray(foreign.forward(flat), np.float32)
        return found.reshape(*z.shape[: z.ndim - len(latent_shape)], *data_shape)

    def gradients(z: Any, cotangent: Any) -> np.ndarray:
        flat = np.asarray(z, np.float32).reshape(-1, *latent_shape)
        along = np.asarray(cotangent, np.float32).reshape(-1, *data_shape)
        return np.asarray(foreign.backward(flat, along), np.float32).reshape(z.shape)

    @jax.custom_vjp
    def function(z: Float[Array, "..."]) -> Float[Array, "..."]:
        shape = jax.ShapeDtypeStruct(data_shape, jnp.float32)
        return jax.pure_callback(values, shape, z, vmap_method="expand_dims")

    def forward(z: Array) -> tuple[Array, Array]:
        return function(z), z

    def backward(z: Array, cotangent: Array) -> tuple[Array]:
        shape = jax.ShapeDtypeStruct(z.shape, jnp.float32)
        return (jax.pure_callback(gradients, shape, z, cotangent, vmap_method="broadcast_all"),)

    function.defvjp(forward, backward)
    return function


def from_torch(module: Any, latent_shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """A PyTorch module that maps `[n, *latent_shape]` to `[n, *data_shape]`, as `from_foreign`.

    It is used as it is: call its `eval()` first.

    Raises:
        InputError: PyTorch is not installed (the extra `torch`), or as `from_foreign`.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise InputError(
            "PyTorch is not installed; expected the extra: pip install 'tiltflow[torch]'"
        ) from None
    return from_foreign(_Torch(module, torch), latent_shape)


class _Torch:
    """`Foreign` of a PyTorch module; its gradients are autograd's."""

    def __init__(self, module: Any, torch: Any) -> None:
        """On the device and in the type of the module's parameters, if it has any."""
        self.module, self.torch = module, torch
        parameter = next(iter(module.parameters()), torch.zeros(()))
        self.place = {"device": parameter.device, "dtype": parameter.dtype}

    def forward(self, z: np.ndarray) -> np.ndarray:
        with self.torch.no_grad():
            return self.module(self._tensor(z)).float().cpu().numpy()

    def backward(self, z: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        tensor = self._tensor(z).requires_grad_()
        with self.torch.enable_grad():
            out = self.module(tensor)
        (found,) = self.torch.autograd.grad(out, tensor, self._tensor(cotangent))
        return found.float().cpu().numpy()

    def _tensor(self, values: np.ndarray) -> Any:
        return self.torch.tensor(values).to(**self.place)
