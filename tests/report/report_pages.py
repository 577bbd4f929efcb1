"""Run folders as a fit leaves them, and their report held to what every report must be."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tiltflow.report.figures import MAX_BYTES
from tiltflow.report.page import write_report

VOID = {"img", "meta", "br", "hr"}


class Page(HTMLParser):
    """Checks that tags balance while it collects images, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def report(folder: Path) -> Page:
    """Write the report and hold it to what every report must be."""
    path = write_report(folder)
    assert path == folder / "report.html"
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "@import" not in source
    assert "url(" not in source
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert not re.match(r"\s*(https?:|//|javascript:)", value)
    for image in page.images:
        assert (image["src"] or "").startswith("data:image/png;base64,")
        assert image["alt"]
        assert int(image["width"] or 0) > 100
    files = list((folder / "figures").iterdir())
    assert len(files) == len(page.images)
    assert all(f.suffix == ".png" and f.stat().st_size <= MAX_BYTES for f in files)
    assert sorted(f.name for f in folder.iterdir() if f.name.startswith(".")) == []
    assert "could not be drawn" not in page.text
    return page


def stage(i: int, learner: str = "population") -> dict[str, Any]:
    level = 1 - np.exp(-i / 4)
    return {
        "time": 20.0 + i, "phase": "tilt", "event": "stage", "learner": learner, "stage": i,
        "step": 10 * i, "seconds": float(i), "gradients": 100 * i, "gain_train": 5 * level,
        "gain_val": 4 * level, "log_z": 24 * level, "share": 0.5, "transitions": 2 + i % 3,
        "acceptance": 0.8, "f_learners": 28 * level, "f_witnesses": 29 * level,
        "f_val": 28.5 * level, "agreement": (-1) ** i * 1.3, "step_size": 0.3,
    }  # fmt: skip


def write_events(folder: Path, stages: int = 12, learners: tuple[str, ...] = ("population",)):
    events: list[dict[str, Any]] = [
        {"time": i / 10, "phase": "backbone", "event": "progress", "step": 100 * i,
         "nll_train": 90 + 60 / (i + 1), "nll_val": 93 + 60 / (i + 1)}
        for i in range(20)
    ]  # fmt: skip
    events += [{"time": 2.0, "phase": "backbone", "event": "kept", "step": 1500, "nll_val": 93.5}]
    events += [stage(i, learner) for learner in learners for i in range(stages)]
    events += [
        {"time": 30.0, "phase": "tilt", "event": "kept", "step": 100, "gain_val": 3.6},
        {"time": 31.0, "phase": "tilt", "event": "health", "action": "rate halved", "why": "lag"},
        {"time": 32.0, "phase": "tilt", "event": "something new"},
    ]
    lines = "\n".join(json.dumps(e) for e in events)
    (folder / "events.jsonl").write_text(lines + "\n", encoding="utf-8")


def write_metrics(folder: Path, status: str = "ok", name: str = "digits", **changes: Any) -> None:
    check = {"name": "R-hat", "value": 1.00571, "limit": 1.01, "ok": True, "means": "chains agree",
             "try": "draw longer"}  # fmt: skip
    metrics = {
        "data": {"name": name, "train": 1300, "val": 200, "test": 297, "shape": [8, 8]},
        "backbone": {"nll_test": 93.6171, "nll_val": 93.46},
        "tilted": {"nll_test": 89.3049, "nll_low": 89.04, "nll_high": 89.58},
        "gain_nats": {"mean": 4.3122, "low": 3.97, "high": 4.66},
        "log_z": {"mean": 24.89, "low": 24.7, "high": 25.1, "method": "bridge"},
        "mixing": {"rhat_max": 1.00571, "ess_bulk_min": 1210.4, "draws": 500, "chains": 64},
        "seconds": {"backbone": 20.4, "tilt": 234.9, "total": 318.0},
        "verdict": {"status": status, "text": "It mixes.", "checks": [check]},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes), encoding="utf-8")


def write_evidence(folder: Path, event: tuple[int, ...], **changes: Any) -> None:
    rng = np.random.default_rng(0)
    if event == (8, 8):
        data = load_digits().data.reshape(-1, 8, 8)[:80]
    else:
        data = rng.normal(size=(80, *event))
    arrays = {
        "data": data,
        "backbone": data + rng.normal(size=data.shape),
        "tilted": data + 0.1 * rng.normal(size=data.shape),
        "travel": np.stack([data[i : i + 20] for i in range(5)]),
        "f_data": rng.normal(28, 5, 90),
        "f_tilted": rng.normal(28, 5, 300),
        "f_backbone": rng.normal(0, 20, 300),
        "trace_f": rng.normal(28, 5, (4, 100)),
        "trace_norm": rng.normal(64, 9, (4, 100)),
        "autocorrelation_f": 0.8 ** np.arange(30),
        "autocorrelation_norm": 0.6 ** np.arange(30),
        "autocorrelation_worst": 0.9 ** np.arange(30),
        "rhat_latent": 1 + rng.uniform(0, 0.02, 64),
        "ess_bulk_latent": rng.uniform(200, 3000, 64),
    }
    np.savez(folder / "evidence.npz", **(arrays | changes))
