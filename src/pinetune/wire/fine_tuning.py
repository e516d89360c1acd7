"""The body of `POST /v1/fine_tuning/jobs`, and the optional `pinetune` section for what the hosted API hides.

Field names, ranges and defaults of the first part are OpenAI's; see `JobBody`. Everything in `PinetuneOptions` has
an "auto" that `loop.config` resolves to a printed value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pinetune.wire.base import Auto, Wire

AutoInt = Auto | Annotated[int, Field(ge=1)]
AutoPositive = Auto | Annotated[float, Field(gt=0)]
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class JsonSchemaSpec(Wire):
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Wire):
    type: Literal["json_schema"]
    json_schema: JsonSchemaSpec


class ReinforcementHyperparameters(Wire):
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"  # prompts a step
    learning_rate_multiplier: AutoPositive = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    reasoning_effort: Literal["default", "low", "medium", "high"] = "default"
    compute_multiplier: Auto | Annotated[float, Field(gt=0.00001, le=10)] = "auto"
    eval_interval: AutoInt = "auto"  # steps between validation evals
    eval_samples: AutoInt = "auto"  # samples a validation row


class Reinforcement(Wire):
    grader: dict[str, Any]  # checked by graders.build, which knows the types
    response_format: ResponseFormat | None = None
    hyperparameters: ReinforcementHyperparameters = Field(default_factory=ReinforcementHyperparameters)


class Method(Wire):
    type: Literal["reinforcement"]
    reinforcement: Reinforcement


class LoraOptions(Wire):
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32


class JudgePrice(Wire):
    """US dollars a million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached_input: Annotated[float, Field(ge=0)] | None = None


class PinetuneOptions(Wire):
    """What the hosted API hides. All optional."""

    steps: AutoInt = "auto"  # optimizer steps; wins over n_epochs
    group_size: Auto | Annotated[int, Field(ge=2, le=256)] = "auto"  # rollouts a prompt
    learning_rate: AutoPositive = "auto"  # absolute, before learning_rate_multiplier
    advantage: str = "group_mean"
    loss: str = "grpo"
    kl_coefficient: Annotated[float, Field(ge=0)] = 0.0
    lora: Auto | Literal["off"] | LoraOptions = "auto"
    max_tokens: AutoInt = "auto"  # of a completion, thinking included
    max_prompt_tokens: AutoInt = "auto"
    thinking_budget: Auto | Annotated[int, Field(ge=0)] = "auto"
    stop: list[str] = Field(default_factory=list, max_length=4)
    max_refills: Annotated[int, Field(ge=0, le=10)] = 1  # more prompts are drawn for groups without spread, so often a step
    retire_at: Annotated[float, Field(gt=0, le=1)] | None = 0.9  # prompts whose mean reward reaches this rest; null = none rests
    patience: Annotated[int, Field(ge=1)] = 5  # evals without a better held-out reward before stopping early
    early_stopping: bool = True
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: AutoInt = "auto"
    micro_batch_tokens: AutoInt = "auto"
    budget_minutes: Annotated[float, Field(gt=0)] | None = None
    test_file: str | None = None  # final evidence: no choice is made on it
    answer_field: str | None = None  # the row's key that holds the right answer; found when not told
    allow_answer_overlap: bool = False  # for tasks with few possible answers (yes/no, a label)
    preflight: Literal["off", "require"] = "off"  # of a service: whether it creates no job that `pinetune check` would stop
    cluster_by_answer: bool | None = None  # whether intervals let rows with one answer vary together; null: `loop.job.evidence_options`
    judge_base_url: str | None = None  # of an OpenAI-compatible endpoint; keys come from the environment only
    judge_aliases: dict[str, str] = Field(default_factory=dict)  # the name a grader says -> the model that answers
    judge_concurrency: Annotated[int, Field(ge=1, le=64)] = 16
    judge_timeout: Annotated[float, Field(gt=0)] = 60.0  # seconds
    judge_retries: Annotated[int, Field(ge=0, le=20)] = 3
    judge_budget_tokens: Annotated[int, Field(ge=1)] | None = None
    judge_budget_usd: Annotated[float, Field(gt=0)] | None = None
    judge_prices: dict[str, JudgePrice] = Field(default_factory=dict)  # by model
    endpoint_timeout: Annotated[float, Field(gt=0, le=86400)] = 600.0  # seconds an endpoint grader may take for an answer
    unsafe_python_graders: bool = False  # run python graders without confinement: only for graders you wrote yourself


class JobBody(Wire):
    """`POST /v1/fine_tuning/jobs`. In a JOB.json the files may be local paths, relative to the JOB.json."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    integrations: list[dict[str, Any]] | None = None
    hyperparameters: dict[str, Any] | None = None  # the deprecated place, for supervised jobs
    pinetune: PinetuneOptions = Field(default_factory=PinetuneOptions)
