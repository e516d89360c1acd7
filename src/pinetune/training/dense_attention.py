"""Packed attention with plain differentiable operations: for devices other than the CPU, and the reference in tests.

Scores of a group's completions over their prompt, [H, queries, prompt], exist for one layer and group at a time; those of the whole
packed row never do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pinetune.training.layout import CausalBlock, Layout, rows_of, take


def repeat_heads(x: Tensor, repeats: int) -> Tensor:
    """[B, K, L, D] -> [B, K * repeats, L, D]"""
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


def dense_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """The same with plain differentiable operations, for devices other than the CPU and as the reference in tests.

    Scores of a group's completions over their prompt, [H, queries, prompt], are materialised; causal blocks go through SDPA's
    score form as well because SDPA does not return its log-sum-exp.
    """
    repeats = q.shape[1] // k.shape[1]
    out, lse = torch.zeros_like(q), torch.zeros(q.shape[:2], dtype=torch.float32, device=q.device)
    for block in layout.causal:
        scores = (take(q, block) @ repeat_heads(take(k, block), repeats).transpose(2, 3)).float() * scale
        future = torch.ones(block.length, block.length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
        part = scores.softmax(-1).to(v.dtype) @ repeat_heads(take(v, block), repeats)
        out, lse = place(out, block, part), place(lse, block, scores.logsumexp(-1))
    for cross in layout.cross:
        queries = slice(cross.query, cross.query + cross.num_queries)
        keys = repeat_heads(rows_of(k, cross.key, cross.num_keys), repeats)
        values = repeat_heads(rows_of(v, cross.key, cross.num_keys), repeats)
        scores = (rows_of(q, cross.query, cross.num_queries) @ keys.transpose(2, 3)).float() * scale
        part = (scores.softmax(-1).to(v.dtype) @ values)[0].transpose(0, 1)
        share = torch.sigmoid(scores.logsumexp(-1)[0].t() - lse[queries])[:, :, None].to(part.dtype)
        merged = out[queries] * (1 - share) + part * share
        out = torch.cat([out[: cross.query], merged, out[cross.query + cross.num_queries :]])
    return out


def place(target: Tensor, block: CausalBlock, value: Tensor) -> Tensor:
    """`put` for autograd: returns a new packed tensor."""
    rows = value.transpose(1, 2)
    flat = rows.reshape(-1, *target.shape[1:])
    if block.start >= 0:
        tokens = torch.arange(block.start, block.start + block.n * block.length, device=target.device)
        return target.index_copy(0, tokens, flat)
    assert block.real is not None and block.tokens is not None
    return target.index_copy(0, block.tokens, flat.index_select(0, block.real))
