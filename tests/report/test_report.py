"""The report is written from any run folder, opens offline, and says what is missing."""

import json
import os

import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from report_pages import report, stage, write_events, write_evidence, write_metrics

from tiltflow.cli.main import run
from tiltflow.errors import InputError
from tiltflow.report import figures
from tiltflow.report.drift import drift_pictures
from tiltflow.report.page import write_report
from tiltflow.report.run_folder import read_run

HOSTILE = '<script>alert("1")</script>&\x00'


def test_finished_run_on_images(tmp_path, sharp):
    write_events(tmp_path, learners=("population", "persistent"))
    write_metrics(tmp_path)
    write_evidence(tmp_path, (8, 8))
    config = 'command = "tiltflow fit digits --seed 0"\n[tilt]\nrate = 1e-3\nhidden = [256, 256]\n'
    (tmp_path / "config.toml").write_text(config)
    page = report(tmp_path)
    for text in (
        "Sound", "93.62", "89.30", "89.04 to 89.58", "+4.31", "+3.97 to +4.66",
        "mixing.rhat_max", "1.006", "1,210", "8 × 8", "5 min 18 s", "draw longer",
        "rate halved", "tiltflow fit digits --seed 0", "256, 256", "nats per image",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Missing" not in page.text
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert {"samples_data", "samples_tilted", "travel", "trace_f", "rhat", "gain", "log_z",
            "mean_f_population", "mean_f_persistent", "backbone", "energies"} <= names  # fmt: skip


def test_finished_run_on_a_table(tmp_path, sharp):
    write_metrics(tmp_path, status="failed")
    write_evidence(tmp_path, (7,), columns=np.array(["height", "$x_{", HOSTILE]))
    page = report(tmp_path)
    assert "Failed" in page.text
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
        "Caution", "not a number", "∞", "not known: see the verdict",
        "Beyond the limit here: 2 of 3, 2 of them not finite", "ess_bulk_latent holds no finite",
        "f_backbone holds", "trace_norm has the unexpected shape", "tilted has the shape",
    ):  # fmt: skip
        assert text in page.text, text


@pytest.mark.parametrize("name", ["metrics.json", "config.toml", "events.jsonl", "evidence.npz"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x00PK\x03{[")
    assert name in report(tmp_path).text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.json")
    assert "metrics.json is not a regular file" in report(tmp_path).text


def test_encrypted_evidence_is_told(tmp_path):
    """A flag in both headers of each member: reading raises RuntimeError."""
    np.savez(tmp_path / "evidence.npz", data=np.ones((5, 2)))
    archive = bytearray((tmp_path / "evidence.npz").read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(header) + flags] |= 1
    (tmp_path / "evidence.npz").write_bytes(archive)
    assert "encrypted" in report(tmp_path).text


def test_pickled_evidence_is_not_opened(tmp_path):
    data = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "evidence.npz", data=data, f_data=np.arange(5.0))
    run = read_run(tmp_path)
    assert set(run.evidence) == {"f_data"}
    assert any("data could not be read" in problem for problem in run.problems)


def test_writing_twice_gives_the_same_page(tmp_path):
    write_metrics(tmp_path)
    write_events(tmp_path, stages=3)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def drift_block(**changes):
    block = {
        "transitions": [1, 2, 5, 10], "f": [0.1, 0.5, 2.0, 4.0], "f_error": [0.1] * 4,
        "f_data": 1.9, "words": "Drift: chains go <past> the data.",
    }  # fmt: skip
    return block | changes


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (drift_block(), True),
        (drift_block(f=[0.1, None, 2.0, 4.0]), False),
        (drift_block(f_data="1.9"), False),
        (drift_block(transitions=[1, 2]), False),
        ("none", False),
    ],
)
def test_drift_is_a_picture_where_its_numbers_are_there(tmp_path, block, shown):
    write_metrics(tmp_path, drift=block)
    page = report(tmp_path)
    assert (tmp_path / "figures" / "drift.png").exists() == shown
    assert ("go <past> the data" in page.text) or not shown


def test_transitions_are_plain_numbers(tmp_path):
    """Powers of ten would be written as mathematics, which pages do not read."""
    write_metrics(tmp_path, drift=drift_block())
    (picture,) = drift_pictures(read_run(tmp_path))
    with style.context(figures.STYLE):
        figure = Figure()
        picture.draw(figure)
        figure.canvas.draw()
    told = [label.get_text() for label in figure.axes[0].get_xticklabels(which="both")]
    assert {"1", "10"} <= set(told)
    assert not any("$" in text for text in told)


def members(folder, **tilt):
    """The events of an ensemble: a flow, all members, and a linear tilt."""
    events = [
        {"phase": "member 0", "event": "began", "nll_val": 48.5},
        {"phase": "member 0", "event": "progress", "step": 250, "nll_val": 47.1},
        {"phase": "members", "event": "kept", "nll_val": 46.25},
        {"phase": "tilt", "event": "kept", "learner": "linear", "crossfitted": 0.29, "error": 0.06}
        | tilt,
    ]
    lines = (json.dumps({"time": i, **event}) for i, event in enumerate(events))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("gain", "refused"), [(0.29, False), (0.0, True)])
def test_members_and_what_their_tilt_is_worth_are_told(tmp_path, gain, refused):
    members(tmp_path, gain_val=gain)
    write_metrics(tmp_path)
    page = report(tmp_path)
    assert (tmp_path / "figures" / "members.png").exists()
    assert "46.25" in page.text
    assert "+0.29" in page.text
    assert ("not worth having" in page.text) == refused


def test_of_an_f_that_is_0_there_are_no_pictures(tmp_path):
    write_metrics(tmp_path, drift=drift_block(f=[0.0] * 4, f_data=0.0))
    np.savez(tmp_path / "evidence.npz", f_data=np.zeros(9), f_tilted=np.zeros(9))
    assert "the model is its backbone" in report(tmp_path).text
    assert not (tmp_path / "figures" / "drift.png").exists()
    assert not (tmp_path / "figures" / "energies.png").exists()
