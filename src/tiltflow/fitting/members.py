"""The members of an ensemble, whose flows are learned for as long as held-out rows are worth it.

Their number is set at the start, as the programs of all that follows depend on it; their lengths
follow from whether more steps pay, and in a budget from how long a step takes (`budget.py`).
"""

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import AutoregressiveFlow, CelledFlow, Ensemble, MixtureDensity
from tiltflow.backbones.cells import FoundCells
from tiltflow.fitting.budget import Budget, number_of_flows
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.stages import Listen, Stages
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import CHUNK
from tiltflow.learning.fit_backbone import fit_density
from tiltflow.learning.fit_copula import fit_copula
from tiltflow.learning.fit_members import (
    begin_celled,
    begin_flow,
    cells_of_rows,
    evenly,
    fit_base,
    fit_mixtures,
    together,
    weighed,
)
from tiltflow.learning.keeping import Keeper
from tiltflow.model.specs import ModelSpec

LONGER = 3  # times as many steps, of the second flow
LONGEST = 10  # times as many, of the only one in a budget
PAYS = 0.02  # nats that more steps have to bring
FIRST_SHARE = 0.5  # of the time left, for each of the first two flows, and where more steps pay
HOPE = 1.5  # times as many steps as the last ones would fit: what does not is taken off the plan


class Went(NamedTuple):
    """How the learning of a flow went.

    Attributes:
        nll: of held-out rows, nats.
        step: at which it was best; 0: where it began.
        seconds: of a step; NaN: not known.
    """

    nll: float
    step: int
    seconds: float


def steps_of(
    went: Sequence[Went],
    steps: int,
    affordable: float = math.inf,
    *,
    is_last: bool = False,
    in_budget: bool = False,
) -> int:
    """How long the next flow is learned.

    The second is a trial of more steps. What it shows, held-out rows say: how much structure there
    is, the number of rows does not. A first flow that has not moved from where it began is left at
    that. Where more steps pay, all that can be afforded are taken. The only flow in a budget is
    planned for more than that, and ends when its time is over.

    Args:
        went: the flows before it.
        steps: of the first.
        affordable: steps that there is time for; infinite: no budget.
        is_last: no other will show whether more steps pay, so that all are taken.
        in_budget: its time is limited, and what a step takes may not be known yet.
    """
    wanted: float = steps
    if not went and is_last and in_budget:
        wanted = LONGEST * steps
    elif went and went[0].step > 0:
        longer = LONGER * steps
        if (is_last and len(went) == 1) or pays(went):
            wanted = affordable if math.isfinite(affordable) else longer
        elif len(went) == 1:
            wanted = longer
    return max(1, math.ceil(min(wanted, affordable) / CHUNK)) * CHUNK


def pays(went: Sequence[Went]) -> bool:
    """Whether the second flow, of more steps, was the better one."""
    return len(went) > 1 and went[1].nll < went[0].nll - PAYS


def step_of(went: Sequence[Went]) -> float:
    """Seconds of a step, as far as they are known; 0: not."""
    return min((one.seconds for one in went if one.seconds > 0), default=0.0)


class _Making(NamedTuple):
    """What flows are made of, as `with_members` has it."""

    stages: Stages
    train: Rows
    val: Rows
    settings: Settings
    mixtures: Sequence[Future[MixtureDensity]]
    flows: int
    in_cells: tuple[MixtureDensity, FoundCells] | None
    key: PRNGKeyArray
    listen: Listen
    keeper: Keeper
    is_compiled: Callable[[], bool]

    def begun(self, number: int) -> AutoregressiveFlow | CelledFlow:
        """A flow at its mixture; flows beyond them start at the same ones in another order.

        Where columns lie in cells, all start at the one of the other columns.
        """
        if self.in_cells is not None:
            return begin_celled(*self.in_cells, self.settings.members, key=self._keys(number)[0])
        base = self.mixtures[number % len(self.mixtures)].result()
        return begin_flow(base, self.settings.members, key=self._keys(number)[0])

    def learned(self, went: Sequence[Went]) -> tuple[Any, Went]:
        """The flow after these, and how it went."""
        number, many, keeper = len(went), self.settings.members, self.keeper
        begun, stage = self.begun(number), f"member {number}"

        def learn() -> tuple[Any, list[float]]:
            left = self.flows - number
            share = FIRST_SHARE if left > 1 and (number <= 1 or pays(went)) else 1 / left
            began, step = keeper.clock(), step_of(went)

            def time_left(now: float) -> float:
                spent = keeper.clock() - began
                return share * self.budget.for_flows(now if now > 0 else step, spent) - spent

            affordable = math.inf
            if many.budget and step:
                affordable = HOPE * time_left(step) / step
            steps = steps_of(
                went, many.steps, affordable, is_last=left == 1, in_budget=bool(many.budget)
            )
            found = fit_density(
                begun,
                self.train,
                self.val,
                replace(many.descent, steps=steps),
                key=self._keys(number)[1],
                listen=self.listen,
                keeper=keeper,
                stage=stage,
                left=time_left if many.budget else None,
            )
            return found.best, [found.nll, found.step, found.seconds]

        flow, told = self.stages.run(stage, begun, learn)
        nll, step, seconds = told
        return flow, Went(nll, int(step), seconds)

    @property
    def budget(self) -> Budget:
        """Of the whole fit."""
        clock, is_compiled = self.keeper.clock, self.is_compiled
        return Budget(self.settings, len(self.val), self.flows, clock, is_compiled)

    def _keys(self, number: int) -> PRNGKeyArray:
        return jr.split(jr.fold_in(self.key, number))


class Members(NamedTuple):
    """What `with_members` returns.

    Attributes:
        backbone: the ensemble.
        spec: what it and its tilt are made of.
        nll: of held-out rows, nats.
        left: seconds of the budget that are left for a contrast; None: there is no budget.
    """

    backbone: Ensemble
    spec: ModelSpec
    nll: float
    left: Callable[[], float] | None


def with_members(
    stages: Stages,
    transport: Any,
    spec: ModelSpec,
    train: Rows,
    val: Rows,
    settings: Settings,
    *,
    labels: Collection[int],
    key: PRNGKeyArray,
    foresee: Callable[[Ensemble], Any],
    is_compiled: Callable[[], bool],
    listen: Listen,
    keeper: Keeper,
) -> Members:
    """The flow as the latent space of an ensemble.

    Args:
        stages: each flow is one.
        transport: the flow.
        spec: of that and its tilt.
        train, val: rows.
        settings: of the whole fit.
        labels: the columns that are labels, which have no order. If there are some, flows tell the
            shares of cells, and a copula stands beside them; of numbers on a grid alone, mixtures
            of all columns are the better start.
        key: random key.
        foresee: told of an ensemble of the same shapes as soon as they are known.
        is_compiled: whether what was foreseen is.
        listen: called as (phase, event, **fields) while it goes on.
        keeper: of states; its clock is the budget's.

    Raises:
        Interrupted: the keeper was asked to stop.
    """
    many = settings.members
    mixtures_key, weights_key, key = jr.split(key, 3)
    train, val = (replace(rows, units=transport.units) for rows in (train, val))
    listen("members", "started", mixtures=many.mixtures)
    to_come = fit_mixtures(train, val, many, key=mixtures_key)
    base = to_come[0].result()
    in_cells, copulas = None, []
    if labels and many.flows and (cells := cells_of_rows(train)) is not None:
        of_base, of_copula = (jr.fold_in(mixtures_key, many.mixtures + n) for n in range(2))
        copulas = [fit_copula(train, cells, labels, key=of_copula)]
        in_cells = fit_base(train, val, cells, key=of_base), cells
    number = number_of_flows(settings, len(train), base.means.shape[1])
    if len(to_come) == 1 and in_cells is None:
        number = min(number, 1)
    making = _Making(
        stages, train, val, settings, to_come, number, in_cells, key, listen, keeper, is_compiled
    )
    like = [making.begun(0)] * number if number else []
    foresee(evenly(transport, (together([base] * len(to_come)), *like, *copulas)))
    flows: list[Any] = []
    went: list[Went] = []
    while len(flows) < number:
        flow, how = making.learned(went)
        flows.append(flow)
        went.append(how)
    mixtures = [one.result() for one in to_come]
    backbone, nll = weighed(transport, (together(mixtures), *flows, *copulas), val, key=weights_key)
    weights = [round(float(w), 4) for w in np.exp(np.asarray(backbone.log_weights))]
    listen("members", "kept", nll_val=nll, weights=weights)
    spec = replace(
        spec,
        components=sum(len(mixture.means) for mixture in mixtures),
        bases=(len((in_cells[0] if in_cells else base).means),) * len(flows),
        cells=in_cells[1].shapes if in_cells else (),
        copula=copulas[0].cells.ends.shape if copulas else (),
        member_width=many.width,
        member_depth=many.depth,
        member_dropout=many.dropout,
    )
    left = (lambda: making.budget.for_contrast(step_of(went))) if many.budget else None
    return Members(backbone, spec, nll, left)
