"""Which transitions are made when: a function of the transitions done, and of nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

from tiltflow.mcmc.program import Plan


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then sampling, in chunks that do not straddle the two.

    Attributes:
        num_warmup: transitions of warm-up.
        num_draws: draws of each chain.
        thin: transitions of sampling a draw.
        chunk: transitions a call, at most.
    """

    num_warmup: int
    num_draws: int
    thin: int
    chunk: int

    @property
    def total(self) -> int:
        """Transitions of warm-up and sampling."""
        return self.num_warmup + self.num_draws * self.thin

    def adapting(self, done: int) -> bool:
        """Whether the next transition belongs to warm-up."""
        return done < self.num_warmup

    def draws(self, done: int) -> int:
        """Draws of each chain after so many transitions."""
        return self.sampled(done) // self.thin

    def sampled(self, done: int) -> int:
        """Transitions of sampling among so many."""
        return max(done - self.num_warmup, 0)

    def next(self, done: int) -> Plan:
        """The next call of the program."""
        adapting = self.adapting(done)
        end = self.num_warmup if adapting else self.total
        return Plan(
            first=done,
            count=min(self.chunk, end - done),
            sampled=self.sampled(done),
            thin=self.thin,
            adapting=adapting,
        )

    def chunk_ends(self, done: int) -> Iterator[int]:
        """The draws after each chunk of sampling that led to so many transitions."""
        for end in range(self.num_warmup + self.chunk, done, self.chunk):
            yield self.draws(end)
        yield self.draws(done)
