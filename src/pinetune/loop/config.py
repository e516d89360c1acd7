"""From the job body a user sent, with its "auto"s, to the frozen settings the loop reads: every number decided and said.

The rules are the design's default recipe; each is one small function with its reason.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from pinetune.errors import JobError
from pinetune.records import JsonSchema, SamplingParams
from pinetune.wire.base import complaints
from pinetune.wire.fine_tuning import JobBody, LoraOptions, PinetuneOptions

SMALL_MODEL = 50_000_000  # parameters under which full weights train as cheaply as LoRA
WITHOUT_EFFECT = {
    "hyperparameters": "set method.reinforcement.hyperparameters",
    "integrations": "remove it; nothing leaves this machine, and metrics.jsonl holds every number",
}
EFFORT_SHARE = {"low": 0.25, "medium": 0.5, "default": 0.75, "high": 0.9}  # of max_tokens, kept for thinking


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What "auto" is resolved from: the data and the model as found."""

    num_train: int
    num_valid: int
    num_parameters: int
    context_length: int
    longest_prompt: int
    on_gpu: bool
    adapter_rank: int = 0  # of the adapter the model came with, which is trained on; 0 = plain weights


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What the loop reads. No None for "decide later", no "auto"."""

    seed: int
    steps: int
    n_epochs: int
    batch_size: int  # prompts a step
    group_size: int  # rollouts a prompt
    learning_rate: float  # multiplier already applied
    learning_rate_multiplier: float
    compute_multiplier: float
    eval_interval: int
    eval_samples: int
    max_tokens: int
    thinking_budget: int
    max_refills: int
    retire_at: float  # math.inf = never
    patience: int
    early_stopping: bool
    budget_minutes: float  # math.inf = none
    advantage: str
    loss: str
    kl_coefficient: float
    lora_rank: int  # 0 = full weights
    lora_alpha: float
    micro_batch_tokens: int  # 0 = by device and memory
    bfloat16: bool  # matrix products of the update in bfloat16; trained weights stay float32
    stop: tuple[str, ...]
    json_schema: JsonSchema | None

    def sampling(self) -> SamplingParams:
        """Training and evaluation sample alike: temperature 1, top_p 1, so that what is judged is what is trained."""
        return SamplingParams(
            max_tokens=self.max_tokens, thinking_budget=self.thinking_budget, stop=self.stop, json_schema=self.json_schema
        )

    def printed(self) -> dict[str, Any]:
        return {k: (None if v == math.inf else v) for k, v in asdict(self).items() if k != "json_schema"}


def parse_job(data: object) -> JobBody:
    """The body as typed settings; JobError names every wrong field by its JSON path."""
    if not isinstance(data, dict):
        raise JobError(f"a job is a JSON object with model, training_file and method, not {type(data).__name__}")
    method = data.get("method")
    kind = method.get("type") if isinstance(method, dict) else None
    if "method" not in data or kind in {"supervised", "dpo"}:
        raise JobError(
            f"only reinforcement jobs run here yet, not {kind or 'supervised'}; set method.type to 'reinforcement'", "method.type"
        )
    for field, instead in WITHOUT_EFFECT.items():
        if data.get(field):
            raise JobError(f"has no effect on a reinforcement job here; {instead}", field)
    try:
        return JobBody.model_validate(data)
    except ValidationError as error:
        found = complaints(error, JobBody)
        lines = [f"{path}: {text}" for path, text in found[1:]]
        raise JobError("\n".join([found[0][1], *lines]), found[0][0]) from None


def resolve(body: JobBody, facts: JobFacts, seed: int) -> TrainConfig:
    """Replace every "auto" by a number. Raises JobError where settings contradict the data or the model."""
    hyper, own = body.method.reinforcement.hyperparameters, body.pinetune
    multiplier = 1.0 if hyper.compute_multiplier == "auto" else float(hyper.compute_multiplier)
    batch_size = _batch_size(facts.num_train) if hyper.batch_size == "auto" else min(int(hyper.batch_size), facts.num_train)
    epochs = None if hyper.n_epochs == "auto" else int(hyper.n_epochs)
    steps = int(own.steps) if own.steps != "auto" else _steps(facts.num_train, batch_size, epochs)
    max_tokens = _max_tokens(facts) if own.max_tokens == "auto" else int(own.max_tokens)
    _check_fits(facts, max_tokens)
    lora = lora_of(body.pinetune, facts)
    rate_multiplier = 1.0 if hyper.learning_rate_multiplier == "auto" else float(hyper.learning_rate_multiplier)
    rate = base_learning_rate(facts.num_parameters, lora is not None) if own.learning_rate == "auto" else float(own.learning_rate)
    thinking = int(max_tokens * EFFORT_SHARE[hyper.reasoning_effort]) if own.thinking_budget == "auto" else int(own.thinking_budget)
    group_size = max(2, round(8 * multiplier)) if own.group_size == "auto" else int(own.group_size)
    response = body.method.reinforcement.response_format
    return TrainConfig(
        seed=seed,
        steps=steps,
        n_epochs=max(1, math.ceil(steps * batch_size / facts.num_train)),
        batch_size=batch_size,
        group_size=group_size,
        learning_rate=rate * rate_multiplier,
        learning_rate_multiplier=rate_multiplier,
        compute_multiplier=multiplier,
        eval_interval=max(1, min(20, steps // 10)) if hyper.eval_interval == "auto" else int(hyper.eval_interval),
        eval_samples=eval_samples(facts.num_valid) if hyper.eval_samples == "auto" else int(hyper.eval_samples),
        max_tokens=max_tokens,
        thinking_budget=min(thinking, max_tokens),
        max_refills=own.max_refills,
        retire_at=math.inf if own.retire_at is None else own.retire_at,
        patience=own.patience,
        early_stopping=own.early_stopping,
        budget_minutes=own.budget_minutes or math.inf,
        advantage=own.advantage,
        loss=own.loss,
        kl_coefficient=own.kl_coefficient,
        lora_rank=lora.rank if lora else 0,
        lora_alpha=lora.alpha if lora else 0.0,
        micro_batch_tokens=0 if own.micro_batch_tokens == "auto" else int(own.micro_batch_tokens),
        bfloat16=own.dtype == "bfloat16" or (own.dtype == "auto" and facts.on_gpu),
        stop=tuple(own.stop),
        json_schema=response.json_schema.schema_ if response else None,
    )


def _batch_size(num_train: int) -> int:
    """At least 64 completions an update with groups of 8; more prompts where there are many rows."""
    return min(num_train, 16 if num_train >= 64 else 8)


def _steps(num_train: int, batch_size: int, epochs: int | None) -> int:
    """Few rows are budgeted in steps, not epochs: one epoch over 12 rows would be two steps."""
    if epochs is not None:
        return max(1, math.ceil(epochs * num_train / batch_size))
    return max(100, min(300, math.ceil(2 * num_train / batch_size)))


def eval_samples(num_valid: int) -> int:
    """About 100 graded answers an evaluation; fewer leave an interval too wide to choose a checkpoint by."""
    return max(1, min(5, math.ceil(100 / num_valid))) if num_valid else 1


def _max_tokens(facts: JobFacts) -> int:
    return min(1024, facts.context_length - facts.longest_prompt)


def _check_fits(facts: JobFacts, max_tokens: int) -> None:
    if max_tokens < 1 or facts.longest_prompt + max_tokens > facts.context_length:
        raise JobError(
            f"the longest prompt has {facts.longest_prompt} tokens and completions may have {max_tokens}, "
            f"but the model reads {facts.context_length}; lower max_tokens or shorten the prompts",
            "pinetune.max_tokens",
        )


def lora_of(own: PinetuneOptions, facts: JobFacts) -> LoraOptions | None:
    if facts.adapter_rank:
        return LoraOptions(rank=facts.adapter_rank)
    if isinstance(own.lora, LoraOptions):
        return own.lora
    return None if own.lora == "off" or facts.num_parameters < SMALL_MODEL else LoraOptions()


def base_learning_rate(num_parameters: int, lora: bool) -> float:
    """Full weights 1e-6 at 1B, rising as models shrink, to 1e-4 at 2.5M (measured on the miniature); LoRA ten times that.

    Source for the factor of ten: "LoRA Without Regret" (Thinking Machines, 2025).
    """
    full = max(1e-6, min(1e-4, 1e-6 * math.pow(1e9 / num_parameters, 0.77)))
    return max(2e-5, min(5e-4, 10 * full)) if lora else full
