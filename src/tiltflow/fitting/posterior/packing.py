"""The state of a run as plain values and arrays, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from tiltflow.fitting.posterior.budget import Spent
from tiltflow.fitting.posterior.chains import Block, Chains
from tiltflow.fitting.posterior.plan import Sizes
from tiltflow.fitting.posterior.probe import Roughness
from tiltflow.fitting.posterior.proposal import Proposal, Scored, filled_flow, flow_arrays
from tiltflow.fitting.posterior.starts import Bases
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.tailed import Tailed
from tiltflow.fitting.posterior.target import Target, values_at
from tiltflow.fitting.posterior.tempering import Population, Rung

PLAIN = ("asked_for", "nan", "nan_of", "effort", "rounds", "refits", "tried", "unfinished")
LISTS = ("todo", "overlaps", "helped", "trail")
Arrays = dict[str, np.ndarray]


def changing(state: State) -> tuple[dict[str, Any], Arrays]:
    """What changes from stage to stage, as plain values and as arrays."""
    target, chains = state.target, state.chains
    plain: dict[str, Any] = {name: getattr(state, name) for name in (*PLAIN, *LISTS)}
    plain |= {
        "precise": target.precise,
        "light": target.light,
        "sizes": asdict(state.sizes),
        "elapsed": state.budget.elapsed,
        "stages": {name: vars(spent) for name, spent in state.budget.stages.items()},
        "rough": None if state.rough is None else list(state.rough),
        "words": "" if state.bases is None else state.bases.words,
        "populations": [_words(p) for p in state.populations],
    }
    arrays = {
        name: np.asarray(getattr(target, name), np.float64)
        for name in ("shift", "scale", "bend", "reference")
    }
    if state.bases is not None:
        arrays |= {
            f"bases.{which}.{name}": array
            for which in ("narrow", "wide")
            for name, array in getattr(state.bases, which)._asdict().items()
        }
    if state.populations:
        arrays["witness"] = values_at(target, state.populations[0].y[:8])
    if state.ends is not None:
        arrays |= {"ends.y": state.ends[0], "ends.value": state.ends[1]}
    if state.rung is not None:
        rung = state.rung
        plain["rung"] = {
            "population": _words(rung.population), "metric": rung.metric, "seed": rung.seed,
            "beta": rung.beta, "step": rung.step, "goal": rung.goal, "part": rung.part,
            "transitions": rung.transitions,
        }  # fmt: skip
        arrays |= {"rung.value": rung.value, "rung.start": rung.start}
        arrays |= {"rung.y": rung.population.y, "rung.ancestors": rung.population.ancestors}
    if chains is not None:
        plain["chains"] = {
            "leapfrogs": chains.leapfrogs, "jumps_to": chains.jumps_to, "block": chains.block,
            "step": chains.step, "every": chains.every, "kept": len(chains.kept),
            "exact": len(state.exact), "nan": [scored.nan for scored in state.exact],
        }  # fmt: skip
        arrays["chains.z"] = chains.z
    return plain, arrays


def parts_of(state: State) -> dict[str, Arrays]:
    """What does not change any more, by the name of its file."""
    parts: dict[str, Arrays] = {}
    where = _coordinates(state.target)
    for number, population in enumerate(state.populations):
        kept = {"y": population.y, "ancestors": population.ancestors}
        parts[f"population-{number}-{where}"] = kept
    for name in ("cold", "hot"):
        parts |= {f"{name}-{k}-{where}": {"y": y} for k, y in enumerate(getattr(state, name))}
    if state.chains is not None:
        proposal, fit = state.chains.proposal, state.refits
        parts[f"proposal-{fit}"] = proposal.base._asdict() | flow_arrays(proposal.flow)
        for number, block in enumerate(state.chains.kept):
            parts[f"block-{fit}-{number}"] = block._asdict()
        for number, scored in enumerate(state.exact):
            kept = scored._asdict()
            parts[f"exact-{fit}-{number}"] = {k: v for k, v in kept.items() if k != "nan"}
    return parts


def _coordinates(target: Target) -> str:
    """Which of its coordinates are bent: what else lies in them changes with that."""
    return "".join("b" if bend > 0 else "s" for bend in np.asarray(target.bend))


def fill(state: State, plain: dict[str, Any], arrays: Arrays, parts: dict[str, Arrays]) -> None:
    """The state with what was kept."""
    if plain["precise"]:
        state.target = state.target.made_precise()
    if not plain.get("light", True):
        state.target = state.target.compiled_well()
    reference = float(arrays["reference"])
    state.target = state.target.placed(arrays["shift"], arrays["scale"], reference)
    state.target = state.target.bent(arrays["bend"])
    for name in (*PLAIN, *LISTS):
        setattr(state, name, plain[name])
    state.sizes = Sizes(**plain["sizes"])
    state.budget.started -= plain["elapsed"]
    state.budget.stages = {name: Spent(**spent) for name, spent in plain["stages"].items()}
    state.rough = None if plain["rough"] is None else Roughness(*plain["rough"])
    if "bases.narrow.means" in arrays:
        narrow, wide = (
            Tailed(*(arrays[f"bases.{which}.{name}"] for name in Tailed._fields))
            for which in ("narrow", "wide")
        )
        state.bases = Bases(narrow, wide, plain["words"])
    where = _coordinates(state.target)
    state.populations = [
        _population(words, parts[f"population-{number}-{where}"])
        for number, words in enumerate(plain["populations"])
    ]
    for name in ("cold", "hot"):
        kept = [parts[of]["y"] for of in sorted(parts) if of.startswith(f"{name}-")]
        setattr(state, name, kept)
    if "ends.y" in arrays:
        state.ends = arrays["ends.y"], arrays["ends.value"]
    if "rung" in plain:
        words = plain["rung"]
        particles = {name: arrays[f"rung.{name}"] for name in ("y", "ancestors")}
        population = _population(words.pop("population"), particles)
        words["transitions"] = tuple(words["transitions"])
        state.rung = Rung(
            population, value=arrays["rung.value"], start=arrays["rung.start"], **words
        )
    if "chains" in plain:
        words, fit = plain["chains"], state.refits
        kept, exact, nan = (words.pop(name) for name in ("kept", "exact", "nan"))
        of = parts[f"proposal-{fit}"]
        base = Tailed(*(of[name] for name in Tailed._fields))
        flow = filled_flow(base.dim, state.sizes.blocks, state.sizes.width, of)
        state.chains = Chains(Proposal(flow, base), arrays["chains.z"], **words)
        state.chains.kept = [Block(**parts[f"block-{fit}-{number}"]) for number in range(kept)]
        state.exact = [_scored(parts[f"exact-{fit}-{k}"], nan[k]) for k in range(exact)]


def _scored(arrays: Arrays, nan: float) -> Scored:
    return Scored(arrays["z"], arrays["y"], arrays["value"], arrays["f"], nan)


def _words(population: Population) -> dict[str, Any]:
    """What is not an array in it."""
    return {k: v for k, v in vars(population).items() if k not in ("y", "ancestors")}


def _population(words: dict[str, Any], arrays: Arrays) -> Population:
    return Population(y=arrays["y"], ancestors=arrays["ancestors"], **words)
