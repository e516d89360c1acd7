"""What users read: errors with their code, metrics as the hosted product shapes them, the result file, model locations."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from conftest import GRADER, new_job

from pinetune.errors import DataError, GraderError, JobError, JobFailed, ModelError
from pinetune.store import Store
from pinetune.worker import metric_tree
from pinetune.worker.failures import describe
from pinetune.worker.folder import JobFolder
from pinetune.worker.materialize import locate, materialize
from pinetune.worker.process import died
from pinetune.worker.results import to_csv

NAMES = {"/home/jobs/1/training.jsonl": "training_file:my train.jsonl", "/home/jobs/1/validation.jsonl": "validation_file:v.jsonl"}
ROW = {
    "step": 2, "train_reward_mean": 0.25, "train_mean_reward": 0.25, "num_rollouts": 8, "train_num_grades": 8,
    "reasoning_tokens_mean": 3.0, "train_sample_parse_error_count": 2, "train_endpoint_grader_server_error_count": 1,
    "graders/a/train_reward_mean": 0.5, "judges/gpt/train_prompt_tokens": 80, "judges/gpt/train_completion_tokens": 16,
    "train_loss": 0.5, "entropy": 2.0, "trained_tokens": 10, "sampling_seconds": 1.5, "train_grading_seconds_mean": 0.25,
}  # fmt: skip
MULTI = {
    "type": "multi", "calculate_output": "a + b",
    "graders": {"a": {"type": "string_check"}, "b": {"type": "score_model", "model": "gpt"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("/home/jobs/1/validation.jsonl:3: x: y"), ("invalid_validation_file", "v.jsonl:3: x: y", "validation_file")),
        (JobError("too many", "pinetune.steps"), ("invalid_value", "too many", "pinetune.steps")),
        (GraderError("grader.type: no"), ("invalid_grader", "grader.type: no", "method.reinforcement.grader")),
        (ModelError("no such"), ("invalid_model", "no such", "model")),
        (JobFailed("broken"), ("training_failed", "broken", None)),
        (RuntimeError("odd"), ("job_failed", "odd", None)),
    ],
)
def test_errors(error: Exception, expected: tuple[str, str, str | None]) -> None:
    found = describe(error, NAMES)
    assert (found["code"], found["message"], found["param"]) == expected


def test_a_dead_child_is_explained_without_paths_of_this_machine(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.log_file.write_text('Traceback (most recent call last):\n  File "/x/y.py", line 3, in f\n    g()\nRuntimeError: shapes differ\n')
    assert died(1, folder) == "The job's process ended with status 1\nRuntimeError: shapes differ"
    assert died(-9, folder) == "The job's process was killed (SIGKILL, as the system does when memory runs out)"
    assert died(-11, folder) == "The job's process was killed (SIGSEGV)"


def test_the_metrics_tree() -> None:
    data = metric_tree.data(ROW, 20, MULTI)
    assert (data["step"], data["total_steps"], data["train_mean_reward"]) == (2, 20, 0.25)
    assert data["scores"]["graders"] == [
        {"name": "a", "type": "string_check", "train_reward_mean": 0.5, "valid_reward_mean": None},
        {"name": "b", "type": "score_model", "train_reward_mean": None, "valid_reward_mean": None},
    ]
    [errors] = data["errors"]["graders"]
    assert (errors["train_sample_parse_error_count"], errors["train_sample_parse_error_mean"]) == (2, 0.25)
    assert errors["train_other_error_count"] == 1  # a kind of ours that the hosted product has no name for
    assert errors["train_model_grader_parse_error_count"] == 0
    assert errors["valid_other_error_count"] is None
    [usage] = data["usage"]["graders"]
    assert (usage["model"], usage["train_prompt_tokens_mean"], usage["train_completion_tokens_mean"]) == ("gpt", 10.0, 2.0)
    assert data["model_graders_token_usage"] == {"gpt": {"train_prompt_tokens": 80, "train_completion_tokens": 16}}
    assert data["timing"]["step"]["sampling"] == 1.5
    assert data["timing"]["graders"][0]["train_execution_latency_mean"] == 0.25


def test_supervised_steps_in_the_hosted_words() -> None:
    row = {"step": 3, "train_loss": 0.456, "valid_loss": 0.5, "full_valid_loss": 0.5, "full_iteration_seconds": 1.0}
    assert metric_tree.message(row, 6) == "Step 3/6: training loss=0.46, validation loss=0.50, full validation loss=0.50"
    assert metric_tree.data(row, 6, None) == {"step": 3, "total_steps": 6, "train_loss": 0.456, "valid_loss": 0.5, "full_valid_loss": 0.5}


def test_the_result_file(store: Store) -> None:
    job = new_job(store)
    [line] = csv.DictReader(io.StringIO(to_csv([{"step": 0, "valid_reward_mean": 0.1}, ROW], job)))
    assert list(line)[:4] == ["step", "train_mean_reward", "full_valid_mean_reward", "train_reward_mean"]
    assert (line["step"], line["full_valid_mean_reward"], line["pg_loss_sum"], line["entropy_loss_sum"]) == ("2", "", "5.0", "20.0")
    assert line["errors/graders/like/train_sample_parse_error_count"] == "2"


def test_the_work_folder_holds_no_word_of_the_user_as_a_path(store: Store, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    store.models.register("tiny", str(tmp_path))
    job = new_job(store)
    folder = JobFolder(tmp_path / "job")
    materialize(store, job, folder)
    body = folder.read_body()
    assert (body["source"], body["raw"]["training_file"], body["raw"]["seed"]) == (str(tmp_path), "training.jsonl", 7)
    assert body["names"][str(folder.path / "training.jsonl")] == "training_file:my train.jsonl"
    assert folder.data_file("training_file").read_bytes() == b"".join(store.files.chunks(job.training_file))
    assert body["raw"]["method"]["reinforcement"]["grader"] == GRADER


def test_models_are_found_by_name_only(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist here"):
        locate(store, str(tmp_path), "proj_default")
    assert locate(store, "pinetune-mini", "proj_default").endswith("demo/base")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_text("{}")
    store.models.register("mine", store.folders.publish(tmp_path / "w", "mine"))
    assert (Path(locate(store, "mine", "proj_default")) / "config.json").is_file()


def test_graders_run_confined_unless_the_operator_says_otherwise(store: Store, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    store.models.register("tiny", str(tmp_path))
    job = new_job(store, own={"unsafe_python_graders": True})
    with pytest.raises(JobError, match="only the operator"):
        materialize(store, job, JobFolder(tmp_path / "job"))
