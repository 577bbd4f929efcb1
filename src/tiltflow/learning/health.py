"""The health of learning, watched after every stage and acted on; every action is an event."""

from dataclasses import dataclass

import jax.numpy as jnp

from tiltflow.learning.state import Course

LOWEST_ACCEPTANCE = 0.4
LOWEST_SHARE = 0.01  # effective share of the witnesses: below it resampling leaves a handful
GROSS = 10.0  # times the agreement asked for
MEMORY = 0.7  # of the running mean of agreement and lag: one stage alone may be chance
MOST_EFFORT = 16
LOWEST_RATE_SCALE = 1e-3
SLOWEST_PACE = 1e-2  # a factor on the rate, below which haste is no reason to go slower


@dataclass
class Monitor:
    """What has been changed so far, and what was seen.

    Attributes:
        rate_scale: a factor on the learning rate.
        effort: a factor on the number of transitions.
        apart, behind: running means of `agreement` and `lag`.
        renews: whether particles can be made anew (`renewal.py`): where they lag that helps more
            than moving them for longer.
        due: whether it is time to.
    """

    rate_scale: float = 1.0
    effort: int = 1
    apart: float = 0.0
    behind: float = 0.0
    renews: bool = False
    due: bool = False

    def course(self) -> Course:
        """The same for a compiled stage."""
        return Course(jnp.asarray(self.rate_scale), jnp.asarray(self.effort))

    def react(
        self,
        *,
        agreement: float,
        agree_within: float,
        lag: float,
        share: float,
        acceptance: float,
        finite: bool,
    ) -> tuple[str, str] | None:
        """Change the settings if a stage went wrong; returns (action, why), or None.

        An action that starts with "roll back" asks the caller to return to the last good state.

        Args:
            agreement: mean f of learners minus that of witnesses, in standard errors.
            agree_within: standard errors that are still agreement.
            lag: of the witnesses behind f, in standard errors (`particles.lag`).
            share: effective share of the witnesses' weights.
            acceptance: mean Metropolis probability.
            finite: whether f and the particles are.
        """
        if not finite:
            self._slow_down(0.5)
            return "roll back, halve the rate", "f or the particles are not finite"
        if not share >= LOWEST_SHARE:
            self._slow_down(0.7)
            return (
                "roll back, lower the rate by 30%",
                f"the weights collapsed: {share:.1%} of the witnesses are left",
            )
        if not abs(agreement) <= GROSS * agree_within:
            self._slow_down(0.7)
            return (
                "roll back, lower the rate by 30%",
                f"learners and witnesses are {agreement:+.0f} standard errors apart",
            )
        if acceptance < LOWEST_ACCEPTANCE:
            self._slow_down(0.7)
            return "roll back, lower the rate by 30%", f"acceptance fell to {acceptance:.2f}"
        self.apart = MEMORY * self.apart + (1 - MEMORY) * agreement
        self.behind = MEMORY * self.behind + (1 - MEMORY) * lag
        if not max(abs(self.apart), abs(self.behind)) <= agree_within:
            why = (
                f"the chains lag: learners are {self.apart:+.1f}, witnesses {self.behind:+.1f} "
                f"standard errors from where f is, over the last stages"
            )
            return self.catch_up(), why
        return None

    def pace(self, steps: int, least: int) -> tuple[str, str] | None:
        """A lower rate after a healthy stage that was over in fewer than `least` steps, or None.

        Then single steps carry f hither and thither faster than their mean leads anywhere.
        """
        if steps >= least or self.rate_scale <= SLOWEST_PACE:
            return None
        self._slow_down(0.7)
        return "lower the rate by 30%", f"the stage was over after {steps} steps"

    @property
    def gave_up(self) -> bool:
        """Whether the rate has been lowered so often that going on is pointless."""
        return self.rate_scale < LOWEST_RATE_SCALE

    def catch_up(self) -> str:
        """Other particles, or more transitions, or a lower rate. Returns the action."""
        self.apart = self.behind = 0.0
        if self.renews:
            self.due = True
            self._slow_down(0.7)
            return "particles anew, lower the rate by 30%"
        if self.effort < MOST_EFFORT:
            self.effort *= 2
            return f"{self.effort} times the transitions"
        self._slow_down(0.7)
        return "lower the rate by 30%"

    def _slow_down(self, factor: float) -> None:
        self.rate_scale *= factor
