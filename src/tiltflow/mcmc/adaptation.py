"""What warm-up remembers: the step size's dual averaging, and the rule of the length.

While adapting, a transition tries the next step size and length; afterwards every transition has
the averaged ones. Both are traced, so tuning again never compiles again.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tiltflow.mcmc import warmup
from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.length import LengthRule


class Adaptation(NamedTuple):
    """The memory of warm-up.

    Attributes:
        step: of the step size (`warmup.py`).
        length: of the length, as its rule has it (`length.py`).
    """

    step: warmup.DualAveraging
    length: Any


def init(step_size: Float[Array, ""], length: Float[Array, ""], rule: LengthRule) -> Adaptation:
    """Start at this step size and length."""
    return Adaptation(warmup.init(step_size), rule.init(length))


def tuning(memory: Adaptation, adapting: Bool[Array, ""] | bool, rule: LengthRule) -> Tuning:
    """What the next transition is to use."""
    return Tuning(
        jnp.where(adapting, warmup.step_size(memory.step), warmup.final(memory.step)),
        jnp.where(adapting, rule.length(memory.length), rule.final(memory.length)),
    )


def update(
    memory: Adaptation,
    adapting: Bool[Array, ""],
    target: Float[Array, ""] | float | None,
    rule: LengthRule,
    before: Float[Array, "chains *event"],
    info: Any,
) -> Adaptation:
    """The memory after a transition; as it was if not `adapting`.

    Args:
        memory: before the transition.
        adapting: whether this is warm-up.
        target: the kernel's; with None the step size is left alone.
        rule: of the length.
        before: the positions that the transition started from.
        info: what the kernel told of it; one whose `is_tuned` is false says nothing of the step.
    """
    step = memory.step
    if target is not None:
        learned = warmup.update(step, info.acceptance_rate, target)
        counts = getattr(info, "is_tuned", True)
        step = jax.tree.map(lambda new, old: jnp.where(counts, new, old), learned, step)
    new = Adaptation(step, rule.update(memory.length, before, info))
    return jax.tree.map(lambda new, old: jnp.where(adapting, new, old), new, memory)
