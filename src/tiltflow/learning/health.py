"""The health of learning, watched after every stage and acted on; every action is an event."""

from dataclasses import dataclass

LOWEST_ACCEPTANCE = 0.4
LOWEST_SHARE = 0.01  # effective share of the witnesses: below it resampling leaves a handful
GROSS = 4.0  # times the agreement asked for
LOWEST_RATE_SCALE = 1e-3


@dataclass
class Monitor:
    """What has been changed so far.

    Attributes:
        share_end: the effective share of the witnesses at which a stage ends.
        rate_scale: a factor on the learning rate.
    """

    share_end: float
    rate_scale: float = 1.0

    def react(
        self,
        *,
        agreement: float,
        agree_within: float,
        share: float,
        acceptance: float,
        finite: bool,
    ) -> tuple[str, str] | None:
        """Change the settings if a stage went wrong; returns (action, why), or None.

        An action that starts with "roll back" asks the caller to return to the last good state.
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
        if not abs(agreement) <= agree_within:
            self.share_end = max(self.share_end, min(0.8, self.share_end + 0.1))
            return (
                f"end stages at an effective share of {self.share_end:.1f}",
                f"learners and witnesses are {agreement:+.1f} standard errors apart after all "
                f"transitions allowed",
            )
        return None

    @property
    def gave_up(self) -> bool:
        """Whether the rate has been lowered so often that going on is pointless."""
        return self.rate_scale < LOWEST_RATE_SCALE

    def _slow_down(self, factor: float) -> None:
        self.rate_scale *= factor
