"""The run folder: what is written is read back, kills leave nothing broken, going back doubles nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pinetune.errors import DataError
from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row, StepReport, UpdateReport
from pinetune.runs import files
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import json_sha256, provenance
from pinetune.runs.recorder import FolderRecorder

MESSAGES = ({"role": "user", "content": "Fälle 病例 <b>"},)
ROW = Row(4, MESSAGES, {"messages": list(MESSAGES), "reference_answer": "FBN1", "n": 1.5}, ({"type": "function"},), line=5)
COMPLETION = Completion((5, 6, 2), (-0.1, -1e-7, 0.1 + 0.2 - 0.5), (False, True, False), "stop", '{"genes": ["FBN1"]}', "hm 病", 1)
GROUP = Group(
    ROW,
    Prompt((1, 2), thinking_open=True),
    (
        Rollout(4, 0, 2**63 - 1, COMPLETION, Grade("ok", 0.7, "fine", parts={"rank": 2.0}, seconds=0.1)),
        Rollout(4, 1, 8, replace(COMPLETION, finish="length"), Grade("error", explanation="boom", error_kind="sample_parse_error")),
    ),
)


def step_report(step: int) -> StepReport:
    update = UpdateReport(100, 0.25, float("nan"), 1e-4, metrics={"entropy": 1.5, "step": 99.0})
    seconds = {"sampling": 1.0, "training": 2.0, "full_iteration": 3.0}
    return StepReport(step, 60, 0.4, 0.1, 2, 1, 1, 0, 0, 3.0, 1.0, 0.5, update, seconds, 50.0, parts={"rank": 2.0})


def eval_report(step: int, name: str) -> EvalReport:
    metrics = {"top1": Interval(0.5, 0.2, 0.8, 1)}
    return EvalReport(step, name, Interval(0.7, 0.3, 0.9, 1), metrics, 1, 3.0, 1.0, 0.5, 1.25, (GROUP,))


def test_eval_reports_come_back_exactly(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for report in (eval_report(20, "step 20"), replace(eval_report(0, "base"), groups=())):
        run.write_eval(report)
        assert run.read_eval(report.step) == report
    other = replace(eval_report(20, "tuned"), groups=(replace(GROUP, row=Row(0, MESSAGES, {"a": "\ud800"})),))
    run.write_eval(other, "tuned")
    assert run.read_eval("tuned") == other
    assert run.eval_steps() == [0, 20]


def test_a_step_is_one_metrics_line_in_both_name_families(tmp_path: Path) -> None:
    recorder = FolderRecorder(RunFolder(tmp_path))
    recorder.evaluation(eval_report(0, "base"))
    recorder.step(step_report(1), [GROUP])
    recorder.step(step_report(2), [GROUP])
    recorder.evaluation(eval_report(2, "step 2"))
    recorder.evaluation(eval_report(2, "tuned"))
    zero, one, two = recorder.run.read_metrics()
    assert (zero["step"], zero["valid_reward_mean"], zero["full_valid_mean_reward"]) == (0, 0.7, 0.7)
    assert (one["step"], one["total_steps"], one["train_reward_mean"], one["train_mean_reward"]) == (1, 60, 0.4, 0.4)
    assert (one["entropy"], one["grad_norm"], one["mean_unresponsive_rewards"]) == (1.5, None, 0.5)  # NaN is null
    assert (one["graders/rank/train_reward_mean"], one["full_iteration_seconds"]) == (2.0, 3.0)
    assert "valid_reward_mean" not in one
    assert (two["train_mean_reward"], two["valid_reward_low"], two["valid_top1_high"], two["full_valid_mean_parse_error"]) == (
        0.4, 0.3, 0.8, 0.5,
    )  # fmt: skip
    assert recorder.run.read_eval("tuned").name == "tuned"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_rollouts_are_kept_one_row_each(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_step(step_report(1), [GROUP])
    table = run.read_rollouts(1)
    assert table.height == 2
    first, second = table.to_dicts()
    assert (first["step"], first["row_index"], first["sample_index"], first["seed"]) == (1, 4, 0, 2**63 - 1)
    assert (first["prompt_tokens"], first["reasoning_tokens"], first["completion_tokens"]) == (2, 1, 3)
    assert json.loads(first["messages"]) == list(MESSAGES)
    assert (first["reasoning"], first["answer"], first["grade_parts"]) == ("hm 病", '{"genes": ["FBN1"]}', '{"rank": 2.0}')
    assert first["logprob"] == pytest.approx(-0.3) and (first["grade_status"], first["grade_value"]) == ("ok", 0.7)
    assert (second["finish"], second["grade_status"], second["grade_value"]) == ("length", "error", None)
    assert (second["grade_explanation"], second["grade_error_kind"]) == ("boom", "sample_parse_error")


def test_a_torn_last_line_is_as_if_never_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    files.append_line(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"a": 2, "b": "half a')
    assert files.read_lines(path) == [{"a": 1}]
    files.append_line(path, {"a": 3})
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}]
    path.write_bytes(b'{"a"')  # torn in the very first line
    files.append_line(path, {"a": 4})
    assert files.read_lines(path) == [{"a": 4}]


def test_every_cut_of_a_file_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(3):
        files.append_line(path, {"step": step, "text": "é"})
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        rows = files.read_lines(path)
        assert [row["step"] for row in rows] == list(range(whole[:length].count(b"\n")))


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\noops\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not readable as JSON"):
        files.read_lines(path)
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(DataError, match=r"job\.json: not readable as JSON"):
        RunFolder(tmp_path).read_job()


def test_going_back_and_doing_it_again_doubles_nothing(tmp_path: Path) -> None:
    def work(recorder: FolderRecorder, first: int) -> None:
        for step in range(first, 7):
            recorder.step(step_report(step), [GROUP])
            if step % 2 == 0:
                recorder.evaluation(eval_report(step, f"step {step}"))
                recorder.event("info", f"Checkpoint created at step {step}", {"step": step})

    recorder = FolderRecorder(RunFolder(tmp_path))
    recorder.event("info", "Fine-tuning job started")
    recorder.evaluation(eval_report(0, "base"))
    work(recorder, 1)
    recorder.evaluation(eval_report(6, "tuned"))
    recorder.run.write_eval(eval_report(0, "ranker"), "ranker")
    before = recorder.run.read_metrics()

    recorder.run.truncate_after(4)
    assert [row["step"] for row in recorder.run.read_metrics()] == [0, 1, 2, 3, 4]
    assert recorder.run.eval_steps() == [0, 2, 4]
    assert sorted(path.stem for path in recorder.run.evals.iterdir()) == ["ranker", "step-00000", "step-00002", "step-00004"]
    assert sorted(path.stem for path in recorder.run.rollouts.iterdir()) == [f"step-0000{i}" for i in range(1, 5)]

    work(recorder, 5)
    assert recorder.run.read_metrics() == before
    messages = [event["message"] for event in recorder.run.read_events()]
    assert messages == ["Fine-tuning job started", *(f"Checkpoint created at step {i}" for i in (2, 4, 6))]


def test_truncating_an_empty_run_is_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new")
    run.truncate_after(0)
    assert not run.path.exists() and not run.exists()
    assert run.read_events() == [] and run.read_metrics() == [] and run.eval_steps() == []


def test_a_failing_write_keeps_the_old_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_job({"model": "a"})
    with pytest.raises(TypeError):
        run.write_job({"model": object()})

    def torn(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(run.job_file, torn)
    assert run.read_job() == {"model": "a"} and run.exists()


ENDLESS_RUN = """
import sys
sys.path.insert(0, {tests!r})
from test_runs import GROUP, eval_report, step_report
from pinetune.runs.folder import RunFolder
from pinetune.runs.recorder import FolderRecorder
recorder = FolderRecorder(RunFolder({path!r}))
for step in range(1, 1_000_000):
    recorder.step(step_report(step), [GROUP])
    recorder.evaluation(eval_report(step, f"step {{step}}"))
    recorder.event("info", f"Checkpoint created at step {{step}}", {{"step": step}})
"""


def test_a_killed_run_can_be_read_and_continued(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    program = ENDLESS_RUN.format(tests=str(Path(__file__).parent), path=str(run.path))
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        while len(run.read_metrics()) < 5:  # every read on the way is of a file being written
            assert process.poll() is None
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    steps = [row["step"] for row in run.read_metrics()]
    assert steps == list(range(1, len(steps) + 1))
    assert all(run.read_rollouts(step).height == 2 for step in steps)
    assert [run.read_eval(step).step for step in run.eval_steps()] == run.eval_steps()
    run.truncate_after(3)
    FolderRecorder(run).step(step_report(4), [GROUP])
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4] and run.eval_steps() == [1, 2, 3]
    assert [event["data"]["step"] for event in run.read_events()] == [1, 2, 3]


def test_paths_and_stop() -> None:
    recorder = FolderRecorder(RunFolder("out"))
    assert recorder.run.checkpoint(20) == Path("out/checkpoints/step-00020")
    assert recorder.stop_requested() is False
    recorder.request_stop()
    assert recorder.stop_requested() is True


def test_provenance_names_files_not_folders(tmp_path: Path) -> None:
    data, model = tmp_path / "train.jsonl", tmp_path / "tiny"
    data.write_bytes(b"abc")
    model.mkdir()
    found = provenance(model=str(model), data_files={"training_file": data}, grader={"type": "python", "name": "genes"}, seed=7)
    assert found["data_files"]["training_file"] == {
        "name": "train.jsonl",
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert (found["model"], found["seed"], found["grader"]["name"]) == ("tiny", 7, "genes")
    assert found["grader"]["sha256"] == json_sha256({"name": "genes", "type": "python"})
    assert str(tmp_path) not in json.dumps(found) and found["versions"]["torch"]
    assert provenance(model="org/name", data_files={}, grader={}, seed=0)["model"] == "org/name"
