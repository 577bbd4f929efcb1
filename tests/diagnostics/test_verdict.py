"""The verdict: each limit, and words a reader can act on."""

import json

import pytest

from tiltflow.diagnostics.verdict import Check, judge

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


@pytest.mark.parametrize(("acceptance", "limit"), [(0.5, 0.6), (0.8, 0.6), (0.99, 0.95)])
def test_acceptance_is_held_against_the_limit_that_it_misses(acceptance, limit):
    found = judge(**{**GOOD, "acceptance": acceptance})
    assert next(c for c in found["checks"] if c["name"] == "acceptance")["limit"] == limit
