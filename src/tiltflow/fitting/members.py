"""The members of an ensemble: as many as the settings say, or as a budget of time allows.

A budget is for the whole fit. What comes after the members, a tilt, chains and a judgement, takes
what it takes, so the members are what is planned: how many flows, and how long each is learned.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import AutoregressiveFlow, CelledFlow, Ensemble, MixtureDensity
from tiltflow.backbones.cells import FoundCells
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.stages import Listen, Stages
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import CHUNK, Found
from tiltflow.learning.fit_backbone import fit_density
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

AFTER = 11.0  # seconds that a judgement, a report and the process itself take, at least
SHORT = 45.0  # seconds of a budget, below which there is no time to plan after the first flow
MOST_FLOWS = 12
EPOCHS = 40  # passes over the rows that a flow is worth; more are learned by heart
SCORED = 20  # draws of a held-out row that a judgement scores
PASSES = 3  # through a network, in a step of learning


class Plan(NamedTuple):
    """What the flows' time is spent on.

    Attributes:
        flows: how many there will be, the first included.
        steps: of each further one.
    """

    flows: int
    steps: int


def planned(first: Found, seconds: float, *, worth: int) -> Plan:
    """Flows as long as rows are worth it, and as many of them as there is time for.

    One flow, if it has not moved from where it starts: there is nothing to learn.

    Args:
        first: the first flow.
        seconds: that are left for others.
        worth: steps that a flow is worth, at most.
    """
    if first.step == 0 or not first.seconds > 0:
        return Plan(1, first.steps)
    possible = int(seconds / first.seconds)
    more = min(max(1, round(possible / worth)), MOST_FLOWS - 1)
    steps = min(possible // more, worth) // CHUNK * CHUNK
    return Plan(1 + more, steps) if steps >= 2 * CHUNK else Plan(1, first.steps)


class _Making(NamedTuple):
    """What flows are made of, as `with_members` has it."""

    stages: Stages
    train: Rows
    val: Rows
    settings: Settings
    mixtures: Sequence[Future[MixtureDensity]]
    in_cells: tuple[MixtureDensity, FoundCells] | None
    key: PRNGKeyArray
    listen: Listen
    keeper: Keeper

    def begun(self, number: int) -> AutoregressiveFlow | CelledFlow:
        """A flow at its mixture; flows beyond them start at the same ones in another order.

        Where columns lie in cells, all start at the one of the other columns.
        """
        if self.in_cells is not None:
            return begin_celled(*self.in_cells, self.settings.members, key=self._keys(number)[0])
        base = self.mixtures[number % len(self.mixtures)].result()
        return begin_flow(base, self.settings.members, key=self._keys(number)[0])

    def learned(self, number: int, plan: Plan, shares: int) -> tuple[Any, Found | None]:
        """A flow, in the `shares`-th part of the time left; and how it went, if not found."""
        many, keeper, how_it_went = self.settings.members, self.keeper, []
        begun, stage = self.begun(number), f"member {number}"

        def learn() -> tuple[Any, None]:
            until = keeper.clock() + self._left(plan) / shares
            found = fit_density(
                begun,
                self.train,
                self.val,
                replace(many.descent, steps=plan.steps),
                key=self._keys(number)[1],
                listen=self.listen,
                keeper=keeper,
                stage=stage,
                left=(lambda: until - keeper.clock()) if many.budget else None,
            )
            how_it_went.append(found)
            return found.best, None

        flow, _ = self.stages.run(stage, begun, learn)
        return flow, how_it_went[0] if how_it_went else None

    def planned(self, before: Plan, first: Found | None) -> Plan:
        """The plan after the first flow. Once made it stays, whenever the fit is gone on with."""

        def made() -> tuple[Any, None]:
            if first is None:  # interrupted between the two: how it went is not known
                return jnp.asarray(before), None
            worth = max(before.steps, round(EPOCHS * len(self.train) / self.settings.members.batch))
            left = self._left(before, first.seconds)
            return jnp.asarray(planned(first, left, worth=worth)), None

        found, _ = self.stages.run("plan", jnp.zeros(2, int), made)
        return Plan(*(int(x) for x in found))

    def _left(self, plan: Plan, step: float = 0.0) -> float:
        """Seconds left for flows, if a step of one takes `step` seconds."""
        many = self.settings.members
        each = (plan.flows + 1) * step / (PASSES * many.batch)
        after = AFTER + evaluations(self.settings, len(self.val)) * each
        return many.budget - after - self.keeper.clock()

    def _keys(self, number: int) -> PRNGKeyArray:
        return jr.split(jr.fold_in(self.key, number))


def with_members(
    stages: Stages,
    transport: Any,
    spec: ModelSpec,
    train: Rows,
    val: Rows,
    settings: Settings,
    *,
    key: PRNGKeyArray,
    foresee: Callable[[Ensemble], None],
    listen: Listen,
    keeper: Keeper,
) -> tuple[Ensemble, ModelSpec, float]:
    """The flow as the latent space of an ensemble; what that is made of, and its score.

    Args:
        stages: each flow is one.
        transport: the flow.
        spec: of that and its tilt.
        train, val: rows.
        settings: of the whole fit.
        key: random key.
        foresee: told of an ensemble of the same shapes as soon as they are known.
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
    in_cells = None
    if many.flows and (cells := cells_of_rows(train)) is not None:
        in_cells = fit_base(train, val, cells, key=jr.fold_in(mixtures_key, many.mixtures)), cells
    making = _Making(stages, train, val, settings, to_come, in_cells, key, listen, keeper)
    plan = Plan(min(many.flows, len(to_come)), many.steps)
    is_open = many.budget >= SHORT and plan.flows > 0  # is the number of flows yet to be planned?

    def tell() -> None:
        like = [making.begun(0)] * plan.flows if plan.flows else []
        foresee(evenly(transport, (together([base] * len(to_come)), *like)))

    if not is_open:
        tell()
    flows: list[Any] = []
    while len(flows) < plan.flows:
        shares = 2 if is_open else plan.flows - len(flows)
        flow, found = making.learned(len(flows), plan, shares)
        flows.append(flow)
        if is_open:
            plan, is_open = making.planned(plan, found), False
            listen("members", "planned", flows=plan.flows, steps=plan.steps)
            tell()
    mixtures = [one.result() for one in to_come]
    backbone, nll = weighed(transport, (together(mixtures), *flows), val, key=weights_key)
    weights = [round(float(w), 4) for w in np.exp(np.asarray(backbone.log_weights))]
    listen("members", "kept", nll_val=nll, weights=weights)
    spec = replace(
        spec,
        components=sum(len(mixture.means) for mixture in mixtures),
        bases=(len((in_cells[0] if in_cells else base).means),) * len(flows),
        cells=in_cells[1].shapes if in_cells else (),
        member_width=many.width,
        member_depth=many.depth,
        member_dropout=many.dropout,
    )
    return backbone, spec, nll


def evaluations(settings: Settings, held_out: int) -> int:
    """About how many points a tilt and a judgement evaluate the ensemble at."""
    sampling = settings.sampling
    chains = sampling.chains * (sampling.warmup + sampling.draws)
    return settings.tilt.bank + sampling.exact_draws + chains + SCORED * held_out
