"""Tells the store what stands in a job's run folder, and nothing twice: start it over at any time, on any machine.

The run folder is the truth; the store is what users see. Every event has a key that comes from what it says (a step's
number, a checkpoint's number, a message's text), so a step that was undone by a kill and done again is told once.
See docs/decisions, "how a run folder reaches the store".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pinetune.runs.folder import RunFolder
from pinetune.store import Job, Lease, NewEvent, NewModel, Store
from pinetune.worker import metric_tree
from pinetune.worker.job_evals import JobEvals

# The store's own moves say these, at the moment they become true; or they speak of how the work was interrupted.
TOLD_BY_THE_STORE = (
    "Checkpoint created at step", "New fine-tuned model created", "The job has successfully completed", "Resumed at step", "Paused:",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What the child said of its run when it had checked the job."""

    total_steps: int
    eval_interval: int
    num_valid: int

    def is_due(self, step: int) -> bool:
        """Whether an evaluation of this step is to come: its event waits for it."""
        return self.num_valid > 0 and step > 0 and (step % self.eval_interval == 0 or step >= self.total_steps)


class Mirror:
    """One job's, for one lease."""

    def __init__(self, store: Store, lease: Lease, job: Job, run: RunFolder, shape: Shape) -> None:
        self._store, self._lease, self._job, self._run, self.shape = store, lease, job, run, shape
        method = job.body.get("method") or {}
        self._grader = (method.get("reinforcement") or {}).get("grader")
        self._numbers = {metric.step: metric.data for metric in store.events.metrics(job.id)}
        self._told: set[str] = set()
        self._judged: dict[int, bool] = {}  # step -> whether its event told the evaluation, too
        for event in _all_events(store, job.id):
            if event.type == "metrics" and event.data is not None:
                step = int(event.data["step"])
                self._judged[step] = self._judged.get(step, False) or _tells_evaluation(event.data)
        self._listed = {checkpoint.step for checkpoint in _all_checkpoints(store, job.id)}
        self._seen: tuple[Any, ...] = ()
        self._evals = JobEvals(store, lease, job, run)
        self.rows: list[dict[str, Any]] = []

    def catch_up(self, *, ended: bool = False, list_last: bool = False) -> bool:
        """Bring the store up to the folder; whether there was anything new. Raises LeaseLost.

        `ended`: nothing more will come, so nothing waits for its evaluation. `list_last`: the newest checkpoint becomes
        callable, evaluated or not.
        """
        folders = checkpoint_folders(self._run)
        seen = (_stamp(self._run.metrics_file), _stamp(self._run.events_file), tuple(folders), ended, list_last)
        if seen == self._seen:
            return False
        self.rows = self._run.read_metrics()
        self._put_numbers()
        stood_still = self._tell(folders, ended, list_last)
        self._drop_gone(folders, ended)
        self._evals.catch_up()
        self._seen = seen if stood_still else ()
        return True

    def _put_numbers(self) -> None:
        for row in self.rows:
            step = int(row["step"])
            if self._numbers.get(step) != row:
                rollouts = self._run.rollouts / f"step-{step:05d}.parquet"
                self._store.events.put_metrics(self._lease, step, row, str(rollouts) if rollouts.exists() else None)
                self._numbers[step] = row

    def _tell(self, folders: Mapping[int, Path], ended: bool, list_last: bool) -> bool:
        """In the order of the run: up to each step its event, then its checkpoint, then the messages that followed.

        False: it came to a checkpoint that is being replaced at this moment. What follows waits for the next look.
        """
        messages = self._messages()
        for index, row in enumerate(self.rows):
            step, judged = int(row["step"]), metric_tree.is_judged(row)
            if self.shape.is_due(step) and not judged and index == len(self.rows) - 1 and not ended:
                self._append(messages.pop(step - 1, []))
                return True
            self._tell_step(step, row, judged)
            listed = judged or self.shape.num_valid == 0 or (list_last and step == max(folders, default=0))
            if step and listed and not self._tell_checkpoint(step, row, folders, ended):
                return False
            self._append(messages.pop(step, []))
        for step in sorted(messages):
            self._append(messages[step])
        return True

    def _tell_step(self, step: int, row: Mapping[str, Any], judged: bool) -> None:
        if step == 0 and not judged:
            return
        told = self._judged.get(step)
        if told or (told is False and not judged):
            return
        shown = row if told is None else {k: v for k, v in row.items() if "train" not in k}  # the rest of a step told before
        total, key = self.shape.total_steps, f"step-{step}" if told is None else f"eval-{step}"
        event = NewEvent(metric_tree.message(shown, total), type="metrics", data=metric_tree.data(row, total, self._grader), key=key)
        self._store.events.append(self._lease, [event])
        self._judged[step] = judged

    def _tell_checkpoint(self, step: int, row: Mapping[str, Any], folders: Mapping[int, Path], ended: bool) -> bool:
        """False: it is being replaced, as after its evaluation, or removed."""
        if step in self._listed or f"checkpoint-{step}" in self._told:
            return True
        if step not in folders:
            was_kept, surpassed = self._was_kept(step), step < max(folders, default=-1)
            # What is evaluated was saved before, and the newest always stays: it is only out of sight.
            if not ended and not surpassed and (was_kept or metric_tree.is_judged(row)):
                return False
            if was_kept or (surpassed and metric_tree.is_judged(row)):  # it happened, but can no longer be called
                self._append([NewEvent(f"Checkpoint created at step {step}", key=f"checkpoint-{step}")])
            return True
        try:
            model = publish(self._store, folders[step] / "model", self._job, f"step-{step}")
        except FileNotFoundError:
            return False
        self._store.checkpoints.add(self._lease, step, model, metric_tree.checkpoint_metrics(row))
        self._listed.add(step)
        return True

    def _was_kept(self, step: int) -> bool:
        return any(event["message"] == f"Checkpoint created at step {step}" for event in self._events)

    def _messages(self) -> dict[int, list[NewEvent]]:
        """step -> the messages said after it; those with a step of their own stand there."""
        self._events = self._run.read_events()
        found: dict[int, list[NewEvent]] = {}
        step = 0
        for event in self._events:
            own = (event.get("data") or {}).get("step")
            step = own if isinstance(own, int) else step
            if not event["message"].startswith(TOLD_BY_THE_STORE):
                key = "run-" + hashlib.sha256(f"{event['level']} {event['message']}".encode("utf-8", "replace")).hexdigest()[:16]
                told = NewEvent(event["message"], level=event["level"], data=event.get("data"), key=key, created_at=event["created_at"])
                found.setdefault(step, []).append(told)
        return found

    def _append(self, events: list[NewEvent]) -> None:
        new = [event for event in events if event.key not in self._told]
        if new:
            self._store.events.append(self._lease, new)
            self._told.update(event.key for event in new if event.key)

    def _drop_gone(self, folders: Mapping[int, Path], ended: bool) -> None:
        """Only the best stay on the disk; what is gone is no longer offered.

        The newest always stays: out of sight, it is being replaced by its evaluated self, or yet to come, as another worker's is.
        """
        gone = {step for step in self._listed - set(folders) if ended or step < max(folders, default=-1)}
        if not gone:
            return
        for checkpoint in _all_checkpoints(self._store, self._job.id):
            if checkpoint.step in gone:
                self._store.checkpoints.drop(self._lease, checkpoint.step)
                self._store.folders.remove(checkpoint.folder)
        self._listed -= gone
        for step in gone:
            self._told.add(f"checkpoint-{step}")


def checkpoint_folders(run: RunFolder) -> dict[int, Path]:
    """Complete checkpoints: step -> folder."""
    found = {}
    for path in sorted(run.checkpoints.glob("step-*")):
        number = path.name.removeprefix("step-")
        if number.isdigit() and (path / "manifest.json").is_file():
            found[int(number)] = path
    return found


def publish(store: Store, folder: Path, job: Job, name: str) -> NewModel:
    """The weights in `folder`, full ones or an adapter, where every machine can read them."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    kind: Literal["full", "adapter"] = "adapter" if (folder / "adapter_config.json").is_file() else "full"
    return NewModel(kind, store.folders.publish(folder, f"{job.id}-{name}"), base_of(job, store))


def base_of(job: Job, store: Store) -> str:
    """The base under the job's model, which may itself be tuned."""
    model = store.models.resolve(job.model, job.project)
    return model.base if model.kind == "adapter" and model.base else model.id


def _tells_evaluation(data: Mapping[str, Any]) -> bool:
    return metric_tree.is_judged(data) or metric_tree.is_judged(data.get("scores") or {})


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _all_events(store: Store, job_id: str) -> Iterator[Any]:
    position = 0
    while events := store.events.since(job_id, position):
        yield from events
        position = events[-1].position


def _all_checkpoints(store: Store, job_id: str) -> Iterator[Any]:
    after = None
    while True:
        page = store.checkpoints.list(job_id, after=after, limit=100)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id
