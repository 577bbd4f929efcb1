"""The report is written from any run folder, opens offline, and says what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tiltflow.cli.main import run
from tiltflow.errors import InputError
from tiltflow.report import figures, numbers
from tiltflow.report.figures import MAX_BYTES, apart
from tiltflow.report.images import mosaic, shrink
from tiltflow.report.page import write_report
from tiltflow.report.run_folder import read_run

VOID = {"img", "meta", "br", "hr"}
HOSTILE = '<script>alert("1")</script>&\x00'


@pytest.fixture(autouse=True)
def coarse(request, monkeypatch):
    """Draw coarsely where sharpness is not what is tested: it takes half the time."""
    if "sharp" not in request.fixturenames:
        monkeypatch.setattr(figures, "DPI", 60)


@pytest.fixture
def sharp():
    """Draw as users see it."""


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


def test_finished_run_on_images(tmp_path, sharp):
    write_events(tmp_path, learners=("population", "persistent"))
    write_metrics(tmp_path)
    write_evidence(tmp_path, (8, 8))
    config = 'command = "tiltflow fit digits --seed 0"\n[tilt]\nrate = 1e-3\nhidden = [256, 256]\n'
    (tmp_path / "config.toml").write_text(config)
    page = report(tmp_path)
    for text in (
        "Converged", "93.62", "89.30", "89.04 to 89.58", "+4.31", "+3.97 to +4.66",
        "mixing.rhat_max", "1.006", "1,210", "8 × 8", "5 min 18 s", "draw longer",
        "rate halved", "tiltflow fit digits --seed 0", "256, 256", "nats per image",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Missing" not in page.text
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert {"samples_data", "samples_tilted", "travel", "trace_f", "rhat", "gain", "log_z",
            "mean_f_population", "mean_f_persistent", "backbone", "energies"} <= names  # fmt: skip


COPIES = {
    "training": 1300, "draws": 256, "held_out": 297, "distance": 15.2, "distance_held_out": 16.5,
    "nearer": 0.0234, "nearer_by_chance": 0.0067, "nearer_p": 0.0412, "twins": 0.02,
    "twins_held_out": 0.0034,
}  # fmt: skip


def write_copies(folder: Path, **changes: Any) -> None:
    """A run on images with nearest training images and paths between images."""
    rng = np.random.default_rng(1)
    data = load_digits().data.reshape(-1, 8, 8)
    arrays = {
        "copies_draws": data[:32] + rng.normal(size=(32, 8, 8)),
        "copies_training": data[:32],
        "copies_distance": rng.gamma(20, size=256),
        "copies_distance_held_out": rng.gamma(20, size=297),
        "interpolation": data[: 8 * 16].reshape(8, 16, 8, 8),
    }
    write_evidence(folder, (8, 8), **(arrays | changes))


def test_nearest_training_images_and_paths_with_their_numbers(tmp_path, sharp):
    write_metrics(tmp_path, copies=COPIES)
    write_copies(tmp_path)
    page = report(tmp_path)
    for text in (
        "Of 256 draws 2.0% have a nearest", "held-out images: 0.3%", "2.3% are nearer",
        "0.7% by chance; so many or more with probability 0.0412", "rarer than about 1.2%",
        "are held-out images, pulled", "copies.twins_held_out", "Copies of training images",
    ):  # fmt: skip
        assert text in page.text, text
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert {"copies", "copies_distance", "interpolation"} <= names


def test_pairs_without_numbers_say_so_and_fewer_than_a_row_will_do(tmp_path):
    write_metrics(tmp_path)
    few = np.ones((5, 8, 8))
    write_copies(tmp_path, copies_draws=few, copies_training=few, copies_distance=np.zeros(3))
    text = report(tmp_path).text
    assert "missing from metrics.json" in text
    assert "Below them are others" not in text


def test_draws_at_the_ends_of_paths_are_said_to_be_draws(tmp_path):
    write_metrics(tmp_path)
    write_copies(tmp_path, interpolation_draws=np.ones((2, 3, 8, 8)), interpolation=np.array(["a"]))
    assert "are draws of the tilted model, as a generator" in report(tmp_path).text


def test_a_run_from_before_there_were_such_pictures(tmp_path):
    write_metrics(tmp_path)
    write_evidence(tmp_path, (8, 8))
    page = report(tmp_path)
    for absent in ("Copies", "Between images", "training image"):
        assert absent not in page.text


def test_pairs_that_do_not_fit_are_left_out(tmp_path):
    write_metrics(tmp_path)
    write_copies(tmp_path, copies_training=np.ones((7, 8, 8)), interpolation=np.ones((2, 3, 4, 4)))
    page = report(tmp_path)
    assert "interpolation has the shape" in page.text
    assert "copies_draws 32 and copies_training 7 images, which make no pairs" in page.text
    assert "Upper row of each pair" not in page.text


def test_draws_of_a_generator_are_said_to_be_without_its_noise(tmp_path):
    write_copies(tmp_path)
    write_metrics(tmp_path, copies=COPIES)
    assert "generator’s noise" not in report(tmp_path).text
    write_metrics(tmp_path, copies=COPIES, noise={"before": 0.1})
    assert "without the generator’s noise" in report(tmp_path).text


def test_finished_run_on_a_table(tmp_path, sharp):
    write_metrics(tmp_path, status="failed")
    write_evidence(tmp_path, (7,), columns=np.array(["height", "$x_{", HOSTILE]))
    page = report(tmp_path)
    assert "Not converged" in page.text
    assert "nats per row" in page.text
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert {"marginal_1", "marginal_6", "pairs", "travel"} <= names
    assert "marginal_7" not in names


@pytest.mark.parametrize("event", [(1,), (12, 9, 3), (100, 60), (4, 6, 1), ()])
def test_any_shape_of_observation(tmp_path, event):
    data = np.random.default_rng(0).normal(size=(20, *event))
    np.savez(tmp_path / "evidence.npz", data=data, tilted=data + 1, travel=data[None])
    assert len(report(tmp_path).images) == (3 if len(event) > 1 else 2)


@pytest.mark.parametrize("stages", [0, 1, 5])
def test_half_finished_run(tmp_path, stages):
    write_events(tmp_path, stages=stages)
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('[1, 2]\n{"time": 12,')
    page = report(tmp_path)
    for text in ("Unfinished", "not measured yet", "metrics.json is missing", "2 unreadable lines",
                 "evidence.npz is missing", "Last event: tilt"):  # fmt: skip
        assert text in page.text, text
    assert len(page.images) == (8 if stages else 1)
    assert "No samples" not in page.text
    last = f"{stage(4)['gain_val']:+.2f}"
    assert (last in page.text) == (stages == 5)  # the held-out gain so far


def test_a_run_that_stopped_says_why_and_how_to_go_on(tmp_path):
    write_events(tmp_path, stages=2)
    (tmp_path / "config.toml").write_text("seed = 0\n")
    assert "It stopped" not in report(tmp_path).text
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"time": 9, "phase": "run", "event": "stopped", "why": "no space left"}\n')
    text = report(tmp_path).text
    for words in ("It stopped: no space left.", "goes on with --resume", "Last event: tilt"):
        assert words in text


def test_the_command_reports_on_events_alone(tmp_path, capsys):
    write_events(tmp_path, stages=0)
    assert run(["report", str(tmp_path)]) == 0
    assert "Unfinished" in (tmp_path / "report.html").read_text()
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert run(["report", str(tmp_path / "empty")]) == 2
    assert "is not a run" in capsys.readouterr().err


def test_empty_run(tmp_path):
    page = report(tmp_path)
    assert page.images == []
    for name in ("config.toml", "metrics.json", "events.jsonl", "evidence.npz"):
        assert f"{name} is missing" in page.text


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        write_report(tmp_path / "nowhere")


def test_hostile_text_stays_text(tmp_path):
    folder = tmp_path / "<b>run&"
    folder.mkdir()
    write_events(folder, stages=3, learners=(HOSTILE,))
    check = {
        "name": HOSTILE,
        "value": HOSTILE,
        "limit": None,
        "ok": HOSTILE,
        "try": ["<i>", "\ud800"],
    }
    verdict = {"status": [HOSTILE], "text": HOSTILE, "checks": [check, HOSTILE]}
    write_metrics(folder, name=HOSTILE, verdict=verdict, **{HOSTILE: {HOSTILE: HOSTILE}})
    (folder / "config.toml").write_text("'</style><img src=x>' = 1\n")
    page = report(folder)
    assert page.text.count("<script>") >= 5
    assert "</style><img src=x>" in page.text
    assert page.tags.count("style") == 1


def test_images_have_bits_per_dimension_beside_the_nats(tmp_path):
    write_metrics(tmp_path)
    assert "bits/dim" not in report(tmp_path).text
    tilted = {"nll_test": 89.3, "nll_low": 89.0, "nll_high": 89.6, "bpd": 2.0131}
    write_metrics(tmp_path, backbone={"nll_test": 93.6, "bpd": 2.1101}, tilted=tilted)
    text = report(tmp_path).text
    assert "2.110 bits/dim" in text
    assert "89.00 to 89.60; 2.013 bits/dim" in text


def test_learning_is_shown_beside_fresh_chains_at_the_moments_when_they_were_started(tmp_path):
    write_events(tmp_path)
    write_metrics(tmp_path)
    assert not any("fresh chains" in (i["alt"] or "") for i in report(tmp_path).images)
    with (tmp_path / "events.jsonl").open("a") as stream:
        for seconds, told, found in ((3.0, 2.0, 1.5), (6.0, 3.0, -1.25)):
            look = {"time": 20 + seconds, "phase": "tilt", "event": "fresh", "seconds": seconds}
            stream.write(json.dumps(look | {"gain_val": told, "gain_fresh": found}) + "\n")
    page = report(tmp_path)
    alt = next(i["alt"] for i in page.images if "fresh chains" in (i["alt"] or ""))
    assert "3.00 nats as learning tells it and -1.25 nats by fresh chains" in alt.replace("−", "-")
    assert "The band is the final gain on test data" in page.text
    (tmp_path / "metrics.json").unlink()
    assert "The band is the final gain" not in report(tmp_path).text


def test_missing_and_impossible_numbers(tmp_path):
    nothing = {"mean": None, "low": float("nan"), "high": "4"}
    write_metrics(tmp_path, status="caution", tilted={"nll_test": float("inf")}, gain_nats=nothing,
                  data=None, mixing=[1, None], verdict={"status": "caution"})  # fmt: skip
    broken = [
        stage(i) | {"gain_val": None, "share": float("nan"), "agreement": "x"} for i in (1, 2)
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(json.dumps(e) for e in broken))
    holes = np.full((4, 50), np.nan)
    holes[:, 10] = 1.0
    write_evidence(
        tmp_path, (8, 8), trace_f=holes, rhat_latent=np.array([1.0, np.nan, np.inf]),
        ess_bulk_latent=np.full(3, np.nan), f_data=np.full(9, 2.0), f_tilted=np.full(9, 2.0),
        f_backbone=np.array(["a"]), trace_norm=np.ones(3), tilted=np.ones((5, 4, 4)),
    )  # fmt: skip
    page = report(tmp_path)
    for text in (
        "Caution", "not a number", "∞", "not measured yet", "ess_bulk_latent holds no finite",
        "f_backbone holds", "trace_norm has the unexpected shape", "tilted has the shape",
    ):  # fmt: skip
        assert text in page.text, text


@pytest.mark.parametrize("name", ["metrics.json", "config.toml", "events.jsonl", "evidence.npz"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x00PK\x03{[")
    assert name in report(tmp_path).text


def test_pickled_evidence_is_not_opened(tmp_path):
    data = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "evidence.npz", data=data, f_data=np.arange(5.0))
    run = read_run(tmp_path)
    assert set(run.evidence) == {"f_data"}
    assert any("data could not be read" in problem for problem in run.problems)


def test_noise_is_kept_below_the_size_limit(tmp_path, sharp):
    noise = np.random.default_rng(0).uniform(size=(64, 40, 40, 3))
    travel = np.random.default_rng(1).uniform(size=(8, 20, 40, 40, 3))
    np.savez(tmp_path / "evidence.npz", data=noise, travel=travel)
    report(tmp_path)


def test_writing_twice_gives_the_same_page(tmp_path):
    write_metrics(tmp_path)
    write_events(tmp_path, stages=3)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_mosaic_places_every_image():
    images = np.arange(1.0, 7.0)[:, None, None] * np.ones((6, 8, 8))
    sheet = mosaic(images, 3, 0.0, 6.0, gaps=(0.25, 0.125))
    assert sheet.shape == (18, 26, 3)
    corners = sheet[::10, ::9, 0][:2]
    assert (np.diff(corners.ravel()) < 0).all()  # more is darker, in reading order
    assert (sheet[8:10] == 1).all()


def test_shrink_averages_blocks():
    image = np.zeros((1, 80, 80))
    image[0, 0, 0] = 4.0
    assert shrink(image).shape == (1, 40, 40)
    assert shrink(image)[0, 0, 0] == 1.0


def test_labels_are_pushed_apart_and_stay_inside():
    placed = apart([0.5, 0.5, 0.98, 1.0], gap=0.1)
    assert np.diff(placed).min() > 0.1 - 1e-9
    assert max(placed) <= 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005712, "1.006"), (1210.43, "1,210"), (0.0003, "0.0003"), (3e-7, "3.000e−07"), (-2, "−2"),
     (True, "yes"), (None, "–"), (float("-inf"), "−∞"), (12345, "12,345"), (0.0, "0"),
     (9.99996, "10")],
)  # fmt: skip
def test_readable_numbers(value, text):
    assert numbers.readable(value) == text


def test_nats_and_seconds():
    assert numbers.nats(-93.617) == "−93.62"
    assert numbers.signed_nats(4.3122) == "+4.31"
    assert numbers.interval(1.0, None) is None
    assert numbers.nats(1894.26) == "1,894.3"
    assert [numbers.seconds(s) for s in (4.2, 41, 245, 7800)] == [
        "4.2 s", "41 s", "4 min 05 s", "2 h 10 min"
    ]  # fmt: skip
