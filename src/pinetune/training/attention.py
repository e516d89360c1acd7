"""Attention over a packed row: each prompt is read once, by all of its completions, and gets gradient from all of them.

Two kinds of blocks (see layout.py) are computed apart, by a flash kernel or by products (cross_attention.py), and merged through
their log-sum-exp: out = sum_b exp(lse_b - lse) out_b, lse = log sum_b exp(lse_b) (FlashAttention, arXiv 2205.14135, section 3.1;
the merge is that of ring attention, arXiv 2310.01889). There is no [T, T] mask and no score matrix is kept. Given the merged out
and lse, each block's own backward yields its exact share of the gradient, because it rebuilds probabilities as exp(score - lse).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pinetune.training.cross_attention import cross_backward, cross_forward
from pinetune.training.dense_attention import dense_attention
from pinetune.training.layout import CausalBlock, CrossBlock, Layout, put, rows_of, take

ATTENTION_NAME = "pinetune_packed"

# Fewer key than query heads (grouped-query attention) are handled by the kernel itself.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class PackedAttention(torch.autograd.Function):
    """q [T, H, D], k and v [T, K, D] -> [T, H, D] on CPU. Keeps q, k, v, out and lse [T, H] for backward, nothing of size T * T."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        out, lse = attend(q, k, v, layout, scale)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        saved = ctx.saved_tensors
        into = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in saved[:3]]
        q, k, v, out, lse = saved
        attend_backward(grads[0].contiguous(), q, k, v, out, lse, ctx.layout, ctx.scale, into[0], into[1], into[2])
        return into[0], into[1], into[2], None, None


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> tuple[Tensor, Tensor]:
    """(out [T, H, D], lse [T, H]) of q [T, H, D], k and v [T, K, D]; the last dimension of each lies densely."""
    out, lse = q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)
    for block in layout.causal:
        part, part_lse = _flash(take(q, block), take(k, block), take(v, block), 0.0, True, scale=scale)
        put(out, block, part)
        put(lse, block, part_lse)
    for cross in layout.cross:
        merge_cross(q, k, v, out, lse, cross, scale)
    return out, lse


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, scale: float,
    grad_q: Tensor, grad_k: Tensor, grad_v: Tensor,
) -> None:  # fmt: skip
    """Write the gradients of `attend` into grad_q, grad_k and grad_v, of the shapes of q, k and v."""
    for block in layout.causal:
        block_grad = take(grad, block) if block.real is None else without_padding(take(grad, block), block)
        operands = (take(x, block) for x in (q, k, v, out, lse))
        parts = _flash_backward(block_grad, *operands, 0.0, True, scale=scale)
        for target, part in zip((grad_q, grad_k, grad_v), parts, strict=True):
            put(target, block, part)
    for cross in layout.cross:
        if q.dtype == torch.float32:
            cross_backward(grad, q, k, v, out, lse, cross, scale, grad_q, grad_k, grad_v)
        else:
            flash_cross_backward(grad, q, k, v, out, lse, cross, scale, grad_q, grad_k, grad_v)


def flash_cross_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cross: CrossBlock, scale: float,
    grad_q: Tensor, grad_k: Tensor, grad_v: Tensor,
) -> None:  # fmt: skip
    """`cross_backward` by the flash kernel, which keeps float32 sums of bfloat16 products."""
    queries, keys = (cross.query, cross.num_queries), (cross.key, cross.num_keys)
    operands = (rows_of(q, *queries), rows_of(k, *keys), rows_of(v, *keys), rows_of(out, *queries))
    whole_lse = lse[cross.query : cross.query + cross.num_queries].t()[None]
    parts = _flash_backward(rows_of(grad, *queries), *operands, whole_lse, 0.0, False, scale=scale)
    for target, rows, part in zip((grad_q, grad_k, grad_v), (queries, keys, keys), parts, strict=True):
        rows_of(target, *rows).add_(part)


def cross_part(q: Tensor, k: Tensor, v: Tensor, cross: CrossBlock, scale: float) -> tuple[Tensor, Tensor]:
    """What the completions of a group get from their prompt: (out [M, A, D], lse [M, A])."""
    if q.dtype == torch.float32:
        return cross_forward(q, k, v, cross, scale)
    keys = (cross.key, cross.num_keys)
    part, lse = _flash(rows_of(q, cross.query, cross.num_queries), rows_of(k, *keys), rows_of(v, *keys), 0.0, False, scale=scale)
    return part[0].transpose(0, 1), lse[0].t()


def merge_cross(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cross: CrossBlock, scale: float) -> None:
    """Add the prompt's keys to what a group's completions already attended to, in place."""
    part, part_lse = cross_part(q, k, v, cross, scale)
    own = out[cross.query : cross.query + cross.num_queries]
    own_lse = lse[cross.query : cross.query + cross.num_queries]
    # sigmoid(b - a) is the share exp(b) / (exp(a) + exp(b)) without overflow
    share = torch.sigmoid(part_lse - own_lse)
    own.lerp_(part, share[:, :, None].to(own.dtype).expand_as(own))
    torch.logaddexp(own_lse, part_lse, out=own_lse)


def without_padding(grad: Tensor, block: CausalBlock) -> Tensor:
    """Zero the gradient of padded queries of a gathered block [n, H, length, D]."""
    assert block.real is not None
    keep = torch.zeros(block.n * block.length, dtype=grad.dtype, device=grad.device)
    keep[block.real] = 1
    return grad * keep.view(block.n, 1, block.length, 1)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """q [T, H, D], k and v [T, K, D], K dividing H -> [T, H, D]."""
    dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype) if not torch.is_autocast_enabled(q.device.type) else v.dtype
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if q.device.type == "cpu":
        return PackedAttention.apply(q, k, v, layout, scale)
    return dense_attention(q, k, v, layout, scale)


def attention_interface(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, layout: Layout, **kwargs: Any
) -> tuple[Tensor, None]:
    """`packed_attention` in the shape transformers' AttentionInterface calls: query [1, H, T, D] -> [1, T, H, D]."""
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return packed_attention(q, k, v, layout, scale)[None], None


def register() -> None:
    """Make `ATTENTION_NAME` known to transformers; the mask function returns None, the layout says it all."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, attention_interface)
    AttentionMaskInterface.register(ATTENTION_NAME, lambda *args, **kwargs: None)


__all__ = ["ATTENTION_NAME", "PackedAttention", "attention_interface", "packed_attention", "register"]
