"""Train a reranker on graded answers: binary cross-entropy, of each thing that is said as many right answers as wrong ones in each epoch.

ReFT section 4.4 (arXiv 2401.08967): samples of the training rows, labelled by their grade, a few epochs. The label is asked of the last
token, which is what counts in the end, and of every token of the answer, as in the token-level verifier of Cobbe et al. 2021
(arXiv 2110.14168): with some thousand answers, a hundred labels an answer find what to look at much sooner than one. Which step is kept
is decided on rows that are not trained on, by how well it tells right from wrong answers to the same row.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pinetune.errors import ModelError
from pinetune.models.reranker import Reranker, by_length
from pinetune.training.forward import BodyForward
from pinetune.training.optimizer import Optimizer


@dataclass(frozen=True, slots=True)
class JudgedText:
    """An answer as the reranker reads it (`Reranker.tokens`); `group` names the row it answers.

    `begins`: the place of the answer's first token, after prompt and thinking. `says`: what it answers, where a name alone
    must not tell right from wrong (`balanced`).
    """

    token_ids: Sequence[int]
    correct: bool
    group: Hashable
    begins: int = 0
    says: Hashable = None


@dataclass(frozen=True, slots=True)
class RerankerSettings:
    """`batch_size` answers an update, in micro-batches of at most `micro_batch_tokens` tokens.

    `token_weight`: of the mean loss over an answer's tokens, beside the last one's. `measures`: how often an epoch the held-out rows
    are looked at; training ends when `patience` looks in a row were no better than the best (0 = never).
    """

    epochs: int = 20
    learning_rate: float = 1e-4
    batch_size: int = 32
    micro_batch_tokens: int = 8192
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    token_weight: float = 3.0
    measures: int = 1
    patience: int = 6
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RerankerReport:
    """`loss` is that of the last tokens, its mean over the training answers since the last report; the rest is measured on held-out
    rows after this step, NaN where there are none.

    `held_out_loss`: nats an answer.
    `pair_accuracy`: share of (right, wrong) pairs of answers to one row that are in the right order, ties half.
    `picked`: share of held-out rows whose highest-scored answer is right; `chance`: the same for an answer drawn at random.
    """

    step: int  # from 1
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
    progress: Callable[[RerankerReport], None] | None = None,
    vary: Callable[[JudgedText, random.Random], JudgedText] | None = None,
) -> list[RerankerReport]:
    """Train in place and leave the best step's weights in `reranker`: the highest pair accuracy, of equal ones the lower held-out loss.

    `vary` makes of a text the one that is trained on, anew each time it is drawn.

    Without held-out pairs the last step is kept. Raises ValueError where nothing is said both rightly and wrongly, ModelError where a
    gradient is not finite.
    """
    order = random.Random(settings.seed)
    size = len(balanced(texts, random.Random(settings.seed)))
    if not size:
        right = sum(text.correct for text in texts)
        raise ValueError(f"a reranker needs right and wrong answers, not {right} right and {len(texts) - right} wrong")
    steps_an_epoch = math.ceil(size / settings.batch_size)
    total, every = settings.epochs * steps_an_epoch, max(1, steps_an_epoch // settings.measures)
    optimizer = Optimizer(reranker.model, max_grad_norm=settings.max_grad_norm)
    reports: list[RerankerReport] = []
    losses: list[float] = []
    kept = None
    for epoch, batch in _batches(texts, settings, order):
        batch = [vary(text, order) for text in batch] if vary else batch
        losses.append(_update(reranker, batch, optimizer, settings, _rate(settings, optimizer.num_updates, total)))
        if optimizer.num_updates % every and optimizer.num_updates < total:
            continue
        reports.append(_measured(reranker, held_out, optimizer.num_updates, epoch, fmean(losses)))
        losses = []
        if progress:
            progress(reports[-1])
        if best_of(reports) is reports[-1]:
            kept = {name: value.detach().clone() for name, value in reranker.model.state_dict().items()}
        elif settings.patience and len(reports) - reports.index(best_of(reports)) > settings.patience:
            break
    if kept is not None:
        reranker.model.load_state_dict(kept)
    return reports


def balanced(texts: Sequence[JudgedText], order: random.Random) -> list[JudgedText]:
    """Of each thing that is said all of the rarer kind and as many of the other, drawn anew; rows shuffled, each row's answers together.

    Equally often, because a name alone would tell otherwise: the answers of training rows are right somewhere, all other names are only
    ever wrong, and a reranker that learns this turns down the right answers of rows it has not seen. What is only ever right or wrong is
    left out. Together, because right and wrong answers to one row then meet in one update, where what only the row tells cancels out.
    """
    kinds: dict[Hashable, tuple[list[JudgedText], list[JudgedText]]] = defaultdict(lambda: ([], []))
    for text in texts:
        kinds[text.says][0 if text.correct else 1].append(text)
    drawn = []
    for right, wrong in kinds.values():
        few = min(len(right), len(wrong))
        drawn += [*order.sample(right, few), *order.sample(wrong, few)]
    rows: dict[Hashable, list[JudgedText]] = defaultdict(list)
    for text in drawn:
        rows[text.group].append(text)
    shuffled = order.sample(list(rows.values()), len(rows))
    return [text for texts_of_row in shuffled for text in texts_of_row]


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


def best_of(reports: Sequence[RerankerReport]) -> RerankerReport:
    """The report of the step that `train_reranker` keeps."""
    measured = [report for report in reports if not math.isnan(report.pair_accuracy)]
    return max(measured, key=lambda report: (report.pair_accuracy, -report.held_out_loss)) if measured else reports[-1]


def text_losses(logits_N: Tensor, counts: Sequence[int], labels: Sequence[bool], token_weight: float) -> tuple[Tensor, Tensor]:
    """(what is trained, the last tokens' loss) of each text, [texts] both, in nats.

    `logits_N`: log-odds of "correct" after each token of each answer, text by text; `counts`: how many each text has.
    """
    lengths = torch.tensor(counts, device=logits_N.device)
    labels_T = torch.tensor([float(label) for label in labels], device=logits_N.device)
    losses_N = binary_cross_entropy_with_logits(logits_N, labels_T.repeat_interleave(lengths), reduction="none")
    text_N = torch.arange(len(counts), device=logits_N.device).repeat_interleave(lengths)
    means_T = torch.zeros_like(labels_T).index_add(0, text_N, losses_N) / lengths
    last_T = losses_N[lengths.cumsum(0) - 1]
    return last_T + token_weight * means_T, last_T


def answer_logits(forward: BodyForward, reranker: Reranker, texts: Sequence[JudgedText]) -> tuple[Tensor, list[int]]:
    """Log-odds of "correct" after each token of each answer, float32 [N], text by text, and how many each text has."""
    documents = [[*text.token_ids, 0] for text in texts]  # the state of the last token is asked for as that which predicts one more
    places = [range(min(text.begins, len(text.token_ids) - 1) + 1, len(text.token_ids) + 1) for text in texts]
    hidden_NH = forward.documents(documents, places)
    logits_N2 = reranker.model.score(hidden_NH).float()
    return logits_N2[:, 1] - logits_N2[:, 0], [len(wanted) for wanted in places]


def _batches(texts: Sequence[JudgedText], settings: RerankerSettings, order: random.Random) -> Iterator[tuple[int, list[JudgedText]]]:
    for epoch in range(1, settings.epochs + 1):
        drawn = balanced(texts, order)
        for start in range(0, len(drawn), settings.batch_size):
            yield epoch, drawn[start : start + settings.batch_size]


def _measured(reranker: Reranker, held_out: Sequence[JudgedText], step: int, epoch: int, loss: float) -> RerankerReport:
    if not held_out:
        return RerankerReport(step, epoch, loss, math.nan, math.nan, math.nan, math.nan)
    scores = reranker.scores([text.token_ids for text in held_out])
    rows = list(rows_of(held_out).values())
    picked = fmean(held_out[max(places, key=lambda i: scores[i])].correct for places in rows)
    chance = fmean(fmean(held_out[i].correct for i in places) for places in rows)
    return RerankerReport(step, epoch, loss, _loss_of(held_out, scores), pair_accuracy(held_out, scores), picked, chance)


def _loss_of(texts: Sequence[JudgedText], scores: Sequence[float]) -> float:
    least = 1e-12  # a probability that float32 rounds to 0 still has a finite loss
    return fmean(-math.log(max(least, score if text.correct else 1 - score)) for text, score in zip(texts, scores, strict=True))


def _update(reranker: Reranker, batch: Sequence[JudgedText], optimizer: Optimizer, settings: RerankerSettings, rate: float) -> float:
    """One optimizer step; the mean loss of the last tokens before it."""
    optimizer.zero()
    forward = BodyForward(reranker.model)
    total = 0.0
    for places in by_length([len(text.token_ids) for text in batch], settings.micro_batch_tokens):
        texts = [batch[i] for i in places]
        logits_N, counts = answer_logits(forward, reranker, texts)
        losses_T, last_T = text_losses(logits_N, counts, [text.correct for text in texts], settings.token_weight)
        (losses_T.sum() / len(batch)).backward()
        total += float(last_T.detach().sum()) / len(batch)
    forward.finish()
    norm = optimizer.clip()
    if not math.isfinite(norm):
        raise ModelError("the reranker's training diverged: the gradient is not finite; lower the learning rate")
    optimizer.update(rate)
    return total


def _rate(settings: RerankerSettings, step: int, total: int) -> float:
    """Linear warm-up, then linearly down to zero."""
    warmup = max(1, round(settings.warmup_share * total))
    return settings.learning_rate * min((step + 1) / warmup, (total - step) / max(1, total - warmup), 1.0)
