"""Objects of old, odd and hostile endpoints, as rows or as a reason."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pinetune.transfer.bring import plain_table
from pinetune.transfer.ledger import Ledger
from pinetune.transfer.translate import Unusable, checkpoint_row, file_row, item_row, job_row

OLD_JOB: dict[str, Any] = {
    "id": "ftjob-abc123", "object": "fine_tuning.job", "created_at": 1692661014, "finished_at": 1692661190, "model": "gpt-3.5-turbo-0613",
    "fine_tuned_model": "ft:gpt-3.5-turbo-0613:my-org::7p4lURel", "organization_id": "org-123", "status": "succeeded",
    "training_file": "file-abc123", "validation_file": None, "result_files": ["file-result"], "trained_tokens": 5768,
    "hyperparameters": {"n_epochs": 3}, "error": {}, "seed": 7,
}  # fmt: skip


def test_a_job_from_before_methods() -> None:
    job = job_row(OLD_JOB, "proj_1", "https://api.example/v1")
    assert (job.method, job.hyperparameters, job.error, job.tuned_name) == (
        "supervised",
        {"n_epochs": 3},
        None,
        OLD_JOB["fine_tuned_model"],
    )
    assert (job.created_at, job.finished_at, job.updated_at, job.worker) == (1692661014.0, 1692661190.0, 1692661190.0, None)
    assert job.body["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    assert job.body["imported"] == {"from": "https://api.example/v1", "organization_id": "org-123"}


def test_a_failed_job_gets_the_same_unused_name_each_time() -> None:
    failed = {**OLD_JOB, "status": "failed", "fine_tuned_model": None, "error": {"code": "x", "message": "m", "param": None}}
    first, second = (job_row(failed, "p", "s") for _ in range(2))
    assert first == second and first.error == {"code": "x", "message": "m", "param": None}
    assert first.tuned_name.startswith("ft:gpt-3.5-turbo-0613:imported::") and first.fine_tuned_model is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "../../etc/passwd"}, "is no id"),
        ({"id": None}, "is no id"),
        ({"model": None}, "no model"),
        ({"training_file": 3}, "no training file"),
        ({"created_at": "yesterday"}, "no created_at"),
        ({"method": {"type": "magic"}}, "'magic' is not known here"),
    ],
)
def test_jobs_that_cannot_be_kept(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        job_row({**OLD_JOB, **changes}, "p", "s")


def test_odd_types_become_what_replies_promise() -> None:
    odd = {"metadata": {"a": 1, "b": "x"}, "integrations": ["w", {"type": "wandb"}], "usage_metrics": [], "seed": None, "error": "no"}
    job = job_row({**OLD_JOB, **odd}, "p", "s")
    assert (job.metadata, job.integrations, job.usage_metrics, job.seed, job.error) == (
        {"a": "1", "b": "x"},
        [{"type": "wandb"}],
        None,
        0,
        None,
    )


def test_files_keep_a_printable_name() -> None:
    file = file_row({"id": "file-1", "created_at": 1, "filename": "a\x00b\n" + "c" * 300, "purpose": "fine-tune", "bytes": 3}, "p")
    assert file.filename == "ab" + "c" * 253 and file.bytes == 3


def test_checkpoints_and_items() -> None:
    given = {"id": "ftckpt_1", "created_at": 5, "fine_tuned_model_checkpoint": "ft:m:ckpt-step-3", "step_number": 3}
    row = checkpoint_row({**given, "metrics": {"step": 3, "train_loss": None, "train_mean_reward": 0.5}}, "ftjob-1")
    assert (row.step, row.metrics, row.folder) == (3, {"train_mean_reward": 0.5}, "")
    item = item_row({"id": "o_1", "object": "x", "created_at": 1, "status": "pass", "datasource_item_id": 4}, "run", "eval", 9)
    assert (item.position, item.body) == (9, {"datasource_item_id": 4, "datasource_item": {}, "results": [], "sample": {}})


def test_result_files_in_base64_become_tables() -> None:
    table = b"step,train_loss\n1,0.5\n"
    assert plain_table(base64.b64encode(table)) == table == plain_table(table)
    assert plain_table(base64.b64encode(b"something else")) == base64.b64encode(b"something else")


def test_a_torn_ledger_line_counts_for_nothing(tmp_path: Any) -> None:
    ledger = Ledger(tmp_path, "https://user.example/v1 p")
    ledger.add("ftjob-1")
    with ledger.path.open("ab") as file:
        file.write(b"ftjob-22")  # a kill in the middle of ftjob-222
    again = Ledger(tmp_path, "https://user.example/v1 p")
    assert "ftjob-1" in again and "ftjob-222" not in again
    again.add("ftjob-3")
    assert "ftjob-3" in Ledger(tmp_path, "https://user.example/v1 p")
    assert ledger.path.parent == tmp_path / "imports"
