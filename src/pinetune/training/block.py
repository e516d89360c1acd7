"""One decoder block of the Llama family (Llama, Mistral, Qwen2, Qwen3) with its backward written out.

What autograd would do in about 60 kernels a block takes about 25 here: stacked products, norms and rotations in place, no float32
copies of float32. Within a head the two numbers that rotate together lie side by side, so a rotation is one complex product. Kept for
backward: the block's input, queries, keys and values before and after rotation, attention output, gate and up; the rest is cheap to
compute again.

Shapes: T packed tokens, R <= T tokens whose output is wanted (the last block's), H width, A query and K key heads of D.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pinetune.training.attention import attend, attend_backward
from pinetune.training.layout import Layout
from pinetune.training.projection import Projection, add_gradient


class Rows(NamedTuple):
    """What all blocks share in one forward pass."""

    layout: Layout
    rotation: Tensor  # [T, 1, D / 2] complex: cos + i sin
    wanted: Tensor | None  # [R] rows the last block has to give; None = all


def paired_order(heads: int, head_dim: int, device: torch.device) -> Tensor:
    """Output order of a projection to `heads` heads: (0 .. D-1) becomes (0, D/2, 1, D/2 + 1, ...) within each head. [heads * D]"""
    within = torch.arange(head_dim, device=device).view(2, -1).t().flatten()
    return (torch.arange(heads, device=device)[:, None] * head_dim + within).flatten()


class Norm:
    """RMSNorm over the last dimension: y = x / rms(x) * weight."""

    def __init__(self, module: Any) -> None:
        self.parameter: nn.Parameter = module.weight
        self.weight = module.weight.detach()
        self.eps = float(module.variance_epsilon)

    def scale(self, x: Tensor) -> Tensor:
        """1 / rms(x), [T, 1]"""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return norm.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()

    def apply(self, x: Tensor, scale: Tensor) -> Tensor:
        return (x * scale).mul_(self.weight)

    def backward(self, grad: Tensor, x: Tensor, scale: Tensor, into: Tensor) -> None:
        """Add the gradient of x to `into`; overwrites `grad`. All [T, H]."""
        product = grad * x
        if self.parameter.requires_grad:
            add_gradient(self.parameter, torch.mv(product.t(), scale[:, 0]))
        # d x = scale * (g w) - x * scale^3 / H * sum(g w x)
        pull = torch.mv(product, self.weight)[:, None].mul_(scale.pow(3)).div_(-x.shape[-1])
        into.addcmul_(grad.mul_(self.weight), scale)
        into.addcmul_(x, pull)


class HeadNorm:
    """Qwen3's RMSNorm over each query and key head, weights in paired order. x [T, A + K, D]"""

    def __init__(self, attention: Any, heads: int, kv_heads: int, head_dim: int) -> None:
        self.norms = (attention.q_norm, attention.k_norm)
        self.sizes = (heads, kv_heads)
        self.order = paired_order(1, head_dim, attention.q_norm.weight.device)
        weights = [norm.weight.detach().index_select(0, self.order).expand(n, -1) for norm, n in zip(self.norms, self.sizes, strict=True)]
        self.weight = torch.cat(weights)  # [A + K, D]
        self.eps = float(attention.q_norm.variance_epsilon)

    def scale(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return norm.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()

    def apply(self, x: Tensor, scale: Tensor) -> Tensor:
        return (x * scale).mul_(self.weight)

    def backward(self, grad: Tensor, x: Tensor, scale: Tensor, into: Tensor) -> None:
        """Write the gradient of x to `into`; overwrites `grad`."""
        product = grad * x
        if any(norm.weight.requires_grad for norm in self.norms):
            sums = torch.mul(product, scale).sum(0)
            for norm, part in zip(self.norms, sums.split(self.sizes), strict=True):
                if norm.weight.requires_grad:
                    add_gradient(norm.weight, torch.empty_like(norm.weight).index_copy_(0, self.order, part.sum(0)))
        pull = product.mul_(self.weight).sum(-1, keepdim=True).mul_(scale.pow(3)).div_(-x.shape[-1])
        torch.mul(grad.mul_(self.weight), scale, out=into)
        into.addcmul_(x, pull)


class Block:
    """A decoder layer's weights, stacked for one step (weights must not change meanwhile)."""

    def __init__(self, layer: Any, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.scaling = float(attention.scaling)
        rotated = paired_order(heads + kv_heads, head_dim, layer.input_layernorm.weight.device)
        plain = torch.arange(kv_heads * head_dim, device=rotated.device) + rotated.shape[0]
        self.qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj], torch.cat([rotated, plain]), dtype)
        self.output = Projection([attention.o_proj], None, dtype)
        self.gate_up = Projection([mlp.gate_proj, mlp.up_proj], None, dtype)
        self.down = Projection([mlp.down_proj], None, dtype)
        self.attention_norm, self.mlp_norm = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        self.head_norm = HeadNorm(attention, heads, kv_heads, head_dim) if hasattr(attention, "q_norm") else None

    def finish(self) -> None:
        for projection in (self.qkv, self.output, self.gate_up, self.down):
            projection.finish()

    def forward(self, x: Tensor, rows: Rows) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x [T, H] -> (output [R, H], what backward needs)."""
        x_scale = self.attention_norm.scale(x)
        qkv = self.qkv(self.attention_norm.apply(x, x_scale))
        qkv = qkv.view(x.shape[0], -1, self.head_dim)
        qk, v = qkv[:, : self.heads + self.kv_heads], qkv[:, self.heads + self.kv_heads :]
        head_scale = self.head_norm.scale(qk) if self.head_norm else x_scale
        turned = rotate(self.head_norm.apply(qk, head_scale) if self.head_norm else qk, rows.rotation)
        attended, lse = attend(turned[:, : self.heads], turned[:, self.heads :], v, rows.layout, self.scaling)
        kept, rest = attended.flatten(1), x
        if rows.wanted is not None:
            kept, rest = kept.index_select(0, rows.wanted), x.index_select(0, rows.wanted)
        middle = self.output(kept).add_(rest)
        middle_scale = self.mlp_norm.scale(middle)
        gate_up = self.gate_up(self.mlp_norm.apply(middle, middle_scale))
        gate, up = gate_up.chunk(2, dim=-1)
        y = self.down(F.silu(gate).mul_(up)).add_(middle)
        return y, (x, x_scale, qkv, head_scale, turned, attended, lse, middle, middle_scale, gate_up)

    def backward(self, grad: Tensor, saved: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """grad of the output [R, H] -> that of x [T, H]; collects the weights' gradients."""
        x, x_scale, qkv, head_scale, turned, attended, lse, middle, middle_scale, gate_up = saved
        grad_middle = self._mlp_backward(grad, middle, middle_scale, gate_up)
        kept = attended.flatten(1) if rows.wanted is None else attended.flatten(1).index_select(0, rows.wanted)
        grad_attended = self.output.backward(grad_middle, kept)
        if rows.wanted is not None:
            grad_attended, grad_middle = (
                g.new_zeros(x.shape[0], g.shape[1]).index_copy_(0, rows.wanted, g) for g in (grad_attended, grad_middle)
            )
        split = self.heads + self.kv_heads
        grad_turned, grad_qkv = torch.empty_like(turned), torch.empty_like(qkv)
        attend_backward(
            grad_attended.view_as(attended), turned[:, : self.heads], turned[:, self.heads :], qkv[:, split:], attended, lse,
            rows.layout, self.scaling, grad_turned[:, : self.heads], grad_turned[:, self.heads :], grad_qkv[:, split:],
        )  # fmt: skip
        if self.head_norm:
            self.head_norm.backward(rotate(grad_turned, rows.rotation.conj()), qkv[:, :split], head_scale, grad_qkv[:, :split])
        else:
            grad_qkv[:, :split] = rotate(grad_turned, rows.rotation.conj())
        grad_normed = self.qkv.backward(grad_qkv.flatten(1), self.attention_norm.apply(x, x_scale))
        self.attention_norm.backward(grad_normed, x, x_scale, grad_middle)
        return grad_middle

    def _mlp_backward(self, grad: Tensor, middle: Tensor, scale: Tensor, gate_up: Tensor) -> Tensor:
        """grad of the block's output -> that of the stream between attention and MLP (both [R, H])."""
        gate, up = gate_up.chunk(2, dim=-1)
        gated = F.silu(gate)
        grad_product = self.down.backward(grad, gated * up)
        grad_gate_up = torch.empty_like(gate_up)
        grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
        torch.mul(grad_product, gated, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad_product.mul_(up), gate, grad_input=grad_gate)
        grad_normed = self.gate_up.backward(grad_gate_up, self.mlp_norm.apply(middle, scale))
        grad_middle = grad.clone()
        self.mlp_norm.backward(grad_normed, middle, scale, grad_middle)
        return grad_middle


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of x [T, heads, D] by its angle; a new dense tensor."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2)


class BlockFunction(torch.autograd.Function):
    """A block as one autograd node. `anchor` only makes the result require a gradient when x does not (frozen embeddings)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, block: Block, rows: Rows) -> Tensor:
        y, saved = block.forward(x, rows)
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(*saved)
        ctx.block, ctx.rows = block, rows
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.block.backward(grads[0].contiguous(), ctx.saved_tensors, ctx.rows), None, None, None
