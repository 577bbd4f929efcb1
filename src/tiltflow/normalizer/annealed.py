"""log Z by annealing both ways along a ladder, and the interval in between.

Particles climb from the backbone, others descend from draws of the tilted model
(`smc.travel`). What they say of Z bounds it from both sides whether or not their moves mix
(`bounds`). All particles of all rungs together give the estimate and its interval (`passages`),
and that interval holds only if it lies where the two sides do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import stdtrit

from tiltflow.errors import InputError, at_least_one
from tiltflow.mcmc.hmc import LogDensity
from tiltflow.normalizer import smc
from tiltflow.normalizer.bounds import Side, from_above, from_below
from tiltflow.normalizer.estimate import DISTRUST, LogZ
from tiltflow.normalizer.passages import pooled
from tiltflow.normalizer.values import Values
from tiltflow.parallel.processes import anywhere

MOST_APART = 3.5  # joint standard errors between two sides that tell the same story
MOST_SCATTER = 1.0  # nats, of the groups of a side: beyond it their mean rests on a few

OnRound = Callable[[int, int, float, float], None]


class Base(Protocol):
    """A density in place of the backbone's at the lower end, such as a mixture over the prior."""

    def latent_log_densities(self, u: Array, /) -> Array:
        """Of a batch, up to that of N(0, I) at 0; its log Z is 0."""
        ...

    def draw(self, key: PRNGKeyArray, number: int, /) -> Array:
        """Exact and independent draws."""
        ...


class Rounds(Protocol):
    """Keeps what rounds have told, so that a ladder can be gone on with."""

    def last(self) -> tuple[list[np.ndarray], dict[str, Any]] | None:
        """What was offered last, or None."""
        ...

    def offer(self, rounds: int, arrays: list[np.ndarray], plain: dict[str, Any], /) -> None:
        """Keep that of so many rounds; may raise, to end the computation."""
        ...


@dataclass(frozen=True)
class LadderSettings:
    """How log Z is bracketed.

    Attributes:
        particles: of a round in each direction, dealt into as many groups as there are chains.
        share: how far apart the rungs are, see `smc.plan`.
        least_rounds: before the bounds are looked at.
        most_rounds: after which they are what they are.
        tolerance: nats between the bounds at which rounds end.
        budget: seconds in which to be done: no round is begun that, by the longest so far, would
            end later; None for as long as it takes.
        at_once: particles that a device has in hand at a time, so that memory is bounded; 0: all
            of them; None: as many as `smc.that_fit`, some hundred megabytes of a large model.
    """

    particles: int = 2_048
    share: float = 0.4
    least_rounds: int = 2
    most_rounds: int = 8
    tolerance: float = 0.1
    budget: float | None = None
    at_once: int | None = None

    def check(self) -> None:
        """Raises InputError for a setting that cannot work."""
        at_least_one(self, "particles", "least_rounds", "most_rounds")
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; expected a number in (0, 1)")
        if self.at_once is not None and self.at_once < 0:
            raise InputError(
                f"at_once is {self.at_once}; expected a number of particles, 0 for all of them, "
                f"or None for as many as fit"
            )


def annealed(
    log_density: LogDensity,
    draws: Float[np.ndarray, "chains draws ..."],
    *,
    key: PRNGKeyArray,
    settings: LadderSettings | None = None,
    on_round: OnRound | None = None,
    mixture: Base | None = None,
    rounds: Rounds | None = None,
) -> LogZ:
    """log Z of exp(`log_density`) over N(0, I), from both sides.

    Args:
        log_density: of the tilted model in latent space, f(g(u)) - |u|^2 / 2, batched; if it is
            a pytree, another model of the same shapes does not compile anew.
        draws: of the tilted model, latent; chains independent of one another.
        key: random key; the same key and no budget give the same numbers.
        settings: see there.
        on_round: called after each with (rounds done, most rounds, lower, upper).
        mixture: where the ladder begins: exact draws, log Z = 0; None: at the backbone.
        rounds: keeps them, and is asked first for those that were made before; they have to be of
            the same density, draws and key.

    Raises:
        InputError: fewer than 4 chains, or settings that cannot work.
    """
    settings = settings or LadderSettings()
    settings.check()
    started = time.monotonic()
    groups, event = draws.shape[0], draws.shape[2:]
    if groups < 4:
        raise InputError(f"draws of {groups} chains; expected at least 4, to know the error")
    each = max(8, settings.particles // groups)
    plan_key, start_key, key = jr.split(key, 3)
    base = None if mixture is None else mixture.latent_log_densities

    def exact_draws(key: PRNGKeyArray) -> Array:
        if mixture is None:
            return jr.normal(key, (groups, each, *event))
        return mixture.draw(key, groups * each).reshape(groups, each, *event)

    at_once = settings.at_once
    before = None if rounds is None else rounds.last()
    if before is None:
        start = exact_draws(start_key).reshape(groups * each, *event)
        ladder = smc.plan(log_density, plan_key, start, jnp.asarray(settings.share), base, at_once)
    else:
        ladder = smc.Ladder(*(jnp.asarray(array) for array in before[0][:4]))
    if float(ladder.reached) != 1.0:
        return _unreached(float(ladder.reached))
    heard = _Heard(np.asarray(ladder.betas[: int(ladder.steps) + 1], np.float64))
    is_over = False
    if before is not None:
        heard.restore(*before[0][4:])
        is_over = before[1]["is_over"]
    descent = ladder.reverse()
    spread = np.linspace(0, draws.shape[1] - 1, settings.most_rounds * each).astype(int)
    longest = 0.0
    for number in range(len(heard.up), settings.most_rounds):
        if is_over:
            break
        began = time.monotonic()
        up_key, down_key, exact_key = jr.split(jr.fold_in(key, number), 3)
        exact = exact_draws(exact_key)
        chosen = jnp.asarray(draws[:, spread[number :: settings.most_rounds]])
        heard.listen(
            smc.travel(log_density, up_key, ladder, exact, base, at_once),
            smc.travel(log_density, down_key, descent, chosen, base, at_once),
        )
        below, above = heard.sides()
        if on_round is not None:
            on_round(number + 1, settings.most_rounds, below.bound, above.bound)
        now = time.monotonic()
        longest = now - began if number < 2 else max(longest, now - began)  # the first compiles
        near = abs(above.bound - below.bound) <= settings.tolerance
        spent = settings.budget is not None and anywhere(now - started + longest > settings.budget)
        is_over = (near and number + 1 >= settings.least_rounds) or spent
        if rounds is not None:
            arrays = [*(np.asarray(array) for array in ladder), *heard.arrays()]
            rounds.offer(number + 1, arrays, {"is_over": is_over})
    return heard.estimate(f"{groups} x {each} particles")


class _Heard:
    """What all passages have told so far."""

    def __init__(self, betas: Values) -> None:
        """Nothing yet, along `betas` [rungs]."""
        self.betas = betas
        self.up: list[Values] = []
        self.down: list[Values] = []
        self.f: list[list[Values]] = [[] for _ in betas]

    def listen(self, up: smc.Passage, down: smc.Passage) -> None:
        """Take in a round: a climb and a descent."""
        self.up.append(np.asarray(up.log_ratio, np.float64))
        self.down.append(np.asarray(down.log_ratio, np.float64))
        last = len(self.betas) - 1
        for rung, values in enumerate(self.f):
            values.append(np.asarray(up.f[rung], np.float64))
            values.append(np.asarray(down.f[last - rung], np.float64))

    def arrays(self) -> tuple[Values, Values, Values]:
        """What all rounds have told: up, down, and f `[rungs, 2 * rounds, groups, particles]`."""
        return np.stack(self.up), np.stack(self.down), np.stack([np.stack(f) for f in self.f])

    def restore(self, up: Values, down: Values, f: Values) -> None:
        """Take in the `arrays` of former rounds."""
        self.up, self.down, self.f = list(up), list(down), [list(rung) for rung in f]

    def sides(self) -> tuple[Side, Side]:
        """log Z from below and from above."""
        return from_below(np.stack(self.up, axis=1)), from_above(np.stack(self.down, axis=1))

    def estimate(self, particles: str) -> LogZ:
        """The pooled estimate, and whether it holds."""
        below, above = self.sides()
        words = (
            f"{len(self.betas)} rungs, {len(self.up)} rounds of {particles} each way: from below"
            f" {below.mean:.3f} ± {below.standard_error:.3f}, from above {above.mean:.3f} ±"
            f" {above.standard_error:.3f}."
        )
        f = np.stack([np.stack(values) for values in self.f])
        finite = np.isfinite(f).all()
        if not (finite and np.isfinite([below.mean, above.mean]).all()):
            return _refused(f"f is not finite everywhere on the ladder. {words}")
        guess = self.betas * (below.mean + above.mean) / 2
        found = pooled(self.betas, f[:, 0::2], f[:, 1::2], guess)
        mean, error = float(found.log_z[-1]), float(found.standard_error[-1])
        half = float(stdtrit(f.shape[2] - 1, 0.975)) * error
        reason = _contradiction(below, above, mean, error)
        if not reason and not found.converged:
            reason = "the equations of the pooled estimate were not solved"
        return LogZ(
            mean=mean,
            standard_error=error,
            low=mean - half,
            high=mean + half,
            method="ladder",
            ess_q=below.size,
            ess_p=above.size,
            lower=below.bound,
            upper=above.bound,
            holds=not reason,
            words=f"{DISTRUST}{reason}. {words}" if reason else words,
        )


def _contradiction(below: Side, above: Side, mean: float, error: float) -> str:
    """Why the sides and the pooled estimate cannot all be right, or nothing."""
    joint = float(np.hypot(below.standard_error, above.standard_error))
    gap = above.mean - below.mean
    if max(below.scatter, above.scatter) > MOST_SCATTER:
        return (
            f"groups of particles disagree by {max(below.scatter, above.scatter):.1f} nats, so that"
            " their mean rests on a few; take more particles or a finer ladder"
        )
    if abs(gap) > MOST_APART * joint + 1e-6 * (1.0 + abs(mean)):
        return (
            f"the two sides disagree by {abs(gap):.3f} nats, {abs(gap) / joint:.1f} standard"
            " errors; the chains have not reached p, or leave out a part of it"
        )
    for side in (below, above):
        joint = float(np.hypot(side.standard_error, error))
        if abs(side.mean - mean) > MOST_APART * joint + 1e-6 * (1.0 + abs(mean)):
            return (
                f"the pooled estimate {mean:.3f} lies apart from what the sides say; the moves on"
                " the ladder do not mix"
            )
    return ""


def _unreached(beta: float) -> LogZ:
    return _refused(
        f"{smc.MOST_RUNGS} rungs lead from the backbone only to beta = {beta:.3g}; f is too"
        " large or not finite: learn for fewer steps, or at a lower rate."
    )


def _refused(reason: str) -> LogZ:
    nan = float("nan")
    return LogZ(nan, nan, nan, nan, "ladder", nan, words=f"{DISTRUST}{reason}")
