"""A reinforcement job's held-out reports as runs of its own eval (`eval_id`): "Step 0", "Step 20", each told once."""

from __future__ import annotations

from typing import Any

from pinetune.evals.job_eval import job_eval_body, job_run_body, report_to_run
from pinetune.runs.folder import RunFolder
from pinetune.store import Job, Lease, NewOutputItem, Store
from pinetune.store.ids import checkpoint_name
from pinetune.store.rows import Eval

BATCH = 500  # items a transaction


class JobEvals:
    """For one lease. A job without a grader or without held-out rows has no eval."""

    def __init__(self, store: Store, lease: Lease, job: Job, run: RunFolder) -> None:
        self._store, self._lease, self._job, self._run = store, lease, job, run
        method = job.body.get("method") or {}
        self._grader = (method.get("reinforcement") or {}).get("grader")
        self._eval: Eval | None = None
        self._told: set[int] = set()

    def catch_up(self) -> None:
        """Tell the store the reports that it does not have. Raises LeaseLost."""
        file = self._job.validation_file
        if not isinstance(self._grader, dict) or file is None:
            return
        if self._eval is None:
            name = f"Reinforcement Fine Tuning validation runs for {self._job.id}"  # the hosted product's words, which scripts look for
            self._eval = self._store.evals.create(self._job.project, job_eval_body(self._grader), name=name, job=self._lease)
        for step in self._run.eval_steps():
            if step not in self._told and self._tell(step, self._eval, file):
                self._told.add(step)

    def _tell(self, step: int, evaluation: Eval, file: str) -> bool:
        try:
            report = self._run.read_eval(step)
        except FileNotFoundError:  # undone by a child that starts again; it comes back
            return False
        model = self._job.model if step == 0 else checkpoint_name(self._job.tuned_name, step)
        body = job_run_body(file, model, self._params())
        runs = self._store.eval_runs
        made = runs.create(evaluation.id, self._job.project, body, name=f"Step {step}", model=model, job=self._lease)
        if made.status != "in_progress":
            return True
        criterion = evaluation.body["testing_criteria"][0]
        items, result = report_to_run(report, criterion, model=model, params=self._params())
        for start in range(0, len(items), BATCH):
            batch = [NewOutputItem(item.position, item.status, dict(item.body)) for item in items[start : start + BATCH]]
            runs.add_items(self._lease, made.id, batch)
        runs.finish(self._lease, made.id, "completed", result)
        return True

    def _params(self) -> dict[str, Any]:
        """As held-out rows are sampled while a job trains."""
        reinforcement = self._job.body["method"]["reinforcement"]
        form = reinforcement.get("response_format")
        return {"temperature": 1.0, "top_p": 1.0, **({"response_format": form} if form else {})}
