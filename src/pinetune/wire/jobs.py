"""`/v1/fine_tuning`: the body that creates a job of any method, and jobs, events, checkpoints and permissions as they are shown.

`fine_tuning.JobBody` is the part that the training loop reads; this is the whole door.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pinetune.wire.base import Auto, Wire
from pinetune.wire.fine_tuning import AutoPositive, Metadata, PinetuneOptions, Reinforcement

METHODS = ("supervised", "dpo", "reinforcement")


class SupervisedHyperparameters(Wire):
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: AutoPositive = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"


class DpoHyperparameters(SupervisedHyperparameters):
    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"  # a higher one keeps the model nearer to where it began


class Supervised(Wire):
    hyperparameters: SupervisedHyperparameters = Field(default_factory=SupervisedHyperparameters)


class Dpo(Wire):
    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class AnyMethod(Wire):
    """The object named like `type` holds the settings; supervised and dpo can do without."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None


class Wandb(Wire):
    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(Wire):
    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(Wire):
    """`POST /v1/fine_tuning/jobs`; without `method` it is a supervised job, as on the hosted API."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: AnyMethod | None = None
    hyperparameters: SupervisedHyperparameters | None = None  # the deprecated place, for supervised jobs
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    integrations: list[Integration] | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    pinetune: PinetuneOptions = Field(default_factory=PinetuneOptions)


class JudgeBudget(Wire):
    """What is left out stays as it is; null takes the limit away."""

    tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    usd: Annotated[float, Field(gt=0, le=10**9)] | None = None


# ---- replies


class JobError(BaseModel):
    code: str
    message: str
    param: str | None


class JobMethod(BaseModel):
    """`type`, and under its name what was asked, with the numbers that every "auto" became once the job ran."""

    type: str
    supervised: dict[str, Any] | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class JobProgress(BaseModel):
    """Ours: where the job stands between its events."""

    step: int
    pause_requested: bool
    tuned_name: str  # the model's name, known before it exists
    options: dict[str, Any]


class JobObject(BaseModel):
    """With the fields that the hosted API sends and its schema does not name."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: str
    model: str
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: dict[str, Any]
    method: JobMethod
    error: JobError | None
    seed: int
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    user_provided_suffix: str | None
    usage_metrics: dict[str, Any] | None
    shared_with_openai: bool = False
    eval_id: str | None
    pinetune: JobProgress


class EventObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, Any]  # {} where there is none, so that scripts can look into it unasked


class CheckpointObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, Any]


class CreatePermissions(Wire):
    project_ids: Annotated[list[str], Field(min_length=1, max_length=100)]


class PermissionObject(BaseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str


class PermissionDeleted(BaseModel):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True
