"""Log-likelihoods of given answers, and one optimizer step along a weighted sum of them: what supervised and preference training share.

answer = Text(prompt_ids, answer_ids);  score(...) -> Score(log p(answer | prompt), tokens, tokens that were the likeliest)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pinetune.models.load import LoadedModel
from pinetune.training.forward import PolicyForward
from pinetune.training.losses import LossInputs, Metrics
from pinetune.training.optimizer import Optimizer
from pinetune.training.policy_gradient import backward_by_chunk


@dataclass(frozen=True, slots=True)
class Text:
    """Prompt and answer; only the answer's tokens count."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True, slots=True)
class Score:
    """`logprob` is summed over the answer, in nats; `num_correct` of its `num_tokens` tokens were the model's first choice."""

    logprob: float
    num_tokens: int
    num_correct: int


def score(loaded: LoadedModel, texts: Sequence[Text], budget: int, *, bfloat16: bool = False) -> list[Score]:
    """Each answer's score, in order, without gradient. `budget`: tokens computed at once."""
    scores: list[Score | None] = [None] * len(texts)
    with torch.no_grad():
        forward = PolicyForward(loaded.model, bfloat16=bfloat16)
        with forward.precision():
            for part in _parts(texts, budget):
                hidden, targets = _hidden(forward, [texts[i] for i in part])
                for i, found in zip(part, _scores(forward, hidden, targets, [texts[i] for i in part]), strict=True):
                    scores[i] = found
    return [found for found in scores if found is not None]


def step(
    loaded: LoadedModel,
    texts: Sequence[Text],
    weights: Sequence[float],
    optimizer: Optimizer,
    rate: float,
    budget: int,
    *,
    bfloat16: bool = False,
) -> tuple[list[Score], float]:
    """One update that lowers `-sum_i weights[i] * log p(answer_i)`; (scores before it, gradient norm).

    Skipped, weights untouched, where the norm is not finite: the caller sees it.
    """
    scores: list[Score | None] = [None] * len(texts)
    optimizer.zero()
    forward = PolicyForward(loaded.model, bfloat16=bfloat16)
    with forward.precision():
        for part in _parts(texts, budget):
            some = [texts[i] for i in part]
            hidden, targets = _hidden(forward, some)
            for i, found in zip(part, _scores(forward, hidden.detach(), targets, some), strict=True):
                scores[i] = found
            _backward(forward, hidden, targets, some, [weights[i] for i in part])
        forward.finish()
    norm = optimizer.clip()
    if norm < float("inf"):
        optimizer.update(rate)
    else:
        optimizer.zero()
    return [found for found in scores if found is not None], norm


def _backward(forward: PolicyForward, hidden: Tensor, targets: Tensor, texts: Sequence[Text], weights: Sequence[float]) -> None:
    of_token = torch.tensor([w for text, w in zip(texts, weights, strict=True) for _ in text.answer_ids], device=hidden.device)
    ones = torch.ones_like(of_token)
    inputs = LossInputs(torch.zeros_like(ones), of_token, ones, torch.zeros(len(of_token), dtype=torch.long, device=hidden.device))

    def loss_of(logprobs: Tensor, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        return -(inputs.advantages * logprobs).sum(), {}

    backward_by_chunk(hidden, forward.head, targets, inputs, loss_of)


def _hidden(forward: PolicyForward, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """(states that predict the answers' tokens [N, H], those tokens [N])."""
    trained = [range(len(text.prompt_ids), len(text)) for text in texts]
    hidden = forward.documents([[*text.prompt_ids, *text.answer_ids] for text in texts], trained)
    return hidden, torch.tensor([token for text in texts for token in text.answer_ids], device=forward.device)


@torch.no_grad()
def _scores(forward: PolicyForward, hidden: Tensor, targets: Tensor, texts: Sequence[Text]) -> Iterator[Score]:
    logprobs, correct = [], []
    for rows in forward.head.chunks(hidden.shape[0]):
        logits = forward.head.logits(hidden[rows])
        logprobs.append(logits.log_softmax(-1).gather(1, targets[rows, None])[:, 0].float())
        correct.append(logits.argmax(-1) == targets[rows])
    sizes = [len(text.answer_ids) for text in texts]
    for lp, right in zip(torch.cat(logprobs).split(sizes), torch.cat(correct).split(sizes), strict=True):
        yield Score(float(lp.double().sum()), len(lp), int(right.sum()))


def _parts(texts: Sequence[Text], budget: int) -> Iterator[list[int]]:
    """Indices of texts that are computed together: at most `budget` tokens, similar lengths beside each other."""
    part: list[int] = []
    size = 0
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if part and size + len(texts[i]) > budget:
            yield part
            part, size = [], 0
        part.append(i)
        size += len(texts[i])
    if part:
        yield part
