"""Jumps to a proposal that leave the proposal's density out of the acceptance.

The kernels are the real ones. How much of the density counts is a number of their proposal, so
that sound jumps and broken ones are one program.
"""

import equinox as eqx
import jax.numpy as jnp

from tiltflow.mcmc.independence import Proposal

SOUND, FORGETS = 1.0, 0.0


class Counted(eqx.Module):
    """A proposal whose log-density counts `share` times."""

    proposal: Proposal
    share: jnp.ndarray

    def __call__(self, u):
        return self.share * self.proposal(u)

    def renew(self, key, u):
        return self.proposal.renew(key, u)


def counted(proposal, share):
    return Counted(proposal, jnp.asarray(share, jnp.float32))
