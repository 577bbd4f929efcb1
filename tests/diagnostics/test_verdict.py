"""The verdict: each limit, and words a reader can act on."""

import json

import pytest

from tiltflow.diagnostics.verdict import PARTS, Check, judge

GOOD = {
    "rhat_max": 1.004,
    "ess_bulk_min": 2000.0,
    "ess_tail_min": 1800.0,
    "acceptance": 0.8,
    "divergences": 0,
    "draws_total": 64_000,
}


def test_good_chains():
    verdict = judge(**GOOD)
    assert verdict["status"] == "ok"
    assert "converged" in verdict["text"]
    assert all(check["ok"] for check in verdict["checks"])
    json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        ({"rhat_max": 1.015}, "draw more", "R-hat"),
        ({"rhat_max": 1.04}, "caution", "R-hat"),
        ({"rhat_max": 1.2}, "failed", "R-hat"),
        ({"rhat_max": float("nan")}, "failed", "R-hat"),
        ({"ess_bulk_min": 300.0}, "draw more", "bulk ESS"),
        ({"ess_bulk_min": 30.0}, "failed", "bulk ESS"),
        ({"ess_tail_min": float("nan")}, "failed", "tail ESS"),
        ({"divergences": 200}, "caution", "divergences"),
        ({"divergences": 6400}, "failed", "divergences"),
        ({"acceptance": 0.5}, "caution", "acceptance"),
        ({"acceptance": 0.99}, "caution", "acceptance"),
        ({"acceptance": 0.01}, "failed", "acceptance"),
    ],
)
def test_each_limit(change, status, name):
    verdict = judge(**GOOD | change)
    assert verdict["status"] == status
    assert name in verdict["text"]
    broken = [check for check in verdict["checks"] if not check["ok"]]
    assert len(broken) == 1
    assert broken[0]["means"]
    assert broken[0]["try"]
    json.dumps(verdict, allow_nan=False)


def test_checks_from_outside_count():
    check = Check("log Z", 3.0, 0.5, False, "failed", "Unknown.", "Run longer.")
    verdict = judge(**GOOD, extra=[check])
    assert verdict["status"] == "failed"
    assert "log Z" in verdict["text"]
    assert verdict["checks"][-1]["try"] == "Run longer."


def test_one_failed_check_among_cautions_fails_the_verdict():
    assert judge(**GOOD | {"rhat_max": 1.02, "ess_bulk_min": 30.0})["status"] == "failed"
    assert judge(**GOOD | {"rhat_max": 1.04, "ess_bulk_min": 300.0})["status"] == "caution"
    assert judge(**GOOD | {"rhat_max": 1.02, "ess_bulk_min": 300.0})["status"] == "draw more"


def test_each_part_has_its_own_status_and_the_worst_is_named():
    def of(part, severity, *, ok=False):
        return Check(f"{part} is {severity}", 1.0, 0.0, ok, severity, "", "", part)

    checks = [of("data", "caution"), of("backbone", "failed", ok=True), of("log Z", "failed")]
    verdict = judge(**GOOD | {"rhat_max": 1.015}, extra=checks)
    assert verdict["status"] == "failed"
    assert list(verdict["parts"].items()) == [
        ("data", "caution"), ("backbone", "ok"), ("chains", "draw more"), ("log Z", "failed"),
    ]  # fmt: skip
    assert "(log Z)" in verdict["text"]
    assert "data" not in verdict["text"]
    assert {check["part"] for check in verdict["checks"]} == set(verdict["parts"])


def on(part, severity, name, *, ok=False, rests_on=()):
    return Check(name, 1.0, 0.0, ok, severity, "", "", part, rests_on)


def test_trouble_is_named_where_it_begins():
    """What rests on a part that failed is not heard; of equals the first in line is named."""
    checks = [
        on("tilt", "failed", "runs away"),
        on("log Z", "failed", "no overlap"),
        on("data", "failed", "tails of scores", rests_on=("backbone", "tilt")),
        on("backbone", "failed", "behind", rests_on=("log Z",)),
    ]
    verdict = judge(**GOOD | {"rhat_max": 3.0}, extra=checks)
    assert verdict["part"] == "tilt"
    assert verdict["text"].startswith("Failed (the tilt, and with it the chains and log Z):")
    assert list(verdict["parts"]) == ["tilt", "chains", "log Z"]
    # A doubt takes nothing with it.
    doubts = [on("tilt", "caution", "kinks"), *checks[2:3]]
    assert judge(**GOOD, extra=doubts)["part"] == "data"


def test_ok_speaks_of_every_part_that_was_looked_at():
    every = [on(part, "failed", "x", ok=True) for part in PARTS]
    verdict = judge(**GOOD, extra=every)
    assert verdict["status"] == "ok"
    assert verdict["part"] is None
    for words in (
        "the data (1 check), the backbone (1 check), the tilt (1 check), the chains (6 checks) or "
        "log Z (1 check).",
        "The chains have converged",
    ):
        assert words in verdict["text"]
    assert judge(**GOOD)["text"].startswith("The chains have converged")


@pytest.mark.parametrize(("acceptance", "limit"), [(0.5, 0.6), (0.8, 0.6), (0.99, 0.95)])
def test_acceptance_is_held_against_the_limit_that_it_misses(acceptance, limit):
    found = judge(**{**GOOD, "acceptance": acceptance})
    assert next(c for c in found["checks"] if c["name"] == "acceptance")["limit"] == limit
