"""Gaussian-exact HMC: the N(0, I) of the latent space is rotated exactly, only f kicks.

The latent log-density is f(g(u)) - |u|^2 / 2. Under the second term alone, position and momentum
turn around each other in circles, which no discretisation need approximate; the kick is by the
gradient of f = log-density + |u|^2 / 2. With f = 0 every proposal is accepted, in any dimension.
Shahbaba, Lan, Johnson, Neal 2014, "Split Hamiltonian Monte Carlo" (arXiv 1106.5941), section 2.1.
"""

import jax.numpy as jnp
from jaxtyping import Array

from tiltflow.mcmc.batch import half_square, per_chain
from tiltflow.mcmc.hamiltonian import Hamiltonian
from tiltflow.mcmc.trajectory import Splitting


class GaussianHMC(Hamiltonian):
    """HMC whose drift is a rotation; a step size is an angle, in radians."""

    @property
    def splitting(self) -> Splitting:
        """Rotations, and kicks by f."""
        return Splitting(
            force=lambda position, gradient: gradient + position,
            drift=rotate,
            log_target=lambda position, log_density: log_density,
        )


def tempered(beta: Array) -> Splitting:
    """The splitting of beta * f - |u|^2 / 2, one beta a chain, on values of f - |u|^2 / 2."""

    def log_target(position: Array, log_density: Array) -> Array:
        normal = half_square(position)
        return beta * (log_density + normal) - normal

    return Splitting(
        force=lambda position, gradient: per_chain(beta, position) * (gradient + position),
        drift=rotate,
        log_target=log_target,
    )


def rotate(position: Array, momentum: Array, angle: Array) -> tuple[Array, Array]:
    """The exact motion of position and momentum under |u|^2 / 2 for the time `angle`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * position + sin * momentum, cos * momentum - sin * position
