"""The stages of a posterior in turn: look, temper twice, fit, sample, judge, and go on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import jax
import numpy as np

from tiltflow.diagnostics.convergence import Convergence, convergence
from tiltflow.fitting.posterior import probe, starts
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.chains import BLOCK, Chains
from tiltflow.fitting.posterior.evidence import bridged, effective_share
from tiltflow.fitting.posterior.modes import Regions, balanced, regions_of
from tiltflow.fitting.posterior.proposal import Proposal, Scored, fitted
from tiltflow.fitting.posterior.result import Mode, Posterior
from tiltflow.fitting.posterior.target import Target, natural_at, values_at
from tiltflow.fitting.posterior.tempering import Metric, Population, resampled, temper
from tiltflow.fitting.posterior.verdict import (
    CONVERGED,
    HEAVIEST,
    LEAST_SIZE,
    MIXED,
    WIDEST,
    Facts,
    Verdict,
    judged,
)
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.pareto import pareto_k

WARMING, LEAST_BLOCKS = 2, 3
HARDER = 4  # times more of both, after a refit that disagreeing chains have made needful
MOST_ROUNDS, MOST_REFITS, MOST_POPULATIONS = 16, 8, 4
GROWTH = 4.0  # of the number of draws in a round, at most
MOST_DRAWS = 2**20  # of all chains
FIT_ROWS = 6_000
GOOD, POOR = 0.7, 0.4  # effective share: beyond it no flow is needed; below it another fit helps


@dataclass(frozen=True)
class Asked:
    """What the user wants: half the width of log Z's interval, draws in all, and a seed."""

    log_z_within: float
    draws: int
    seed: int


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    particles: int
    chains: int
    leapfrogs: int
    jumps_to: int
    exact: int
    steps: int
    blocks: int
    width: int

    @classmethod
    def fitting(cls, dim: int, evaluations: int | None) -> Sizes:
        """Such that a first result takes about half of so many evaluations."""
        width = 32 if dim <= 12 else 64
        if evaluations is None or evaluations > 1_500_000:
            return cls(1_000, 64, 8, 8, 8_192, 1_000, 4, width)
        particles = int(np.clip(evaluations / 1_200, 64, 1_000))
        if evaluations > 400_000:
            return cls(particles, 64, 6, 6, 4_096, 600, 4, width)
        return cls(particles, 32, 4, 4, 2_048, 600, 4, width)


class Stages:
    """A run: what it has found so far, and what it does next."""

    def __init__(
        self, target: Target, free: np.ndarray | None, asked: Asked, budget: Budget
    ) -> None:
        """Nothing found yet.

        Args:
            target: in free numbers, over no reference.
            free: rows of free numbers to start from, or None.
            asked: what the user wants.
            budget: of the whole run.
        """
        self.target, self.free, self.asked, self.budget = target, free, asked, budget
        self.rng = np.random.default_rng(asked.seed)
        self.key = jax.random.key(asked.seed)
        self.sizes = Sizes.fitting(target.parameters.size, budget.evaluations)
        self.populations: list[Population] = []
        self.exact: list[Scored] = []
        self.helped: list[str] = []
        self.overlaps: list[float] = []  # of proposal and chains, before each refit
        self.effort = 1  # HARDER once chains have disagreed
        self.refits, self.unfinished, self.nan, self.nan_of = 0, "", 0.0, ""

    def all(self) -> Posterior:
        """All stages, until nothing is left to mend or to spend."""
        self.look()
        self.temper("narrow", "diagonal", self.sizes.particles)
        self.temper("wide", "dense", self.sizes.particles)
        self.settle()
        self.fit()
        self.sample(self.wanted_blocks(self.asked.draws))
        verdict = self.judge()
        for _ in range(MOST_ROUNDS):
            if verdict.status == "ok" or not self.improve():
                break
            verdict = self.judge()
        return self.result(verdict)

    def look(self) -> None:
        """Probe the density where it is to start, and place the temperings' bases."""
        seed = self.asked.seed
        if self.free is None:
            u = starts.first_starts(self.target.parameters.size, seed)
        else:
            u = self.free
            self.target = starts.located(self.target, u)
        y = self.target.from_free(u)
        self.target, self.nan = probe.referenced(self.target, y)
        if self.nan:
            self.nan_of = probe.nan_where(self.target, y, np.isnan(values_at(self.target, y)))
        if self.free is None:
            self.target, self.bases = starts.from_descents(self.target, u, self.budget)
        else:
            self.bases = starts.from_draws(self.target, u, seed)
        self.budget.spend(
            "probe", len(u), f"largest log-density {float(self.target.reference):.6g}"
        )

    def temper(self, base: str, metric: Metric, particles: int) -> None:
        """One more population, from one of the bases."""
        number = len(self.populations)
        population = temper(
            self.target,
            self.bases.narrow if base == "narrow" else self.bases.wide,
            name=f"tempering {number + 1}",
            metric=metric,
            particles=particles,
            budget=self.budget,
            reserve=0.6 if not number else 0.4,
            seed=self.asked.seed + 1_000_003 * (number + 1),
        )
        if not population.finished:
            self.unfinished = "tempering up to the density itself"
        self.populations.append(population)

    def settle(self) -> None:
        """Take the reference at the mass, and float64 where values are rounded there."""
        pooled = np.concatenate([p.y for p in self.populations])
        before = float(self.target.reference)
        self.target, _ = probe.referenced(self.target, pooled)
        if not self.target.precise:
            found = probe.roughness(self.target, pooled, self.rng)
            self.budget.spend("probe", 3 * probe.ROWS)
            if found.rounding > probe.MOST_ROUNDED:
                self.target = self.target.made_precise()
        self.rough = probe.roughness(self.target, pooled, self.rng)
        self.populations = [p.over(before - float(self.target.reference)) for p in self.populations]
        self.budget.spend("probe", len(pooled) + 3 * probe.ROWS)

    def fit(self) -> None:
        """A proposal for all particles: a mixture, and a flow where that is not enough."""
        pooled = np.concatenate([p.y for p in self.populations])
        seed, blocks, width = self.asked.seed, self.sizes.blocks, self.sizes.width
        proposal = fitted(pooled, seed=seed, steps=0, blocks=blocks, width=width)
        rows = pooled[balanced(proposal, proposal.noise(self.target, pooled), self.rng, FIT_ROWS)]
        share = effective_share(proposal.scored(self.target, self.rng, 1_024).f)
        if share < GOOD and pooled.shape[1] > 1:
            steps = self.sizes.steps
            proposal = fitted(rows, seed=seed, steps=steps, blocks=blocks, width=width)
        self.budget.spend("fit", 1_024, f"effective share of the mixture alone {share:.2f}")
        self.begin(proposal, pooled)

    def begin(self, proposal: Proposal, y: np.ndarray) -> None:
        """Chains under `proposal`, from some of the rows y, and no draws yet."""
        z = proposal.noise(self.target, y)
        chosen = balanced(proposal, z, self.rng, self.sizes.chains)
        step = self.chains.step if hasattr(self, "chains") else 0.3
        self.chains = Chains(
            proposal, z[chosen], self.sizes.leapfrogs, self.sizes.jumps_to, step=step
        )
        self.exact = []
        for _ in range(WARMING * self.effort):
            self.advance(warming=True)

    def advance(self, *, warming: bool = False) -> None:
        """A block of all chains."""
        self.key, key = jax.random.split(self.key)
        self.chains.advance(self.target, self.rng, key, warming=warming)
        self.budget.spend("chains", self.chains.cost)

    def wanted_blocks(self, draws: int) -> int:
        """How many blocks make so many draws."""
        return max(LEAST_BLOCKS, math.ceil(draws / (self.sizes.chains * BLOCK)))

    def sample(self, blocks: int) -> None:
        """Go on until there are so many blocks and exact draws to match, or the budget ends."""
        while len(self.chains.kept) < blocks:
            begun = time.monotonic()
            self.advance()
            took = time.monotonic() - begun
            if len(self.chains.kept) >= 2 and not self.budget.allows(
                3 * took, 2 * self.chains.cost
            ):
                break
        wanted = max(self.sizes.exact, 2 * self.chains.draws * self.sizes.chains)
        wanted -= sum(len(scored.f) for scored in self.exact)
        if self.budget.evaluations is not None:
            wanted = min(wanted, max(int(self.budget.left()[1]), 512 if not self.exact else 0))
        if wanted > 0:
            self.exact.append(self.chains.proposal.scored(self.target, self.rng, wanted))
        self.budget.spend("log Z", max(wanted, 0))

    def judge(self) -> Verdict:
        """Hold what there is against the limits."""
        _, y, f, value = self.chains.drawn()
        self.regions = regions_of(self.target, self.chains, self.populations)
        names, self.convergence = self.mixing(y, value)
        f_q = np.concatenate([scored.f for scored in self.exact])
        self.log_z = bridged(f_q, f, float(self.target.reference))
        worst = int(np.nanargmax(np.append(self.convergence.rhat, 0.0)[:-1]))
        edge, edge_of = self.at_edge(y)
        nan = max(self.nan, float(np.mean([scored.nan for scored in self.exact])))
        heavy = pareto_k(f_q[np.isfinite(f_q)])
        self.facts = Facts(
            rhat=float(np.max(self.convergence.rhat)),
            rhat_of=names[worst],
            ess_bulk=float(np.min(self.convergence.ess_bulk)),
            ess_tail=float(np.min(self.convergence.ess_tail)),
            log_z=self.log_z,
            within=self.asked.log_z_within,
            pareto_k=heavy,
            effective=effective_share(f_q),
            apart=self.apart(),
            lacking=self.regions.lacking,
            outward=_outward(y),
            growth=self.growth() if heavy > 0.5 else 1.0,
            edge=edge,
            edge_of=edge_of,
            nan=nan,
            nan_of=self.nan_of,
            divergent=float(np.mean(self.chains.divergent)),
            rounding=self.rough.rounding,
            gradient=self.rough.gradient,
            unfinished=self.unfinished,
        )
        searched = (
            f"{len(self.populations)} populations of {len(self.populations[0].y):,} or more, "
            f"{self.bases.words}; modes found by each: "
            f"{', '.join(str(int(n)) for n in np.sum(self.regions.particles > 0, axis=1))}"
        )
        verdict = judged(self.facts, searched, tuple(self.helped))
        half = (self.log_z.high - self.log_z.low) / 2
        told = (
            f"{self.chains.draws * self.sizes.chains:,} draws, log Z {self.log_z.mean:.3f} ± "
            f"{half:.3f}, R-hat {self.facts.rhat:.3f}, overlap {self.log_z.overlap:.2f}, "
            f"{verdict.status}"
        )
        self.budget.spend("verdict", 0, told)
        return verdict

    def mixing(self, y: np.ndarray, value: np.ndarray) -> tuple[list[str], Convergence]:
        """Convergence of free numbers, of the log-density, and of being in each mode."""
        marks = self.regions.indicators()
        seen = np.concatenate([y.astype(np.float64), value[..., None], marks], axis=2)
        names = [*self.target.parameters.labels, "the log-density"]
        names += [f"the share of mode {k + 1}" for k in range(marks.shape[2])]
        return names, convergence(seen)

    def improve(self) -> bool:
        """Do what may help most, if the budget allows; whether anything was done."""
        facts, before = self.facts, self.facts.rhat
        spare = self.budget.evaluations is None
        self.effort = HARDER if spare and (facts.rhat > MIXED or self.effort > 1) else 1
        if facts.lacking and len(self.populations) < MOST_POPULATIONS and self.budget.keeps(0.3):
            self.temper("wide", "diagonal", 2 * self.sizes.particles)
            self.refit(pooling=True)
            self.sample(self.wanted_blocks(self.effort * self.asked.draws))
            self.helped.append("another population of twice the size")
            return True
        poor = facts.rhat > MIXED or not facts.log_z.holds or facts.effective < POOR
        poor |= facts.log_z.upper - facts.log_z.lower > WIDEST or facts.pareto_k > HEAVIEST
        if poor and self.refits < MOST_REFITS and self.gains() and self.budget.keeps(0.3):
            self.refit(pooling=facts.rhat > MIXED)
            self.sample(self.wanted_blocks(self.effort * self.asked.draws))
            self.helped.append(f"refit {self.refits} of the proposal (R-hat was {before:.3f})")
            return True
        return self.draw_on()

    def gains(self) -> bool:
        """Whether one of the last two refits has made the proposal better."""
        self.overlaps.append(self.log_z.overlap)
        recent, former = self.overlaps[-2:], self.overlaps[:-2]
        return max(recent) > 1.02 * max(former, default=0.0)

    def refit(self, *, pooling: bool) -> None:
        """Another proposal, learned from the chains' draws, and particles if `pooling`."""
        _, y, _, _ = self.chains.drawn()
        flat = y.reshape(-1, y.shape[-1])
        flat = flat[self.rng.choice(len(flat), min(len(flat), FIT_ROWS), replace=False)]
        before = self.chains.proposal
        flat = np.concatenate([flat, self.weighted(len(flat))])
        if pooling:
            flat = np.concatenate([flat, *(p.y for p in self.populations)])
            flat = flat[balanced(before, before.noise(self.target, flat), self.rng, FIT_ROWS)]
        self.refits += 1
        proposal = fitted(
            flat,
            seed=self.asked.seed + self.refits,
            steps=min(3_000, self.sizes.steps * 2**self.refits),
            blocks=self.sizes.blocks,
            width=self.sizes.width,
            before=before,
        )
        self.budget.spend("fit", 0, f"again, on {len(flat):,} draws")
        last = y[:, -1] if not pooling else flat
        self.begin(proposal, last)

    def weighted(self, number: int) -> np.ndarray:
        """Draws of the proposal resampled by p / q, which may be where no chain has come.

        Weights are cut at sqrt(n) times their mean (Ionides 2008, "Truncated importance sampling").
        """
        y = np.concatenate([scored.y for scored in self.exact])
        f = np.concatenate([scored.f for scored in self.exact])
        most = np.logaddexp.reduce(f) - 0.5 * math.log(len(f))
        return y[self.rng.permutation(resampled(self.rng, np.minimum(f, most)))[:number]]

    def draw_on(self) -> bool:
        """More draws, as many as the widest of all limits wants; False if there is no room."""
        facts, blocks = self.facts, len(self.chains.kept)
        half = (facts.log_z.high - facts.log_z.low) / 2
        sizes = facts.ess_bulk, facts.ess_tail, facts.log_z.ess_p
        lack = max(
            (half / facts.within) ** 2,
            1.2 * LEAST_SIZE / max(min(sizes), 1.0),
            2.0 if facts.rhat > CONVERGED else 0.0,
            1.0,
        )
        wanted = math.ceil(blocks * min(1.1 * lack, GROWTH)) if lack > 1 else 0
        chain_draws = wanted * BLOCK * self.sizes.chains
        if not wanted or wanted <= blocks or chain_draws > MOST_DRAWS:
            return False
        took = self.budget.stages["chains"].seconds / (len(self.chains.kept) + WARMING)
        if not self.budget.allows(2 * took, 2 * self.chains.cost):
            return False
        self.sample(wanted)
        return len(self.chains.kept) > blocks

    def apart(self) -> float:
        """Nats between log Z and the nearer of the finished temperings, beyond 4 of its errors."""
        log_z = self.log_z.mean - float(self.target.reference)
        gaps = [
            max(0.0, abs(p.log_z - log_z) - 4 * p.log_z_error)
            for p in self.populations
            if p.finished
        ]
        return min(gaps, default=0.0)

    def growth(self) -> float:
        """How much wider the wide population has ended than the narrow one, at the most."""
        low, high = (
            np.subtract(*np.quantile(p.y.astype(np.float64), (0.98, 0.02), axis=0))
            for p in self.populations[:2]
        )
        return float(np.max(high / np.maximum(low, 1e-12)))

    def at_edge(self, y: np.ndarray) -> tuple[float, str]:
        """The largest share of draws within a hundredth of a bound, and of which parameter."""
        self.values, self.weights = natural_at(self.target, y.reshape(-1, y.shape[-1]))
        found = [(0.0, "")]
        parameters = self.target.parameters
        for name, kind in zip(parameters.names, parameters.kinds, strict=True):
            near = kind.edge(self.values[name]) < 0.01
            found.append((float(np.max(np.mean(near, axis=0))), name))
        return max(found)

    def result(self, verdict: Verdict) -> Posterior:
        """All of it, as it is handed to the user."""
        _, y, _, value = self.chains.drawn()
        shape = value.shape
        draws = {n: v.reshape(*shape, *v.shape[1:]) for n, v in self.values.items()}
        density = value - self.weights.reshape(shape) + float(self.target.reference)
        worst = {
            "rhat": self.facts.rhat,
            "rhat_of": self.facts.rhat_of,
            "ess_bulk": self.facts.ess_bulk,
            "ess_tail": self.facts.ess_tail,
            "pareto_k": self.facts.pareto_k,
            "effective_share": self.facts.effective,
        }
        return Posterior(
            verdict=verdict,
            log_z=self.log_z,
            draws=draws,
            log_density=density,
            modes=self.modes(self.regions, draws, self.log_z),
            labels=self.regions.labels,
            worst=worst,
            budget=self.budget,
            target=self.target,
            proposal=self.chains.proposal,
            positions=y,
        )

    def modes(
        self, regions: Regions, draws: dict[str, np.ndarray], log_z: LogZ
    ) -> tuple[Mode, ...]:
        """What is told of each part with draws in it."""
        each = zip(regions.shares, regions.errors, regions.found_by, strict=True)
        return tuple(
            Mode(
                share=float(share),
                error=float(error),
                log_z=log_z.mean + math.log(share),
                mean={n: v[regions.labels == k].mean(axis=0) for n, v in draws.items()},
                found_by=int(found_by),
            )
            for k, (share, error, found_by) in enumerate(each)
            if share > 0
        )


def _outward(y: np.ndarray) -> float:
    """How much farther from the middle the second half of draws is than the first, as a ratio."""
    flat = y.reshape(-1, y.shape[-1]).astype(np.float64)
    middle = np.median(flat, axis=0)
    spread = np.maximum(np.mean(np.abs(flat - middle), axis=0), 1e-12)
    radius = np.max(np.abs(y - middle) / spread, axis=2)
    half = radius.shape[1] // 2
    first, second = (np.quantile(part, 0.99) for part in (radius[:, :half], radius[:, half:]))
    return float(second / max(first, 1e-12))
