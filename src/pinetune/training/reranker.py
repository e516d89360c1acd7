"""Train a reranker on graded answers: binary cross-entropy on the last token, as many right answers as wrong ones in each epoch.

ReFT section 4.4 (arXiv 2401.08967): samples of the training rows, labelled by their grade, three epochs. Which epoch is kept is decided
on rows that are not trained on, by how well it tells right from wrong answers to the same row.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from pinetune.errors import ModelError
from pinetune.models.reranker import Reranker, by_length
from pinetune.training.optimizer import Optimizer


@dataclass(frozen=True, slots=True)
class JudgedText:
    """An answer as the reranker reads it (`Reranker.tokens`); `group` names the row it answers."""

    token_ids: Sequence[int]
    correct: bool
    group: Hashable


@dataclass(frozen=True, slots=True)
class RerankerSettings:
    """`batch_size` answers an update, in micro-batches of at most `micro_batch_tokens` tokens with padding."""

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 24
    micro_batch_tokens: int = 8192
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EpochReport:
    """`loss` is the mean over the epoch's training answers; the rest is measured on held-out rows after it, NaN where there are none.

    `held_out_loss`: nats an answer.
    `pair_accuracy`: share of (right, wrong) pairs of answers to one row that are in the right order, ties half.
    `picked`: share of held-out rows whose highest-scored answer is right; `chance`: the same for an answer drawn at random.
    """

    epoch: int  # from 1
    loss: float
    held_out_loss: float
    pair_accuracy: float
    picked: float
    chance: float


def train_reranker(
    reranker: Reranker,
    texts: Sequence[JudgedText],
    held_out: Sequence[JudgedText],
    settings: RerankerSettings,
    progress: Callable[[EpochReport], None] | None = None,
) -> list[EpochReport]:
    """Train in place and leave the best epoch's weights in `reranker`: the highest pair accuracy, of equal ones the lower held-out loss.

    Without held-out pairs the last epoch is kept. Raises ValueError where all answers are right or all wrong, ModelError where a
    gradient is not finite.
    """
    right, wrong = [t for t in texts if t.correct], [t for t in texts if not t.correct]
    if not right or not wrong:
        raise ValueError(f"a reranker needs right and wrong answers, not {len(right)} right and {len(wrong)} wrong")
    order = random.Random(settings.seed)
    optimizer = Optimizer(reranker.model, max_grad_norm=settings.max_grad_norm)
    steps_an_epoch = math.ceil(2 * min(len(right), len(wrong)) / settings.batch_size)
    total = settings.epochs * steps_an_epoch
    reports: list[EpochReport] = []
    best, kept = (-math.inf, 0.0), None
    for epoch in range(1, settings.epochs + 1):
        losses = []
        drawn = balanced(right, wrong, order)
        for start in range(0, len(drawn), settings.batch_size):
            rate = _rate(settings, optimizer.num_updates, total)
            losses.append(_update(reranker, drawn[start : start + settings.batch_size], optimizer, settings, rate))
        reports.append(_measured(reranker, held_out, epoch, fmean(losses)))
        if progress:
            progress(reports[-1])
        quality = (reports[-1].pair_accuracy, -reports[-1].held_out_loss)
        if not math.isnan(quality[0]) and quality > best:
            best = quality
            kept = {name: value.detach().clone() for name, value in reranker.model.state_dict().items()}
    if kept is not None:
        reranker.model.load_state_dict(kept)
    return reports


def balanced(right: Sequence[JudgedText], wrong: Sequence[JudgedText], order: random.Random) -> list[JudgedText]:
    """All of the rarer kind and as many of the other, drawn anew, shuffled."""
    few = min(len(right), len(wrong))
    drawn = [*order.sample(right, few), *order.sample(wrong, few)]
    order.shuffle(drawn)
    return drawn


def pair_accuracy(texts: Sequence[JudgedText], scores: Sequence[float]) -> float:
    """Mean over rows with both kinds of the share of (right, wrong) pairs in the right order, ties half; NaN where there is none.

    >>> row = [JudgedText([1], True, 0), JudgedText([1], False, 0), JudgedText([1], False, 0)]
    >>> pair_accuracy(row, [0.5, 0.2, 0.5])
    0.75
    """
    found = []
    for places in rows_of(texts).values():
        right = [scores[i] for i in places if texts[i].correct]
        wrong = [scores[i] for i in places if not texts[i].correct]
        if right and wrong:
            found.append(fmean(1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong))
    return fmean(found) if found else math.nan


def rows_of(texts: Sequence[JudgedText]) -> dict[Hashable, list[int]]:
    """Places of the answers to each row."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        rows[text.group].append(place)
    return rows


def _measured(reranker: Reranker, held_out: Sequence[JudgedText], epoch: int, loss: float) -> EpochReport:
    if not held_out:
        return EpochReport(epoch, loss, math.nan, math.nan, math.nan, math.nan)
    scores = reranker.scores([text.token_ids for text in held_out])
    rows = list(rows_of(held_out).values())
    picked = fmean(held_out[max(places, key=lambda i: scores[i])].correct for places in rows)
    chance = fmean(fmean(held_out[i].correct for i in places) for places in rows)
    return EpochReport(epoch, loss, _loss_of(held_out, scores), pair_accuracy(held_out, scores), picked, chance)


def best_of(reports: Sequence[EpochReport]) -> EpochReport:
    """The report of the epoch that `train_reranker` kept."""
    measured = [report for report in reports if not math.isnan(report.pair_accuracy)]
    return max(measured, key=lambda report: (report.pair_accuracy, -report.held_out_loss)) if measured else reports[-1]


def _loss_of(texts: Sequence[JudgedText], scores: Sequence[float]) -> float:
    least = 1e-12  # a probability that float32 rounds to 0 still has a finite loss
    return fmean(-math.log(max(least, score if text.correct else 1 - score)) for text, score in zip(texts, scores, strict=True))


def _update(reranker: Reranker, batch: Sequence[JudgedText], optimizer: Optimizer, settings: RerankerSettings, rate: float) -> float:
    """One optimizer step; the mean loss before it."""
    optimizer.zero()
    total = 0.0
    for places in by_length([len(text.token_ids) for text in batch], settings.micro_batch_tokens):
        logits_N = reranker.logits([batch[i].token_ids for i in places])
        labels_N = torch.tensor([float(batch[i].correct) for i in places], device=logits_N.device)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_N, labels_N, reduction="sum") / len(batch)
        loss.backward()
        total += float(loss.detach())
    norm = optimizer.clip()
    if not math.isfinite(norm):
        raise ModelError("the reranker's training diverged: the gradient is not finite; lower the learning rate")
    optimizer.update(rate)
    return total


def _rate(settings: RerankerSettings, step: int, total: int) -> float:
    """Linear warm-up, then linearly down to zero."""
    warmup = max(1, round(settings.warmup_share * total))
    return settings.learning_rate * min((step + 1) / warmup, (total - step) / max(1, total - warmup), 1.0)
