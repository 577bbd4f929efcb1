"""Flows that are wrong in one way each: none may pass the contract."""

import jax.numpy as jnp

from tiltflow.backbones import CouplingFlow, Glow


class LogDetFlipped(CouplingFlow):
    """Broken: the flow's log-determinant has the wrong sign."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, -log_det


class UnitsForgotten(CouplingFlow):
    """Broken: the density is one of coordinates, not of data."""

    def log_prob(self, x):
        return self.log_prob_coordinates(self.units.encode(x))


class NotTheInverse(CouplingFlow):
    """Broken: push and pull are different maps."""

    def coordinates(self, u):
        return super().coordinates(1.05 * u)


class PushIgnoresUnits(CouplingFlow):
    """Broken: push returns coordinates, in the shape of data."""

    def push(self, u):
        return self.coordinates(u).reshape(self.data_shape)


class FlatData(CouplingFlow):
    """Broken: push forgets the shape of the data."""

    def push(self, u):
        return super().push(u).ravel()


class QuadraticTails(CouplingFlow):
    """Broken: far away the map is quadratic."""

    def coordinates(self, u):
        y = super().coordinates(u)
        return y + 0.1 * y * jnp.abs(y)


class ExponentialTails(CouplingFlow):
    """Broken: the map overflows float32 where a chain may go."""

    def coordinates(self, u):
        return jnp.sinh(4 * super().coordinates(u))


class GlowLogDetFlipped(Glow):
    """Broken: the flow's log-determinant has the wrong sign."""

    def inverse(self, y):
        u, log_det = super().inverse(y)
        return u, -log_det


class GlowNotTheInverse(Glow):
    """Broken: push and pull are different maps."""

    def coordinates(self, u):
        return super().coordinates(1.05 * u)
