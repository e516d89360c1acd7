"""The tables. Everything else in this room reads and writes them; nothing outside it does.

Times are Unix seconds. `seq` counts rows in the order they were stored and settles the order of rows of one second.
`deleted_at` marks what a user deleted: hidden everywhere, its content emptied, its place in a list kept so that a script
that deletes while it pages goes on. Job states and moves stand in `states.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Double, ForeignKey, Index, Integer, MetaData, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

VERSION = "0002"  # the newest file in migrations/versions


class Words(TypeDecorator[str]):
    """Text that every database takes: PostgreSQL has no NUL, UTF-8 no half surrogate pairs; models write both."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


Json = JSON(none_as_null=True)
BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER primary keys


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={"ix": "ix_%(column_0_N_label)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Words, float: Double, int: BigInteger, bool: Boolean, dict[str, Any]: Json, list[Any]: Json
    }  # fmt: skip


class Counted:
    """Rows with a public id, paged in the order they were stored."""

    __table_args__: Any = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own protocol
    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True, sort_order=-3)
    id: Mapped[str] = mapped_column(unique=True, sort_order=-2)
    created_at: Mapped[float] = mapped_column(sort_order=-1)


class Leased:
    """Work that one worker at a time holds: `fence` rises with every change of hands, and old numbers are refused."""

    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    fence: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)  # claims since the last sign of progress (a checkpoint)


class Project(Counted, Base):
    __tablename__ = "projects"
    name: Mapped[str]


class ApiKey(Counted, Base):
    __tablename__ = "api_keys"
    project: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    prefix: Mapped[str]  # the first characters, to tell keys apart
    hash: Mapped[str] = mapped_column(unique=True)  # sha256 hex; the key itself is never stored
    last_used_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class File(Counted, Base):
    __tablename__ = "files"
    project: Mapped[str]
    purpose: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    status: Mapped[str]
    status_details: Mapped[str | None]
    expires_at: Mapped[float | None] = mapped_column(index=True)
    deleted_at: Mapped[float | None]
    __table_args__ = (Index("ix_files_list", "project", "created_at", "seq"), {"sqlite_autoincrement": True})


class Upload(Counted, Base):
    __tablename__ = "uploads"
    project: Mapped[str]
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    mime_type: Mapped[str]
    status: Mapped[str]  # pending, completed, cancelled, expired
    expires_at: Mapped[float]
    file_expires_after: Mapped[int | None]  # seconds
    file_id: Mapped[str | None]


class UploadPart(Counted, Base):
    __tablename__ = "upload_parts"
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    bytes: Mapped[int]


class Job(Counted, Leased, Base):
    __tablename__ = "jobs"
    project: Mapped[str]
    updated_at: Mapped[float]
    status: Mapped[str] = mapped_column(index=True)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    model: Mapped[str]
    method: Mapped[str]
    body: Mapped[dict[str, Any]]  # the request as checked by wire
    hyperparameters: Mapped[dict[str, Any] | None]  # with every "auto" resolved, once known
    training_file: Mapped[str] = mapped_column(index=True)
    validation_file: Mapped[str | None] = mapped_column(index=True)
    test_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    integrations: Mapped[list[Any] | None]
    tuned_name: Mapped[str] = mapped_column(unique=True)  # the model's name, chosen at creation: checkpoints carry it too
    fine_tuned_model: Mapped[str | None]  # = tuned_name, once the job succeeded
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    estimated_finish: Mapped[float | None]
    trained_tokens: Mapped[int | None]
    usage_metrics: Mapped[dict[str, Any] | None]
    result_files: Mapped[list[Any]]
    error: Mapped[dict[str, Any] | None]
    eval_id: Mapped[str | None]
    folder: Mapped[str | None]  # the run folder
    snapshot: Mapped[str | None]  # the store's own copy of it, for workers with another home
    step: Mapped[int] = mapped_column(default=0)  # last step with metrics
    last_position: Mapped[int] = mapped_column(default=0)  # of its newest event
    __table_args__ = (Index("ix_jobs_list", "project", "created_at", "seq"), {"sqlite_autoincrement": True})


class Event(Base):
    __tablename__ = "events"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 1, 2, 3 ... in each job, no gaps
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    key: Mapped[str | None]  # the source's name for it: told twice, stored once
    __table_args__ = (UniqueConstraint("job_id", "key"),)


class Metric(Base):
    __tablename__ = "metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[float]
    data: Mapped[dict[str, Any]]
    rollouts: Mapped[str | None]  # where the step's Parquet file is


class Checkpoint(Counted, Base):
    __tablename__ = "checkpoints"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    step: Mapped[int]
    model: Mapped[str] = mapped_column(unique=True)
    folder: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    deleted_at: Mapped[float | None]
    __table_args__ = (UniqueConstraint("job_id", "step"), {"sqlite_autoincrement": True})


class Permission(Counted, Base):
    __tablename__ = "checkpoint_permissions"
    checkpoint: Mapped[str]  # the checkpoint's model name, or a tuned model's
    project: Mapped[str]
    __table_args__ = (UniqueConstraint("checkpoint", "project"), {"sqlite_autoincrement": True})


class Model(Counted, Base):
    __tablename__ = "models"
    project: Mapped[str | None]  # None = everyone's
    kind: Mapped[str]  # base, full, adapter
    location: Mapped[str]  # a folder, or a Hugging Face hub id
    base: Mapped[str | None]  # of a tuned model: its base's id
    job_id: Mapped[str | None] = mapped_column(index=True)
    step: Mapped[int | None]  # of a checkpoint
    owned_by: Mapped[str]
    deleted_at: Mapped[float | None]


class Alias(Base):
    __tablename__ = "aliases"
    name: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str]


class Reply(Counted, Base):
    """A stored chat completion or response."""

    __tablename__ = "replies"
    project: Mapped[str]
    kind: Mapped[str]  # chat.completion, response
    model: Mapped[str]
    status: Mapped[str | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    previous_id: Mapped[str | None]
    input: Mapped[list[Any]]  # the messages or input items it answers
    request: Mapped[dict[str, Any]]  # the other parameters
    body: Mapped[dict[str, Any]]
    deleted_at: Mapped[float | None]
    __table_args__ = (Index("ix_replies_list", "project", "kind", "created_at", "seq"), {"sqlite_autoincrement": True})


class Eval(Counted, Base):
    __tablename__ = "evals"
    project: Mapped[str] = mapped_column(index=True)
    updated_at: Mapped[float]
    name: Mapped[str | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    body: Mapped[dict[str, Any]]  # data_source_config, testing_criteria
    deleted_at: Mapped[float | None]


class EvalRun(Counted, Leased, Base):
    __tablename__ = "eval_runs"
    project: Mapped[str]
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"), index=True)
    status: Mapped[str] = mapped_column(index=True)
    name: Mapped[str | None]
    model: Mapped[str | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    body: Mapped[dict[str, Any]]  # data_source
    result: Mapped[dict[str, Any]]  # result_counts, per_model_usage, per_testing_criteria_results
    error: Mapped[dict[str, Any] | None]
    job_id: Mapped[str | None]  # of a run that a fine-tuning job made
    finished_at: Mapped[float | None]
    deleted_at: Mapped[float | None]


class OutputItem(Counted, Base):
    __tablename__ = "output_items"
    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id"))
    eval_id: Mapped[str]
    position: Mapped[int]  # of its row (and sample) in the run: told twice, stored once
    status: Mapped[str]  # pass, fail
    body: Mapped[dict[str, Any]]
    __table_args__ = (UniqueConstraint("run_id", "position"), {"sqlite_autoincrement": True})


class WebhookEndpoint(Counted, Base):
    __tablename__ = "webhook_endpoints"
    project: Mapped[str] = mapped_column(index=True)
    url: Mapped[str]
    secret: Mapped[str]  # signs the deliveries, so it cannot be a hash
    types: Mapped[list[Any]]  # event types wanted; [] = all
    deleted_at: Mapped[float | None]


class Delivery(Counted, Base):
    """The outbox: stored in the transaction of what it tells, sent later, at least once."""

    __tablename__ = "webhook_deliveries"
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float | None] = mapped_column(index=True)  # None = done or given up
    delivered_at: Mapped[float | None]
    last_error: Mapped[str | None]
