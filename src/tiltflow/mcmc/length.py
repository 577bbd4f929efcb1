"""How warm-up treats the length of trajectories: a rule, pooled over all chains.

A rule is a module with four small functions. It sees where the chains were and what the
transition told (`Info`, or a kernel's own tuple with more in it, such as its proposals), so an
adaptive criterion is one more rule and changes nothing in the driver.
"""

from typing import Any, Protocol

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class LengthRule(Protocol):
    """The contract of a rule; its state is any pytree of arrays."""

    def init(self, length: Float[Array, ""]) -> Any:
        """The memory, at a first length."""
        ...

    def update(self, memory: Any, before: Float[Array, "chains *event"], info: Any) -> Any:
        """The memory after a transition that started at `before`."""
        ...

    def length(self, memory: Any) -> Float[Array, ""]:
        """The length to try next."""
        ...

    def final(self, memory: Any) -> Float[Array, ""]:
        """The length to keep once warm-up is over."""
        ...


class FixedLength(eqx.Module):
    """The rule of kernels that have no length to adapt: it stays what it was."""

    def init(self, length: Float[Array, ""]) -> Float[Array, ""]:
        """The length is the memory."""
        return jnp.asarray(length, float)

    def update(self, memory: Any, before: Float[Array, "chains *event"], info: Any) -> Any:
        """Nothing is learned."""
        return memory

    def length(self, memory: Any) -> Float[Array, ""]:
        """As at the start."""
        return memory

    def final(self, memory: Any) -> Float[Array, ""]:
        """As at the start."""
        return memory
