"""Supervised training on plain texts: next-token cross-entropy on the tokens a mask names, many texts packed in one row.

Used to pretrain and warm up small bases. The same packed attention, chunked head and AdamW as the policy update.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pinetune.errors import ModelError
from pinetune.models.load import LoadedModel
from pinetune.training.forward import PolicyForward
from pinetune.training.losses import LossInputs, Metrics
from pinetune.training.optimizer import Optimizer
from pinetune.training.policy_gradient import backward_by_chunk


class Document(NamedTuple):
    """One text. `mask[t]` True = token t is trained (predicted from the tokens before it); the first token never is."""

    token_ids: Sequence[int]
    mask: Sequence[bool] | None = None  # None = every token but the first


@dataclass(frozen=True, slots=True)
class SftSettings:
    """Rate: linear warm-up, then cosine down to `final_rate` of the peak."""

    steps: int = 500
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    warmup_steps: int = 20
    batch_tokens: int = 8192  # tokens of an optimizer step
    micro_batch_tokens: int = 4096  # of them computed at once
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of step `step`, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, slots=True)
class SftReport:
    """One optimizer step. `loss` is nats per trained token."""

    step: int  # from 1
    total_steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    trained_tokens: int


def train_sft(
    loaded: LoadedModel,
    documents: Sequence[Document],
    settings: SftSettings | None = None,
    progress: Callable[[SftReport], None] | None = None,
) -> float:
    """Train `loaded.model` in place on shuffled passes over `documents`; return the mean loss of the last tenth of the steps.

    Raises ModelError when a gradient is not finite, ValueError when no token is trained.
    """
    settings = settings or SftSettings()
    optimizer = Optimizer(loaded.model, betas=settings.betas, weight_decay=settings.weight_decay, max_grad_norm=settings.max_grad_norm)
    batches = shuffled_batches(documents, settings)
    losses = []
    for step in range(settings.steps):
        loss, norm, num_tokens = sft_step(loaded, next(batches), optimizer, settings, step)
        losses.append(loss)
        if progress:
            progress(SftReport(step + 1, settings.steps, loss, norm, settings.rate(step), num_tokens))
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def sft_step(
    loaded: LoadedModel, documents: Sequence[Document], optimizer: Optimizer, settings: SftSettings, step: int
) -> tuple[float, float, int]:
    """One optimizer step on `documents` -> (loss per trained token, gradient norm, trained tokens)."""
    num_tokens = sum(num_trained(document) for document in documents)
    optimizer.zero()
    loss = torch.zeros((), device=loaded.device)
    forward = PolicyForward(loaded.model, bfloat16=settings.bfloat16)
    with forward.precision():
        for micro_batch in by_tokens(documents, settings.micro_batch_tokens):
            loss += document_backward(forward, micro_batch, num_tokens)
        forward.finish()
    norm = optimizer.clip()
    if not math.isfinite(norm):
        raise ModelError(f"training diverged at step {step + 1}: the gradient is not finite; lower the learning rate")
    optimizer.update(settings.rate(step))
    return float(loss), norm, num_tokens


def document_backward(forward: PolicyForward, documents: Sequence[Document], denominator: int) -> Tensor:
    """Add the gradient of `sum of -log p over trained tokens / denominator` to `.grad`; return its value."""
    trained = [trained_positions(document) for document in documents]
    targets = [document.token_ids[t] for document, wanted in zip(documents, trained, strict=True) for t in wanted]
    if not targets:
        return torch.zeros((), device=forward.device)
    hidden = forward.documents([document.token_ids for document in documents], trained)
    ones = torch.ones(len(targets), device=hidden.device)
    inputs = LossInputs(torch.zeros_like(ones), ones, ones, torch.zeros(len(targets), dtype=torch.long, device=hidden.device))

    def negative_log_likelihood(logprobs: Tensor, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        return -logprobs.sum() / denominator, {}

    return backward_by_chunk(hidden, forward.head, torch.tensor(targets, device=hidden.device), inputs, negative_log_likelihood)[0]


def trained_positions(document: Document) -> list[int]:
    return [t for t in range(1, len(document.token_ids)) if document.mask is None or document.mask[t]]


def num_trained(document: Document) -> int:
    return len(document.token_ids) - 1 if document.mask is None else sum(map(bool, document.mask[1:]))


def shuffled_batches(documents: Sequence[Document], settings: SftSettings) -> Iterator[list[Document]]:
    """Endless batches of at least `batch_tokens` tokens; every pass over the documents has its own order."""
    if not any(num_trained(document) for document in documents):
        raise ValueError("no document has a trained token")
    order = random.Random(settings.seed)
    batch: list[Document] = []
    size = 0
    while True:
        for index in order.sample(range(len(documents)), len(documents)):
            batch.append(documents[index])
            size += len(documents[index].token_ids)
            if size >= settings.batch_tokens:
                yield batch
                batch, size = [], 0


def by_tokens(documents: Sequence[Document], budget: int) -> Iterator[list[Document]]:
    """Consecutive documents of at most `budget` tokens together, sorted by length so that similar ones share an attention call."""
    part: list[Document] = []
    size = 0
    for document in sorted(documents, key=lambda d: len(d.token_ids)):
        if part and size + len(document.token_ids) > budget:
            yield part
            part, size = [], 0
        part.append(document)
        size += len(document.token_ids)
    if part:
        yield part
