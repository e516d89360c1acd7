"""What the store gives out: plain frozen records, one a table. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pinetune.store.states import FINAL, Status

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list, and whether there is more beyond its last item (beyond its first, when paged with `before`)."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    created_at: float
    name: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    created_at: float
    project: str
    name: str
    prefix: str
    last_used_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class File:
    id: str
    created_at: float
    project: str
    purpose: str
    filename: str  # as the user called it; never part of a path
    bytes: int
    sha256: str
    status: str  # uploaded, processed, error
    status_details: str | None
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    created_at: float
    project: str
    filename: str
    purpose: str
    bytes: int
    mime_type: str
    status: str  # pending, completed, cancelled, expired
    expires_at: float
    file_expires_after: int | None
    file_id: str | None


@dataclass(frozen=True, slots=True)
class UploadPart:
    id: str
    created_at: float
    upload_id: str
    bytes: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `jobs.create` needs; ids, times, state and names it makes itself."""

    project: str
    model: str
    method: str  # reinforcement, supervised, dpo
    body: Json
    training_file: str
    seed: int
    validation_file: str | None = None
    test_file: str | None = None
    suffix: str | None = None
    metadata: Json | None = None
    integrations: list[Any] | None = None
    hyperparameters: Json | None = None


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    created_at: float
    updated_at: float
    project: str
    status: Status
    pause_requested: bool
    model: str
    method: str
    body: Json
    hyperparameters: Json | None
    training_file: str
    validation_file: str | None
    test_file: str | None
    suffix: str | None
    seed: int
    metadata: Json | None
    integrations: list[Any] | None
    tuned_name: str  # the `ft:` name its model has or will have
    fine_tuned_model: str | None  # the same, once the job succeeded
    started_at: float | None
    finished_at: float | None
    estimated_finish: float | None
    trained_tokens: int | None
    usage_metrics: Json | None
    result_files: list[str]
    error: Json | None  # {"code", "message", "param"}
    eval_id: str | None
    folder: str | None
    step: int
    worker: str | None
    lease_until: float | None
    attempts: int
    snapshot: str | None = None  # the store's own copy of its run folder

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job or eval run. Every write of a worker shows it; an outdated fence is refused."""

    id: str
    worker: str
    fence: int


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. `key` names it within its job: appended again under the same key, it is stored once."""

    message: str
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics", "moderation_checks"] = "message"
    data: Mapping[str, Any] | None = None
    key: str | None = None
    created_at: float | None = None  # None = now
    id: str | None = None  # of an imported event; None = a new one


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    created_at: float
    job_id: str
    position: int  # 1, 2, 3 ... in its job
    level: str
    type: str
    message: str
    data: Json | None


@dataclass(frozen=True, slots=True)
class Metric:
    job_id: str
    step: int
    created_at: float
    data: Json
    rollouts: str | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    id: str
    created_at: float
    job_id: str
    step: int
    model: str  # ft:...:ckpt-step-N
    folder: str
    metrics: Json


@dataclass(frozen=True, slots=True)
class Permission:
    id: str
    created_at: float
    checkpoint: str
    project: str


@dataclass(frozen=True, slots=True)
class NewModel:
    """The weights of a finished job."""

    kind: Literal["full", "adapter"]
    location: str
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    created_at: float
    project: str | None
    kind: Literal["base", "full", "adapter"]
    location: str  # a folder, or a hub id
    base: str | None
    job_id: str | None
    step: int | None
    owned_by: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A stored chat completion or response."""

    id: str
    created_at: float
    project: str
    kind: str  # chat.completion, response
    model: str
    status: str | None
    metadata: Json | None
    previous_id: str | None
    input: list[Any]
    request: Json
    body: Json


@dataclass(frozen=True, slots=True)
class Eval:
    id: str
    created_at: float
    updated_at: float
    project: str
    name: str | None
    metadata: Json | None
    body: Json


RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]


@dataclass(frozen=True, slots=True)
class EvalRun:
    id: str
    created_at: float
    project: str
    eval_id: str
    status: RunStatus
    name: str | None
    model: str | None
    metadata: Json | None
    body: Json
    result: Json
    error: Json | None
    job_id: str | None
    finished_at: float | None
    worker: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class NewOutputItem:
    """`position` names it within its run: added again, it is stored once."""

    position: int
    status: Literal["pass", "fail", "error"]  # error: not answered or not graded
    body: Json


@dataclass(frozen=True, slots=True)
class OutputItem:
    id: str
    created_at: float
    run_id: str
    eval_id: str
    position: int
    status: str
    body: Json


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    id: str
    created_at: float
    project: str
    url: str
    secret: str = field(repr=False)
    types: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delivery:
    id: str  # the event's id, the same however often it is sent
    created_at: float
    endpoint_id: str
    type: str
    payload: Json
    attempts: int
    next_at: float | None
    delivered_at: float | None
    last_error: str | None
