"""A run's model, judged by chains: do they mix, do they travel, and do they cover?

Chains are started afresh, or read from disk. Each check that fails says what it means and what to
try; the verdict is the worst of them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from tiltflow.data import Dataset, split
from tiltflow.diagnostics.convergence import Convergence, autocorrelation_time
from tiltflow.diagnostics.energy import LOWEST, divergences, e_bfmi
from tiltflow.diagnostics.verdict import Check, biased, conclude, judge
from tiltflow.errors import InputError, check_seed
from tiltflow.evaluation.chain_sources import Judged, just_made, stored
from tiltflow.evaluation.chains import (
    SamplingSettings,
    fresh_chains,
    moved_by,
    suited_sampling,
)
from tiltflow.evaluation.coverage import against_data_space, against_held_out, reach
from tiltflow.evaluation.drift import trained_short
from tiltflow.evaluation.labels import Kind, Labelled, by_data, by_kmeans
from tiltflow.evaluation.mixing import extremes, looked_at
from tiltflow.evaluation.soundness import drawn, soundness
from tiltflow.evaluation.travelling import travelling
from tiltflow.model.fitted import FittedModel

EXACT_DRAWS = 50_000  # of the backbone, at most
MODES = 10  # clusters
MOST = 64_000  # draws of all chains that are labelled, and compared with others


@dataclass(frozen=True)
class DiagnoseSettings:
    """How a model is judged.

    Attributes:
        chains, draws, warmup: of the fresh chains; None: as suits the model.
        kernel: by its name in the catalogue, that moves them; None: the one that suits the model.
        labels: the data's own or clusters; None: the data's own where there are any.
        modes: clusters; None: 10, where clusters tell modes apart.
        exact_draws: of the backbone, for k-hat; None: 50,000, or fewer, as suits the model.
        reference_draws: of each chain in data space; 0: no reference.
    """

    chains: int | None = None
    draws: int | None = None
    warmup: int | None = None
    kernel: str | None = None
    labels: Kind | None = None
    modes: int | None = None
    exact_draws: int | None = None
    reference_draws: int = 1_000

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work."""
        check_seed(seed)
        self.sampling(SamplingSettings()).check()
        if self.reference_draws < 0:
            raise InputError(f"{self.reference_draws} draws of the reference; expected 0 or more")
        if self.modes is not None and self.modes < 2:
            raise InputError(f"modes is {self.modes}; expected at least 2")

    def sampling(self, suited: SamplingSettings) -> SamplingSettings:
        """The fresh chains: those of `suited`, with what is set here."""
        names = ("chains", "draws", "warmup", "exact_draws", "kernel")
        own = {name: getattr(self, name) for name in names}
        return replace(suited, **{name: x for name, x in own.items() if x is not None})


def diagnose(
    fitted: FittedModel,
    data: Dataset | None,
    settings: DiagnoseSettings | None = None,
    *,
    draws: Path | None = None,
    seed: int = 0,
    listen: Callable[..., Any] = lambda phase, event, **fields: None,
) -> dict[str, Any]:
    """Judge the model of a run.

    Args:
        fitted: the model.
        data: all rows of the run's data, split as `tiltflow.data.split` does; None: what needs
            them is left out.
        settings: see there.
        draws: a file or folder of `tiltflow sample` to judge; None: fresh chains.
        seed: of everything random.
        listen: called as (phase, event, **fields) while it goes on.

    Returns:
        The blocks `chains`, `mixing`, `energy`, `divergences`, `times`, `modes`, `coverage`,
        `notes`, `seconds` and `verdict`, plain values.

    Raises:
        InputError: settings that cannot work, draws that cannot be judged, labels that are not
            there.
    """
    settings = settings or DiagnoseSettings()
    settings.check(seed)
    if settings.labels == "data" and (data is None or data.labels is None):
        raise InputError("the run's data have no labels to be found; use --labels kmeans")
    if settings.modes is not None and _by_labels(settings, data):
        raise InputError(
            f"modes is {settings.modes}, where the data's own labels tell modes apart; leave it "
            f"out, or use --labels kmeans"
        )
    started = time.monotonic()
    sound_key, chain_key, *keys = jr.split(jr.key(seed), 5)
    sound = soundness(fitted.model, drawn(fitted.model, sound_key))
    if not all(check.ok for check in sound):
        return {"seconds": _since(started), "verdict": conclude(sound)}
    sampling = settings.sampling(suited_sampling(fitted.model))
    sampling = replace(sampling, leapfrogs=fitted.leapfrogs)
    judged = _chains(fitted, settings, sampling, draws, chain_key, listen)
    positions = np.asarray(judged.positions)
    names, found = looked_at(fitted.model, positions, judged.f, judged.norm)
    energy, energy_checks = _energy(judged)
    where = None
    if judged.divergent is not None and judged.divergences:
        where = divergences(judged.divergent, judged.f, judged.norm)
    every = max(1, -(-judged.f.size // MOST))
    thinned = judged.positions[:, ::every]
    modes, mode_checks = travelling(
        _labelled(fitted, data, thinned, settings, seed), every * judged.thin
    )
    short = trained_short(fitted.protocol)
    own = [*energy_checks, *short, *_unbiased(judged), *mode_checks]
    first = _verdict(judged, found, where.words if where else "", [*sound, *own])
    coverage, checks, notes = _coverage(
        fitted, data, thinned, judged.f[:, ::every], settings, sampling, keys, listen,
        with_reference=first["status"] != "failed",
    )  # fmt: skip
    return {
        "chains": {
            "from": "fresh" if draws is None else str(draws),
            "kernel": judged.kernel,
            "chains": judged.f.shape[0],
            "draws": judged.f.shape[1],
            "thin": judged.thin,
        },
        "mixing": _mixing(judged, names, found),
        "energy": energy,
        "divergences": {"count": judged.divergences} | (where.to_dict() if where else {}),
        "times": _times(judged, names, found),
        "modes": modes,
        "coverage": coverage,
        "notes": [*_unknown(judged, data), *notes],
        "seconds": _since(started),
        "verdict": _verdict(judged, found, where.words if where else "", [*sound, *own, *checks]),
    }


def _chains(
    fitted: FittedModel,
    settings: DiagnoseSettings,
    sampling: SamplingSettings,
    draws: Path | None,
    key: jax.Array,
    listen: Callable[..., Any],
) -> Judged:
    if draws is not None:
        for name in ("chains", "kernel"):
            if (value := getattr(settings, name)) is not None:
                raise InputError(f"{name} is {value}, but {draws} is to be judged; leave it out")
        return stored(draws, fitted)
    made = fresh_chains(fitted.model, sampling, key, listen, step_size=fitted.step_size)
    return just_made(made, moved_by(fitted.model, sampling))


def _labelled(
    fitted: FittedModel,
    data: Dataset | None,
    positions: np.ndarray,
    settings: DiagnoseSettings,
    seed: int,
) -> Labelled:
    x, modes = fitted.push(np.asarray(positions), noise=False), settings.modes or MODES
    if data is None:
        return by_kmeans(x, modes, None, seed=seed)
    parts = split(data)
    if _by_labels(settings, data):
        return by_data(x, data.take(parts.train), data.take(parts.test))
    return by_kmeans(x, modes, data.take(parts.train), seed=seed)


def _by_labels(settings: DiagnoseSettings, data: Dataset | None) -> bool:
    """Whether the data's own labels tell modes apart."""
    return settings.labels != "kmeans" and data is not None and data.labels is not None


def _coverage(
    fitted: FittedModel,
    data: Dataset | None,
    positions: np.ndarray,
    f: np.ndarray,
    settings: DiagnoseSettings,
    sampling: SamplingSettings,
    keys: list[jax.Array],
    listen: Callable[..., Any],
    *,
    with_reference: bool,
) -> tuple[dict[str, Any], list[Check], list[str]]:
    """The block `coverage`, its checks, and why something is missing."""
    exact_key, reference_key, row_key = keys
    exact_draws = settings.exact_draws or min(EXACT_DRAWS, sampling.exact_draws)
    found = {"backbone": reach(fitted.model, exact_draws, exact_key)}
    notes = []
    if not fitted.model.backbone.is_normal:
        if settings.reference_draws:
            notes.append(
                "No data-space reference was made: each proposal is an exact draw of the backbone, "
                "wherever its chain is, and a gradient of all members is dear."
            )
    elif settings.reference_draws and with_reference:
        found["data_space"] = against_data_space(
            fitted.model,
            positions,
            draws=settings.reference_draws,
            warmup=sampling.warmup,
            leapfrogs=fitted.leapfrogs,
            key=reference_key,
            listen=listen,
        )
    elif settings.reference_draws:
        notes.append("No data-space reference was made: the latent chains have failed already.")
    if data is not None:
        test = data.take(split(data).test)
        found["held_out"] = against_held_out(fitted, positions, f, test, row_key)
    return (
        {name: part.block for name, part in found.items()},
        [part.check for part in found.values() if part.check is not None],
        [*notes, *(part.note for part in found.values() if part.note)],
    )


def _verdict(judged: Judged, found: Convergence, where: str, extra: list[Check]) -> dict[str, Any]:
    """All checks; that of divergences says where they are."""
    chains, draws = judged.f.shape
    verdict = judge(
        rhat_max=float(np.max(found.rhat)),
        ess_bulk_min=float(np.min(found.ess_bulk)),
        ess_tail_min=float(np.min(found.ess_tail)),
        acceptance=judged.acceptance if judged.is_tuned else None,
        divergences=judged.divergences,
        draws_total=chains * (judged.transitions or draws),
        extra=extra,
    )
    for check in verdict["checks"]:
        if check["name"].startswith("divergences") and where:
            check["means"] += f" {where}"
    return verdict


def _energy(judged: Judged) -> tuple[dict[str, Any] | None, list[Check]]:
    """E-BFMI of each chain; None where energies are not those of trajectories."""
    if judged.energies is None or not judged.has_momentum or judged.thin > 1:
        return None, []
    values = e_bfmi(judged.energies)
    worst = float(np.min(values))
    check = Check(
        name="E-BFMI of the worst chain",
        value=worst,
        limit=LOWEST,
        ok=worst >= LOWEST,
        severity="caution" if worst >= LOWEST / 3 else "failed",
        means="Fresh momenta change the energy little beside its spread: chains walk slowly "
        "through energies, and may not reach the tails.",
        try_="Draw longer chains; if it stays, f is heavy-tailed or too steep for its spread: "
        "look at the largest and smallest f.",
    )
    low = int(np.sum(~(values >= LOWEST)))
    return {"e_bfmi": values.tolist(), "e_bfmi_min": worst, "chains_below": low}, [check]


def _unbiased(judged: Judged) -> list[Check]:
    kernel = judged.moved_by
    if kernel is None or not kernel.is_biased:
        return []
    return [biased(str(judged.kernel))]


def _mixing(judged: Judged, names: tuple[str, ...], found: Convergence) -> dict[str, Any]:
    gradients = judged.gradients
    of_all = None if gradients is None else len(judged.f) * gradients
    told = {"acceptance": judged.acceptance, "gradients": gradients}
    return extremes(names, found, of_all) | told


def _times(judged: Judged, names: tuple[str, ...], found: Convergence) -> dict[str, Any]:
    """Integrated autocorrelation times, in transitions."""
    flat = judged.flat
    size = flat.shape[-1]
    worst = int(np.argmin(np.nan_to_num(found.ess_bulk[:size], nan=-1.0)))
    series = np.stack([judged.f, judged.norm, flat[..., worst]], axis=-1)
    times = autocorrelation_time(series) * judged.thin
    plain = [float(value) if math.isfinite(value) else None for value in times]
    return {**dict(zip(("f", "norm", "worst"), plain, strict=True)), "worst_of": names[worst]}


def _unknown(judged: Judged, data: Dataset | None) -> list[str]:
    """What could not be looked at, in sentences."""
    notes = []
    if judged.kernel is None:
        notes.append("Which kernel made these draws is not recorded, so not whether it is biased.")
    if judged.energies is None:
        notes.append(
            "A .npz file records no energies, acceptance or divergences: sample with --stream to "
            "have them judged."
        )
    elif judged.kernel is not None and not judged.has_momentum:
        notes.append(f"E-BFMI is not known: {judged.kernel} draws no momenta for every move.")
    elif judged.thin > 1:
        notes.append("E-BFMI is not known: it needs the energy of every transition (thin 1).")
    if data is None:
        notes.append(
            "The run's data were not found, or have changed: nothing was compared with them."
        )
    return notes


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
