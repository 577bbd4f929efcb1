"""How the seconds of a budget are shared among flows, a contrast and a judgement.

A budget is for the whole fit. A tilt's weights, chains and a judgement take what they take; a
contrast takes a part of what is left, so the flows are what is planned. All that follows them is
told from what a step of theirs takes, in passes of a row through a network: what a second is worth
differs between machines, and what a pass is worth hardly does.
"""

from collections.abc import Callable
from typing import NamedTuple

from tiltflow.fitting.settings import FEW_ROWS, VERY_MANY_COLUMNS, VERY_MANY_ROWS, Settings

AFTER = 6.0  # seconds that a judgement, a report and the process itself take, at least
COMPILING, OF_CONTRASTS = 5.0, 7.0  # seconds that programs still take; those of a contrast, more
SCORED = 20  # draws of a held-out row that a judgement scores
TRIES = 10  # draws of a transition of chains under a contrast: 5 of the digits, 16 at most
PASSES = 3  # through a network, in a step of learning
A_DRAW, A_SCORE = 2.0, 1.4  # passes through one flow; a score asks all of them
OF_CONTRAST = 0.3  # of a step of a flow's learning, a step of the contrast's
MOST_OF_CONTRAST = 0.3  # of what is left for learning
MOST = 8  # flows
SECONDS_A_FLOW = {VERY_MANY_ROWS: 60.0, FEW_ROWS: 25.0, 0: 15.0}  # by rows
SECONDS_OF_MANY_COLUMNS = 150.0
BEFORE_CONTRAST = 40.0  # seconds of the start, of compiling and of a judgement beside a contrast


class Budget(NamedTuple):
    """Of a whole fit.

    Attributes:
        settings: of the fit; those of its members have the seconds.
        held_out: rows.
        flows: that are learned.
        clock: seconds since the fit began.
        is_compiled: whether the programs of what follows the flows are.
    """

    settings: Settings
    held_out: int
    flows: int
    clock: Callable[[], float]
    is_compiled: Callable[[], bool]

    def for_flows(self, step: float, spent: float = 0.0) -> float:
        """Seconds that were left for flows some seconds ago.

        Args:
            step: seconds that a step of a flow takes; 0: not known yet.
            spent: how many seconds ago.
        """
        drawn = self.settings.tilt.bank if contrasts(self.settings) else 0  # to contrast with
        left = self.for_contrast(step) + spent - self._draws(drawn, step)
        steps = self.settings.tilt.nce_steps if contrasts(self.settings) else 0
        return left - min(steps * OF_CONTRAST * step, MOST_OF_CONTRAST * max(left, 0.0))

    def for_contrast(self, step: float) -> float:
        """Seconds that are left when the flows are learned."""
        sampling, tries = self.settings.sampling, TRIES if contrasts(self.settings) else 1
        chains = sampling.chains * (sampling.warmup + sampling.draws) * tries
        drawn = self.settings.tilt.bank + sampling.exact_draws + chains
        scores = SCORED * self.held_out * A_SCORE * self.flows * self._pass(step)
        after = AFTER + self._draws(drawn, step) + scores
        if not self.is_compiled():
            after += COMPILING + OF_CONTRASTS * contrasts(self.settings)
        return self.settings.members.budget - self.clock() - after

    def _draws(self, number: int, step: float) -> float:
        """About what so many exact draws and their scores take."""
        return number * (A_DRAW + A_SCORE * self.flows) * self._pass(step)

    def _pass(self, step: float) -> float:
        return step / (PASSES * self.settings.members.batch)


def number_of_flows(settings: Settings, rows: int, columns: int) -> int:
    """As the settings have it, or as many as suit the budget."""
    if not (budget := settings.members.budget):
        return settings.members.flows
    least, each = next((least, x) for least, x in SECONDS_A_FLOW.items() if rows >= least)
    if columns >= VERY_MANY_COLUMNS:
        each = SECONDS_OF_MANY_COLUMNS
    elif contrasts(settings):
        budget -= BEFORE_CONTRAST
    fewest = 1 if least == VERY_MANY_ROWS or contrasts(settings) else 2
    return min(max(round(budget / each), fewest), MOST)


def contrasts(settings: Settings) -> bool:
    """Whether a contrast is learned beside a linear tilt."""
    return settings.tilt.learner == "nce+linear"
