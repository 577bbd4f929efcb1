"""Stages of a fit that are done once: what a keeper has of them is not done again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiltflow.learning.keeping import Keeper
from tiltflow.parallel.memory_maps import let_go_if_many

Listen = Callable[..., None]


@dataclass(frozen=True)
class Stages:
    """Runs stages, or finds that they were finished before.

    Attributes:
        keeper: of their results.
        ended: its clock at the end of each.
    """

    keeper: Keeper
    ended: dict[str, float]

    def run(self, name: str, like: Any, learn: Callable[[], tuple[Any, Any]]) -> Any:
        """A pytree and numbers, as they were found or as `learn` makes them."""
        let_go_if_many()
        if (found := self.keeper.finished(name, like)) is not None:
            tree, plain = found
        else:
            tree, value = learn()
            plain = {"value": value, "ended": self.keeper.clock()}
            self.keeper.finish(name, tree, plain)
        self.ended[name] = plain["ended"]
        return tree, plain["value"]
