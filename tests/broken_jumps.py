"""Jumps to a proposal that leave the proposal's density out of the acceptance."""

from tiltflow.mcmc import ISIR, Independence
from tiltflow.mcmc.point import tilt_of


class Forgets(Independence):
    """One draw at a time."""

    def _over_proposal(self, point):
        return tilt_of(point)


class ManyForget(ISIR):
    """Several draws at a time."""

    def _over_proposal(self, point):
        return tilt_of(point)
