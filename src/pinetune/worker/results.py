"""The result file of a finished job: one CSV line a step, under the columns that scripts for the hosted product read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from pinetune.errors import NotFound
from pinetune.store import Job, Lease, Store
from pinetune.worker import metric_tree

FILENAME = "step_metrics.csv"
FIRST = {
    "reinforcement": (
        "step", "train_mean_reward", "full_valid_mean_reward", "train_reward_mean", "valid_reward_mean", "completion_tokens_mean",
        "reasoning_tokens_mean", "mean_unresponsive_rewards", "pg_loss_sum", "total_loss_sum", "entropy_loss_sum",
    ),
    "supervised": (
        "step", "train_loss", "train_accuracy", "train_mean_token_accuracy", "valid_loss", "valid_accuracy",
        "valid_mean_token_accuracy", "full_valid_loss", "full_valid_mean_token_accuracy",
    ),
}  # fmt: skip
Row = Mapping[str, Any]


def result_file(store: Store, lease: Lease, job: Job, rows: Iterable[Row]) -> str:
    """The id of the job's result file, stored once however often its worker is killed here: the job names it before it exists."""
    for known in store.jobs.get(job.id).result_files:
        try:
            return store.files.get(known).id
        except NotFound:
            continue
    staged = store.files.stage(to_csv(rows, job).encode())
    store.jobs.update(lease, result_files=[staged.id])
    return store.files.keep(staged, job.project, "fine-tune-results", FILENAME).id


def to_csv(rows: Iterable[Row], job: Job) -> str:
    """Steps from 1, ascending; cells are empty where a step has no such number (no evaluation took place)."""
    grader = ((job.body.get("method") or {}).get("reinforcement") or {}).get("grader")
    lines = [_line(row, grader) for row in rows if row["step"] >= 1]
    first = FIRST["reinforcement" if grader else "supervised"]
    others = sorted({name for line in lines for name in line} - set(first))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*first, *others], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _line(row: Row, grader: Mapping[str, Any] | None) -> dict[str, Any]:
    line = {name: value for name, value in row.items() if not isinstance(value, str | list | dict) and not name.startswith("judges/")}
    if grader is None:
        for older, name in (("train_accuracy", "train_mean_token_accuracy"), ("valid_accuracy", "valid_mean_token_accuracy")):
            line[older] = row.get(name)
        return line
    tokens = row.get("trained_tokens") or 0
    # The hosted columns are sums over the step's trained tokens; ours are means, so times their number.
    for name, mean in (("pg_loss_sum", row.get("train_loss")), ("entropy_loss_sum", row.get("entropy"))):
        line[name] = None if mean is None else mean * tokens
    line["total_loss_sum"] = line["pg_loss_sum"]
    return {**line, **metric_tree.error_columns(row, grader)}
