"""Planted faults in real jobs on tiny models: each raises exactly its alarm, in words that say what to do; sound jobs raise none."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from alarm_jobs import CLOSED, FORGIVING, PLANTED, SOUND_JOBS, WORDS, Planted, body_of, python, run_planted, said_in
from rich.console import Console

from pinetune.bench.options import BenchOptions
from pinetune.bench.run import bench
from pinetune.cli.run import run_job
from pinetune.data.rows import load_rows
from pinetune.errors import ModelError
from pinetune.graders.build import build_grader
from pinetune.loop.alarms import EVAL_ALARMS, STEP_ALARMS
from pinetune.runs.folder import RunFolder
from pinetune.sampling.local import LocalSampler


def test_every_alarm_has_a_job_that_raises_it() -> None:
    assert set(PLANTED) == {*STEP_ALARMS, *EVAL_ALARMS}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLANTED if name != "gaming"])
def test_a_planted_fault_in_a_real_job_raises_exactly_its_alarm(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "sampler_gap":  # the weights that sample stay those of the base
        monkeypatch.setattr(LocalSampler, "refresh", lambda sampler: None)
    said = run_planted(tmp_path, PLANTED[name])
    assert [alarm.name for alarm in said] == [name]
    message = said[0].message
    assert [words for words in PLANTED[name].words if words not in message] == []
    assert "\n" not in message and "Traceback" not in message  # for someone who is no expert in programs


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND_JOBS)
def test_a_sound_job_raises_none(tmp_path: Path, name: str) -> None:
    assert run_planted(tmp_path, SOUND_JOBS[name]) == []


@pytest.mark.slow
def test_a_hole_in_the_grader_is_shown_with_the_answers_that_use_it(tmp_path: Path) -> None:
    """The whole of `pinetune run`: the alarm is on the screen and in the report, with answers that anyone sees to be wrong."""
    body = body_of(PLANTED["gaming"], tmp_path)
    screen = StringIO()
    run_job(body, tmp_path, tmp_path / "run", Console(file=screen, width=10_000))
    run = RunFolder(tmp_path / "run")
    said = said_in(run)
    assert [alarm.name for alarm in said] == ["gaming"]
    assert [words for words in PLANTED["gaming"].words if words not in said[0].message] == []
    assert said[0].message in screen.getvalue()
    assert "the grader has a hole" in (run.path / "report.html").read_text(encoding="utf-8")

    examples = said[0].data["examples"]
    assert len({example["line"] for example in examples}) == 2
    for example in examples:
        right = WORDS[example["line"] - 1]
        assert (example["prompt"], example["right_answer"], example["reward"]) == (f"Say {right}.", right, 1.0)
        assert right not in example["answer"]
    assert said[0].data["rows"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("grader", "found"), [(FORGIVING, True), (CLOSED, False)])
def test_the_bench_finds_the_same_hole_before_a_job_runs(tmp_path: Path, grader: dict[str, Any], found: bool) -> None:
    """What the alarm advises: `pinetune grader test` (and `pinetune check`) shows that nothing at all is paid, until it is not."""
    body_of(Planted(grader), tmp_path)
    built = build_grader(grader, trusted=True, path="grader")
    try:
        report = bench(built, load_rows(tmp_path / "training_file.jsonl"), BenchOptions(answer_field="answer", definition=grader))
    finally:
        built.close()
    assert (("bad", "empty") in {(finding.level, finding.probe) for finding in report.findings}) == found


@pytest.mark.slow
def test_a_number_that_cannot_be_added_up_is_no_grade(tmp_path: Path) -> None:
    said = run_planted(tmp_path, Planted(python("huge", "return 1e308 if len(text) % 5 == 0 else len(text) / 1000"), {"steps": 3}))
    assert [alarm.name for alarm in said] == ["grader_errors"]
    assert "the grader gave 1e+308" in said[0].message and "belongs between 0 and 1" in said[0].message


@pytest.mark.slow
def test_weights_blown_to_pieces_end_the_job_with_a_clear_error(tmp_path: Path) -> None:
    sound = SOUND_JOBS["words"]
    with pytest.raises(ModelError, match=r"no probabilities .* much lower learning rate"):
        run_planted(tmp_path, Planted(sound.grader, {**sound.own, "learning_rate": 1e20, "steps": 3}))
