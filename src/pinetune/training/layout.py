"""Where everything lies in a packed micro-batch: one row of T tokens, no padding, each prompt once.

    tokens    | prompt 0 | prompt 1 | completions of prompt 0 | completions of prompt 1 |
    position    0..P0-1    0..P1-1    P0.. each                 P1.. each

A completion's last token is left out: nothing is predicted from it. Attention is the sum of two kinds of blocks: every segment
(prompt or completion) looks back on itself, and a group's completions look at all of their prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pinetune.training.pack import MicroBatch

# Segments of similar length share one attention call, padded to the longest. 1.3 keeps the padded share of that call's work small.
BUCKET_RATIO = 1.3
BUCKET_SLACK = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, start + length) of the row; `group` is the prompt they belong to."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class CrossBlock:
    """Queries [query, query + num_queries) (all completions of a group) over keys [key, key + num_keys) (its prompt)."""

    query: int
    num_queries: int
    key: int
    num_keys: int


@dataclass(frozen=True)
class CausalBlock:
    """`n` segments of at most `length` tokens, each attending causally to itself.

    `start` >= 0: the segments are equally long and lie side by side from `start`, so a view does.
    `start` < 0: `index` [n * length] gathers them, padded with each segment's last token; `real` [num real] are the places of
    `index` that are no padding, `tokens` the row's tokens they stand for.
    """

    n: int
    length: int
    start: int
    index: Tensor | None = None
    real: Tensor | None = None
    tokens: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """A packed micro-batch. T packed tokens, N predicted (completion) tokens."""

    token_ids: Tensor  # [T]
    positions: Tensor  # [T]
    segments: tuple[Segment, ...]
    cross: tuple[CrossBlock, ...]
    predictor: Tensor  # [N] index into T of the token each completion token is predicted from
    targets: Tensor  # [N]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[0]

    @property
    def max_position(self) -> int:
        return int(self.positions.max()) + 1

    @cached_property
    def causal(self) -> tuple[CausalBlock, ...]:
        return tuple(causal_blocks(self.segments, self.device))


def causal_blocks(segments: Sequence[Segment], device: torch.device) -> list[CausalBlock]:
    """Group segments of similar length into blocks."""
    buckets: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: (s.length, s.start)):
        if buckets and segment.length <= buckets[-1][0].length * BUCKET_RATIO + BUCKET_SLACK and len(buckets[-1]) >= 1:
            buckets[-1].append(segment)
        else:
            buckets.append([segment])
    return [one_block(sorted(bucket, key=lambda s: s.start), device) for bucket in buckets]


def one_block(bucket: list[Segment], device: torch.device) -> CausalBlock:
    length, first = max(s.length for s in bucket), bucket[0].start
    if all(s.length == length and s.start == first + i * length for i, s in enumerate(bucket)):
        return CausalBlock(len(bucket), length, first)
    starts = torch.tensor([s.start for s in bucket])[:, None]
    lengths = torch.tensor([s.length for s in bucket])[:, None]
    column = torch.arange(length)[None, :]
    index = (starts + torch.minimum(column, lengths - 1)).flatten()
    real = (column < lengths).flatten().nonzero().flatten()
    return CausalBlock(len(bucket), length, -1, index.to(device), real.to(device), index[real].to(device))


def build_layout(batch: MicroBatch, device: torch.device) -> Layout:
    """Lay out the samples of a micro-batch; N runs over its samples in order, group by group."""
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    for group in batch:
        prompt = group[0].prompt_ids
        segments.append(Segment(len(tokens), len(prompt)))
        tokens += prompt
        positions += range(len(prompt))
    cross: list[CrossBlock] = []
    predictor: list[int] = []
    targets: list[int] = []
    for group, prompt_segment in zip(batch, tuple(segments), strict=True):
        first_query = len(tokens)
        for sample in group:
            inputs = sample.completion_ids[:-1]
            predictor.append(prompt_segment.start + prompt_segment.length - 1)
            predictor += range(len(tokens), len(tokens) + len(inputs))
            targets += sample.completion_ids
            if inputs:
                segments.append(Segment(len(tokens), len(inputs)))
            tokens += inputs
            positions += range(prompt_segment.length, prompt_segment.length + len(inputs))
        if len(tokens) > first_query:
            cross.append(CrossBlock(first_query, len(tokens) - first_query, prompt_segment.start, prompt_segment.length))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Layout(tensor(tokens), tensor(positions), tuple(segments), tuple(cross), tensor(predictor), tensor(targets), device)


def document_layout(documents: Sequence[Sequence[int]], trained: Sequence[Sequence[int]], device: torch.device) -> Layout:
    """Texts that share nothing, side by side; `trained[d]` are the positions of text d to predict, each from the token before."""
    tokens = [token for document in documents for token in document]
    positions = [position for document in documents for position in range(len(document))]
    segments, predictor, targets, start = [], [], [], 0
    for document, wanted in zip(documents, trained, strict=True):
        segments.append(Segment(start, len(document)))
        predictor += [start + t - 1 for t in wanted]
        targets += [document[t] for t in wanted]
        start += len(document)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Layout(tensor(tokens), tensor(positions), tuple(segments), (), tensor(predictor), tensor(targets), device)


def take(x: Tensor, block: CausalBlock) -> Tensor:
    """The block's segments out of a packed [T, H, D] (or [T, H]) tensor, as [n, H, length, D] (or [n, H, length])."""
    if block.start >= 0:
        rows = x[block.start : block.start + block.n * block.length]
    else:
        assert block.index is not None
        rows = x.index_select(0, block.index)
    return rows.view(block.n, block.length, *x.shape[1:]).transpose(1, 2)


def put(target: Tensor, block: CausalBlock, value: Tensor) -> None:
    """Write [n, H, length, ...] back into the packed tensor; padding is dropped."""
    rows = value.transpose(1, 2)
    if block.start >= 0:
        target[block.start : block.start + block.n * block.length].view(rows.shape).copy_(rows)
    else:
        assert block.real is not None and block.tokens is not None
        target.index_copy_(0, block.tokens, rows.reshape(-1, *target.shape[1:]).index_select(0, block.real))


def rows_of(x: Tensor, start: int, length: int) -> Tensor:
    """Tokens [start, start + length) of a packed [T, H, D] tensor as [1, H, length, D]."""
    return x[start : start + length].transpose(0, 1)[None]
