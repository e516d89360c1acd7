"""`pinetune doctor` tells the truth: what holds is tried, what does not hold is said, exit codes and install commands."""

from __future__ import annotations

import json

import pytest
from sandbox_attacks import EACH_LEVEL
from typer.testing import CliRunner

from pinetune.cli.doctor import INSTALL, examine, report
from pinetune.cli.main import app
from pinetune.sandbox import selfcheck
from pinetune.sandbox.levels import CONFINED, LEVELS, confined_level
from pinetune.sandbox.packages import CORPORA, PACKAGES

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

can_confine = pytest.mark.skipif(confined_level() is None, reason=f"cannot confine here: {[problem() for problem in CONFINED.values()]}")
PROMISES = [*selfcheck.ATTACKS, "one call leaves nothing for the next", "a call that takes too long ends with all it started"]


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_every_promise_holds_where_the_host_can_confine(level: str) -> None:
    assert selfcheck.check(LEVELS[level]) == [selfcheck.Finding(promise, held=True) for promise in PROMISES]


def test_an_unconfined_level_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the attacks that do no harm here; each says what it got at."""
    harmless = ("no network", "host files hidden", "host processes hidden")
    monkeypatch.setattr(selfcheck, "ATTACKS", {promise: selfcheck.ATTACKS[promise] for promise in harmless})
    monkeypatch.setattr(selfcheck, "_twice", lambda *_: selfcheck.Finding("twice", held=True))
    findings = {one.promise: one for one in selfcheck.check(LEVELS["unsafe"])}
    assert [findings[promise].held for promise in harmless] == [False, False, False]
    assert findings["no network"].detail.startswith("connected to ('127.0.0.1', ")
    assert findings["host files hidden"].detail.startswith("sees /")
    assert findings["host processes hidden"].detail.endswith(" processes")


def test_a_promise_that_breaks_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "check", lambda level: [selfcheck.Finding("disk limit", held=False, detail="wrote 16 MiB")])
    monkeypatch.setattr("pinetune.cli.doctor.confined_level", lambda: LEVELS["bubblewrap"])
    text = report(examine())
    assert text.splitlines()[:2] == ["python graders: bubblewrap does NOT hold what it promises", "  NO  disk limit: wrote 16 MiB"]
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_a_host_that_cannot_confine_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONFINED:
        monkeypatch.setitem(CONFINED, name, lambda: "this host forbids it")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == "python graders: REFUSED, this host cannot confine them"
    assert lines[1] == "  bubblewrap: this host forbids it. namespaces: this host forbids it"
    assert [f"  {system}: {command}" for system, command in INSTALL.items()] == lines[3:8]
    body = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert (body["ok"], body["level"], body["promises"]) == (False, None, [])


@can_confine
def test_json_holds_all_a_program_needs() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0
    body = json.loads(done.output)
    assert body["ok"] and body["level"] in CONFINED and body["why_not"] is None
    assert [one["promise"] for one in body["promises"]] == PROMISES
    assert body["host"]["python"].startswith("3.") and body["host"]["torch"] and body["host"]["cores"] >= 1
    assert body["packages"].keys() == {package.name for package in PACKAGES.values()}
    assert body["packages"]["numpy"] and set(body["nltk_corpora_missing"]) <= set(CORPORA)


def test_absent_packages_come_with_their_command() -> None:
    found = {
        "ok": True,
        "level": "bubblewrap",
        "why_not": None,
        "promises": [],
        "host": {
            "system": "Linux",
            "pinetune": "1",
            "python": "3.11",
            "torch": "2",
            "bubblewrap": None,
            "cores": 2,
            "memory_gib": 8.0,
            "gpus": [],
        },
        "packages": {package.name: "1.0" for package in PACKAGES.values()} | {"pandas": None, "sympy": None, "rdkit": None},
        "nltk_corpora_missing": [],
    }
    lines = report(found).splitlines()
    assert lines[0] == "python graders: confined by bubblewrap"
    assert lines[-2:] == ["  absent: sympy, pandas (pip install 'pinetune[graders]')", "  absent: rdkit (pip install rdkit)"]
    assert "  2 cores, 8.0 GiB of memory, GPU: none" in lines
