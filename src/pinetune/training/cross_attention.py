"""Completions of a group over their prompt, in float32 on CPU: plain products per key head, a few thousand queries at a time.

There is no mask here, so it is two products forward and five backward; through oneDNN they run several times faster than the flash
kernel, whose inner products go to MKL. Scores exist for one chunk of queries only, small enough to stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pinetune.models.linear import fast_linear
from pinetune.training.layout import CrossBlock
from pinetune.training.projection import transposed_product

SCORE_BYTES = 4 * 2**20  # of one chunk's scores


def cross_forward(q: Tensor, k: Tensor, v: Tensor, block: CrossBlock, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of the block's queries over its keys alone: (out [M, A, D], lse [M, A]); q [T, A, D], k and v [T, K, D]."""
    repeats = q.shape[1] // k.shape[1]
    out = q.new_empty(block.num_queries, q.shape[1], q.shape[2])
    lse = q.new_empty(block.num_queries, q.shape[1])
    for head in range(k.shape[1]):
        keys, values = keys_of(k, v, block, head)
        for rows in query_chunks(block, repeats):
            queries, heads = q[block.query + rows.start : block.query + rows.stop], slice(head * repeats, (head + 1) * repeats)
            scores = fast_linear(flat(queries[:, heads]).mul_(scale), keys)
            shares = scores.softmax(-1)
            shape = (rows.stop - rows.start, repeats)
            lse[rows, heads] = (scores.amax(-1) - shares.amax(-1).log()).view(shape)
            out[rows, heads] = fast_linear(shares, values.t()).view(*shape, -1)
    return out, lse


def cross_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, block: CrossBlock, scale: float,
    grad_q: Tensor, grad_k: Tensor, grad_v: Tensor,
) -> None:  # fmt: skip
    """Add the block's share to the gradients; `out` and `lse` are those of the whole attention, which makes the share exact."""
    repeats = q.shape[1] // k.shape[1]
    for head in range(k.shape[1]):
        keys, values = keys_of(k, v, block, head)
        heads, sources = slice(head * repeats, (head + 1) * repeats), slice(block.key, block.key + block.num_keys)
        for rows in query_chunks(block, repeats):
            tokens = slice(block.query + rows.start, block.query + rows.stop)
            queries, grads = flat(q[tokens, heads]).mul_(scale), flat(grad[tokens, heads])
            shares = fast_linear(queries, keys).sub_(flat(lse[tokens, heads, None])).exp_()
            grad_v[sources, head] += transposed_product(shares, grads)
            # d score = share * (grad . v - grad . out)
            pull = (grads * flat(out[tokens, heads])).sum(-1, keepdim=True)
            grad_scores = fast_linear(grads, values).sub_(pull).mul_(shares)
            grad_q[tokens, heads].add_(fast_linear(grad_scores, keys.t()).view(-1, repeats, q.shape[2]), alpha=scale)
            grad_k[sources, head] += transposed_product(grad_scores, queries)


def keys_of(k: Tensor, v: Tensor, block: CrossBlock, head: int) -> tuple[Tensor, Tensor]:
    """Keys and values of one head, [P, D] each, dense."""
    rows = slice(block.key, block.key + block.num_keys)
    return k[rows, head].contiguous(), v[rows, head].contiguous()


def flat(x: Tensor) -> Tensor:
    """[m, r, D] -> a new dense [m * r, D]"""
    return torch.empty(x.shape, dtype=x.dtype).copy_(x).flatten(0, 1)


def query_chunks(block: CrossBlock, repeats: int) -> Iterator[slice]:
    size = max(64, SCORE_BYTES // (4 * block.num_keys * repeats))
    for start in range(0, block.num_queries, size):
        yield slice(start, min(start + size, block.num_queries))
