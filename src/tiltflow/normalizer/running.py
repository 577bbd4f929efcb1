"""log Z while learning: the bridge of `bridge.py` on weighted draws, inside a compiled loop.

The same equation, Bennett (1976) and Meng and Wong (1996, equation 4.1), with particles of p
that carry log-weights and enter s_p with their effective number. Its two sides are monotone in
c, so a fixed number of bisections between the smallest and the largest f finds the root to
float32's precision whatever the draws. An interval is the business of `bridge`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

HALVINGS = 40
"""Enough for a range of 1e4 nats at float32's precision of the root."""


def bridge_jax(
    f_q: Float[Array, " n"], f_p: Float[Array, " m"], log_w_p: Float[Array, " m"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """log Z in nats, and the effective draws of q and of p on which it rests.

    Nothing is checked and nothing is raised: non-finite values give a non-finite answer.

    Args:
        f_q: [n], f at independent exact draws of q.
        f_p: [m], f at weighted draws of p.
        log_w_p: [m], their log-weights, up to a constant; -inf drops a draw.

    Returns:
        log_z, ess_q, ess_p, each a scalar; the sizes as in `LogZ`, but blind to correlation
        between the draws of p.
    """
    centre = jnp.median(f_q)
    q, p = f_q - centre, f_p - centre
    log_w = log_w_p - logsumexp(log_w_p)
    log_n_q = jnp.log(jnp.asarray(len(q), q.dtype))
    shift = -logsumexp(2 * log_w) - log_n_q  # log(s_p / s_q)

    def sides(c):
        """The terms of both sides in logarithms; each side is the logsumexp of its terms."""
        return log_sigmoid(q - c + shift) - log_n_q, log_w + log_sigmoid(c - shift - p)

    def halve(_, bracket):
        low, high = bracket
        middle = low + (high - low) / 2
        left, right = sides(middle)
        below = logsumexp(left) - logsumexp(right) > shift  # then the root is above
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.minimum(q.min(), p.min()), jnp.maximum(q.max(), p.max())
    low, high = jax.lax.fori_loop(0, HALVINGS, halve, ends)
    c = low + (high - low) / 2
    left, right = sides(c)
    return c + centre, _size(left), _size(right)


def _size(log_weights: Float[Array, " n"]) -> Float[Array, ""]:
    """(sum w)^2 / sum w^2."""
    return jnp.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights))
