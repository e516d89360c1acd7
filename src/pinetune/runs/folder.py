"""The run folder: everything a job leaves behind. The only place that knows its file names.

    job.json            the job body with every "auto" resolved, and its `pinetune` section
    provenance.json     what went in: hashes of data files and grader, versions, seed
    events.jsonl        what happened, one line an event
    metrics.jsonl       one line a step
    rollouts/           step-00001.parquet: every completion with its grade
    evals/              step-00020.json: held-out reports with every answer; also base, tuned, ranker, ...
    checkpoints/        step-00020/: weights, optimizer, random state
    judges.sqlite       what judges used so far
    marks.jsonl         experts' verdicts on answers (reading.marks)
    model/  adapter/    the finished weights
    report.html  report/*.png  summary.json

A kill at any moment leaves each file whole or absent; of the two .jsonl files at most a torn last line, which is ignored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinetune.records import EvalReport, Group, StepReport
from pinetune.runs import files, rollout_table
from pinetune.runs.eval_json import decode_report, encode_report
from pinetune.runs.grading_columns import grading_columns
from pinetune.runs.metric_names import eval_row, step_row

if TYPE_CHECKING:
    import polars as pl

STEP_NAME = re.compile(r"step-(\d+)")


class RunFolder:
    """A run at `path`. Opening touches nothing; every write makes the folders it needs."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.job_file = self.path / "job.json"
        self.provenance_file = self.path / "provenance.json"
        self.events_file = self.path / "events.jsonl"
        self.metrics_file = self.path / "metrics.jsonl"
        self.rollouts = self.path / "rollouts"
        self.evals = self.path / "evals"
        self.checkpoints = self.path / "checkpoints"
        self.judges_file = self.path / "judges.sqlite"
        self.marks_file = self.path / "marks.jsonl"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.report_file = self.path / "report.html"
        self.charts = self.path / "report"
        self.summary_file = self.path / "summary.json"

    def exists(self) -> bool:
        """Whether a job was ever begun here."""
        return self.job_file.exists()

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / _step_name(step)

    # What went in

    def write_job(self, body: Mapping[str, Any]) -> None:
        files.write_json(self.job_file, body)

    def read_job(self) -> dict[str, Any]:
        return dict(files.read_json(self.job_file))

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        files.write_json(self.provenance_file, provenance)

    def read_provenance(self) -> dict[str, Any]:
        return dict(files.read_json(self.provenance_file))

    # What happened

    def append_event(self, level: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        event = {"created_at": time.time(), "level": level, "type": "message", "message": message, "data": data}
        files.append_line(self.events_file, event)

    def read_events(self) -> list[dict[str, Any]]:
        return files.read_lines(self.events_file)

    def put_metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Add `values` to the step's line, which is the file's last or a new one: training and evaluation share a line."""
        rows = self.read_metrics()
        if rows and rows[-1]["step"] == step:
            files.write_lines(self.metrics_file, [*rows[:-1], {**rows[-1], **values}])
        else:
            files.append_line(self.metrics_file, {"step": step, **values})

    def read_metrics(self) -> list[dict[str, Any]]:
        return files.read_lines(self.metrics_file)

    def write_step(self, report: StepReport, groups: Sequence[Group]) -> None:
        """Rollouts first: a step that has a metrics line has its rollouts."""
        path = self.rollouts / f"{_step_name(report.step)}.parquet"
        files.write_atomically(path, lambda partial: rollout_table.write_rollouts(partial, report.step, groups))
        self.put_metrics(report.step, {**grading_columns("train", groups), **step_row(report)})

    def read_rollouts(self, step: int) -> pl.DataFrame:
        return rollout_table.read_rollouts(self.rollouts / f"{_step_name(step)}.parquet")

    # Held-out evidence

    def write_eval(self, report: EvalReport, name: str | None = None) -> Path:
        """Keep a report under `name`; None = under its step, and its numbers join the step's metrics line."""
        path = self.evals / f"{name or _step_name(report.step)}.json"
        files.write_json(path, encode_report(report), indent=None)
        if name is None:
            self.put_metrics(report.step, {**grading_columns("valid", report.groups), **eval_row(report)})
        return path

    def read_eval(self, which: int | str) -> EvalReport:
        """By step or by name. Raises FileNotFoundError where there is none."""
        name = _step_name(which) if isinstance(which, int) else which
        return decode_report(files.read_json(self.evals / f"{name}.json"))

    def eval_steps(self) -> list[int]:
        """The steps with a held-out report, ascending."""
        return sorted(step for step in map(_step_of, self.evals.glob("step-*.json")) if step is not None)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        files.write_json(self.summary_file, summary)

    def read_summary(self) -> dict[str, Any]:
        return dict(files.read_json(self.summary_file))

    def write_report(self, html: str) -> None:
        files.write_bytes(self.report_file, html.encode("utf-8", "replace"))

    def write_chart(self, name: str, png: bytes) -> None:
        files.write_bytes(self.charts / f"{name}.png", png)

    # Going back

    def truncate_after(self, step: int) -> None:
        """Forget what came after a checkpoint at `step`, so that doing it again doubles nothing.

        Messages without a step stay: they are history. Reports under a name stay unless their step was undone.
        """
        if self.metrics_file.exists():
            files.write_lines(self.metrics_file, [row for row in self.read_metrics() if row["step"] <= step])
        if self.events_file.exists():
            files.write_lines(self.events_file, [event for event in self.read_events() if _event_step(event) <= step])
        for path in [*self.rollouts.glob("*.parquet"), *self.evals.glob("*.json")]:
            at = _step_of(path)
            if at is None:
                at = int(files.read_json(path)["step"])
            if at > step:
                path.unlink()


def _step_name(step: int) -> str:
    return f"step-{step:05d}"


def _step_of(path: Path) -> int | None:
    match = STEP_NAME.fullmatch(path.stem)
    return int(match[1]) if match else None


def _event_step(event: Mapping[str, Any]) -> int:
    step = (event.get("data") or {}).get("step", 0)
    return step if isinstance(step, int) else 0
