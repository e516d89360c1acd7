"""A server that plays the hosted product: our own API over a filled store, that may refuse and interrupt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from api_server import GRADER, listening, prepare
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pinetune.api.app import create_app
from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, NewEvent, NewJob, NewModel, NewOutputItem, Store

ROWS = b'{"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}\n'
CRITERIA = [{"id": "exact-1", **GRADER}]
NUM_EVENTS, NUM_ITEMS = 120, 130  # more than a page of each


@dataclass
class Clock:
    """Whole seconds, as the API shows them; each look is a second later."""

    time: float = 1_700_000_000.0

    def __call__(self) -> float:
        self.time += 1
        return self.time


@dataclass
class Faults:
    """What the hosted double answers instead: (part of the path) -> replies to give first, each a status and headers.

    `hold(part, number)` lets that many requests whose path has `part` through and keeps the next one waiting; `held` tells of it.
    """

    planned: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    _hold: tuple[str, int] | None = None

    def hold(self, part: str, number: int) -> None:
        self.held.clear()
        self._hold = (part, number)

    def let_go(self) -> None:
        self._hold = None

    async def _keep_waiting(self, path: str) -> None:
        if self._hold is None or self._hold[0] not in path:
            return
        part, left = self._hold
        self._hold = (part, left - 1)
        if left == 0:
            self.held.set()
            while self._hold is not None:
                await asyncio.sleep(0.01)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.asked.append(scope["path"])
                await self._keep_waiting(scope["path"])
                for part, replies in self.planned.items():
                    if part in scope["path"] and replies:
                        status, headers = replies.pop(0)
                        error = {"error": {"message": "not now", "type": "t", "param": None, "code": None}}
                        await JSONResponse(error, status_code=status, headers=headers)(scope, receive, send)
                        return
            await app(scope, receive, send)

        return around


@dataclass(frozen=True)
class Hosted:
    url: str
    store: Store
    faults: Faults


@contextmanager
def hosted_on(home: Path) -> Iterator[Hosted]:
    settings, faults = Settings.read({}, home=home), Faults()
    prepare(home)
    with Store.open(settings, now=Clock()) as store:
        fill(store)
        app = create_app(settings, store)
        with listening(faults.wrap(app)) as url:
            yield Hosted(f"{url}/v1", store, faults)


def fill(store: Store) -> None:
    """Jobs in every final state and one that runs, evals, files of every kind; enough of each for several pages."""
    for i in range(4):
        store.files.create(DEFAULT_PROJECT, "fine-tune", f"rows {i}.jsonl", ROWS * (i + 1))
    store.files.create(DEFAULT_PROJECT, "evals", "empty.jsonl", b"")
    train = store.files.create(DEFAULT_PROJECT, "fine-tune", "train.jsonl", ROWS * 500)
    for outcome in ("succeed", "fail", "cancel", "run"):
        job = store.jobs.create(_new_job(train.id, outcome))
        lease = store.leases.claim("w", 1e6)[1]  # type: ignore[index]
        store.jobs.validated(lease)
        lease = store.leases.claim("w", 1e6)[1]  # type: ignore[index]
        store.jobs.update(lease, hyperparameters={"batch_size": 8, "n_epochs": 2}, estimated_finish=1.8e9)
        if outcome == "cancel":
            store.jobs.cancel(job.id)
        elif outcome == "fail":
            store.jobs.fail(lease, "invalid_training_file", "train.jsonl:3: no messages", "training_file")
        elif outcome == "succeed":
            _succeed(store, lease, job.id)


def _new_job(file: str, outcome: str) -> NewJob:
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"reasoning_effort": "low"}}}
    body = {"model": "pinetune-mini", "training_file": file, "method": method, "pinetune": {"steps": 3}}
    extra: dict[str, Any] = {"suffix": "my tuned one", "metadata": {"team": "a"}} if outcome == "succeed" else {}
    if outcome == "fail":
        body = {**body, "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}}
    return NewJob(DEFAULT_PROJECT, "pinetune-mini", body["method"]["type"], body, file, 7, **extra)  # type: ignore[index]


def _succeed(store: Store, lease: Any, job_id: str) -> None:
    made = store.evals.create(DEFAULT_PROJECT, {"data_source_config": {"type": "custom"}, "testing_criteria": CRITERIA}, job=lease)
    events = [NewEvent(f"Step {i}/230", type="metrics", data={"step": i, "reward": i / 7}, key=f"step-{i}") for i in range(NUM_EVENTS)]
    store.events.append(lease, events)
    for step in (5, 10):
        store.checkpoints.add(lease, step, NewModel("full", f"/models/{step}"), {"train_mean_reward": 0.5, "full_valid_mean_reward": 0.25})
    for name in ("Step 0", "Step 10"):
        run = store.eval_runs.create(made.id, DEFAULT_PROJECT, {"data_source": {"type": "jsonl"}}, name=name, model="m", job=lease)
        bodies = [_item(i) for i in range(NUM_ITEMS)]
        store.eval_runs.add_items(lease, run.id, [NewOutputItem(i, "pass", body) for i, body in enumerate(bodies)])
        counts = {"total": NUM_ITEMS, "passed": NUM_ITEMS, "failed": 0, "errored": 0}
        usage = [
            {"model_name": "m", "invocation_count": 1, "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "cached_tokens": 0}
        ]
        criteria = [{"testing_criteria": "exact-1", "passed": NUM_ITEMS, "failed": 0, "errored": 0}]
        result = {"result_counts": counts, "per_model_usage": usage, "per_testing_criteria_results": criteria}
        store.eval_runs.finish(lease, run.id, "completed", result)
    result = store.files.create(DEFAULT_PROJECT, "fine-tune-results", "step_metrics.csv", b"step,train_mean_reward\n1,0.5\n")
    store.jobs.succeed(lease, NewModel("full", "/models/final"), 4321, [result.id], {"training_seconds": 9.5})


def _item(i: int) -> dict[str, Any]:
    """The second answer to each row has the same datasource_item_id as the first."""
    results = [{"name": "exact", "type": "string_check", "score": i / 3, "passed": True}]
    return {"datasource_item_id": i // 2, "datasource_item": {"question": f"{i}?"}, "results": results, "sample": {"output": [], "seed": i}}


def dump(store: Store) -> dict[str, Any]:
    """All that was brought, in the order it lists, as plain values. `updated_at` says when a row was written here."""
    found: dict[str, Any] = {"files": [], "jobs": [], "evals": []}
    for file in store.files.list(limit=10_000, order="asc").items:
        found["files"].append({**asdict(file), "content": b"".join(store.files.chunks(file.id))})
    for job in store.jobs.list(limit=1000).items:
        parts = {
            "events": [asdict(event) for event in store.events.since(job.id, 0)],
            "checkpoints": [asdict(one) for one in store.checkpoints.list(job.id, limit=1000).items],
        }
        found["jobs"].append({**asdict(job), "updated_at": None, **parts})
    for made in store.evals.list(limit=1000).items:
        runs = [
            {**asdict(run), "items": [asdict(item) for item in store.eval_runs.items(run.id, limit=10_000).items]}
            for run in store.eval_runs.list(made.id, limit=1000).items
        ]
        found["evals"].append({**asdict(made), "runs": runs})
    return found
