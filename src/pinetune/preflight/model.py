"""What needs the model: prompts that do not fit, samples of the base, and how long both passes take."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pinetune.loop.config import JobFacts, TrainConfig, eval_samples, resolve
from pinetune.loop.job import LEAST_ANSWER, UNKNOWN_CONTEXT
from pinetune.models.load import LoadedModel, load_model
from pinetune.models.memory import device_bytes
from pinetune.models.names import find_model
from pinetune.preflight.cost import Load
from pinetune.preflight.data import check_lengths
from pinetune.preflight.learnable import sample_of
from pinetune.preflight.options import Subject
from pinetune.preflight.report import Finding
from pinetune.records import Group, Row
from pinetune.rollout.run import derive_seed, run_groups
from pinetune.sampling.local import LocalSampler
from pinetune.training.budget import activation_bytes, default_token_budget
from pinetune.training.likelihood import Text, score

FORWARD_TEXTS = 32  # scored to see how long a forward pass takes


@dataclass(frozen=True, slots=True)
class Opened:
    """The base as the job would train it, and the job's settings; `fitting` are the training rows whose prompts fit."""

    loaded: LoadedModel
    config: TrainConfig
    fitting: list[Row]
    findings: list[Finding]  # of the prompts' lengths
    figures: dict[str, object]


def open_base(subject: Subject) -> Opened:
    """Raises ModelError, or JobError where settings contradict the model."""
    own, options = subject.body.pinetune, subject.options
    source = options.source or find_model(subject.body.model, subject.beside)
    options.told("opening the model")
    loaded = load_model(source, device=own.device, dtype="float32" if own.dtype == "auto" else own.dtype)
    context = loaded.context_length or UNKNOWN_CONTEXT
    limit = context - (LEAST_ANSWER if own.max_tokens == "auto" else int(own.max_tokens))
    limit = limit if own.max_prompt_tokens == "auto" else min(limit, int(own.max_prompt_tokens))
    tokens = {role: [len(loaded.chat.render(row).token_ids) for row in rows] for role, rows in subject.rows.items()}
    named = {
        subject.names[role]: [(row.line or row.index + 1, count) for row, count in zip(subject.rows[role], tokens[role], strict=True)]
        for role in tokens
    }
    findings, figures = check_lengths(named, limit)
    fitting = [row for row, count in zip(subject.train, tokens["training_file"], strict=True) if count <= limit]
    facts = JobFacts(
        num_train=len(subject.train),
        num_valid=len(subject.rows.get("validation_file", [])),
        num_parameters=sum(p.numel() for p in loaded.model.parameters()),
        context_length=context,
        longest_prompt=max((count for of_role in tokens.values() for count in of_role if count <= limit), default=0),
        on_gpu=loaded.device.type == "cuda",
        adapter_rank=next(iter(loaded.model.peft_config.values())).r if loaded.is_lora else 0,
    )
    seed = subject.body.seed if subject.body.seed is not None else options.seed
    return Opened(loaded, resolve(subject.body, facts, seed), fitting, findings, figures)


def draw_groups(subject: Subject, opened: Opened) -> tuple[list[Group], float]:
    """(groups of the base, seconds), by the path that training takes. Raises BudgetSpent."""
    options = subject.options
    rows = sample_of(opened.fitting, options.rows, options.seed)
    options.told(f"sampling {options.samples} answers of the base on {len(rows)} rows")
    began = time.monotonic()
    groups = run_groups(
        rows,
        LocalSampler(opened.loaded),
        subject.grader,
        num_samples=options.samples,
        params=opened.config.sampling(),
        seed=derive_seed(options.seed, "preflight"),
    )
    return groups, time.monotonic() - began


def load_of(subject: Subject, opened: Opened, groups: Sequence[Group], seconds: float) -> Load:
    """The job in numbers, from its settings and these samples."""
    loaded, config = opened.loaded, opened.config
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    parameters = sum(p.numel() for p in loaded.model.parameters())
    budget = config.micro_batch_tokens or default_token_budget(loaded)
    valid = len(subject.rows.get("validation_file", []))
    final = len(subject.rows.get("test_file", [])) or valid
    return Load(
        steps=config.steps,
        rollouts_a_step=config.batch_size * config.group_size,
        evals=(1 + math.ceil(config.steps / config.eval_interval)) if valid else 0,
        rollouts_an_eval=valid * config.eval_samples,
        rollouts_final=final * eval_samples(final) if final else 0,
        parameters=parameters,
        trained_parameters=_lora_parameters(loaded, config.lora_rank) if config.lora_rank else parameters,
        activation_bytes=budget * activation_bytes(loaded),
        seconds_a_rollout=seconds / len(rollouts),
        forward_seconds=_forward_seconds(loaded, groups, budget),
        tokens_a_rollout=sum(len(r.completion.token_ids) for r in rollouts) / len(rollouts),
        budget_minutes=config.budget_minutes,
        memory_bytes=device_bytes(loaded.device),
        device=loaded.device.type,
    )


def _forward_seconds(loaded: LoadedModel, groups: Sequence[Group], budget: int) -> float:
    """Of one completion behind its prompt; training reads a prompt once a group, so this is at most what it takes."""
    texts = [Text(g.prompt.token_ids, r.completion.token_ids) for g in groups for r in g.rollouts if r.completion.token_ids][:FORWARD_TEXTS]
    if not texts:
        return 0.0
    score(loaded, texts[:1], budget)  # the first call makes its plans
    began = time.monotonic()
    score(loaded, texts, budget)
    return (time.monotonic() - began) / len(texts)


def _lora_parameters(loaded: LoadedModel, rank: int) -> int:
    """Two thin matrices beside each linear layer, the output head left out."""
    head = loaded.base.get_output_embeddings()
    layers = [m for m in loaded.base.modules() if hasattr(m, "in_features") and m is not head]
    return sum(rank * (m.in_features + m.out_features) for m in layers)
