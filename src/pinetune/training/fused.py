"""The policy's forward pass as stacked blocks with hand-written backward (block.py), for the Llama family in float32 on CPU.

A `FusedDecoder` is built for one optimizer step: it stacks the weights as they are, collects gradients over the micro-batches, and
hands them to the parameters in `finish`. Equal to the Hugging Face modules up to rounding (tests).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pinetune.training.block import Block, BlockFunction, Norm, Rows
from pinetune.training.layout import Layout
from pinetune.training.projection import is_plain_linear

FAMILY = tuple(body + head for body in ("Llama", "Mistral", "Qwen2", "Qwen3") for head in ("ForCausalLM", "ForSequenceClassification"))
PROJECTIONS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)

# Stacking copies two thirds of the weights for the length of a step; above this size the memory is worth more than the time.
LARGEST_BYTES = 4 * 2**30


def can_fuse(lm: Any) -> bool:
    """Whether `lm` is of the family, float32 on CPU, with plain (or LoRA) linear layers and rotation of whole heads."""
    if type(lm).__name__ not in FAMILY or lm.config.hidden_act != "silu":
        return False
    if lm.device.type != "cpu" or lm.dtype != torch.float32:
        return False
    head_dim = getattr(lm.config, "head_dim", None) or lm.config.hidden_size // lm.config.num_attention_heads
    if 2 * lm.model.rotary_emb.inv_freq.numel() != head_dim or type(lm.model.embed_tokens) is not nn.Embedding:
        return False
    if sum(p.numel() * p.element_size() for p in lm.parameters()) > LARGEST_BYTES:
        return False
    return all(is_plain_linear(layer.get_submodule(name)) for layer in lm.model.layers for name in PROJECTIONS)


class FusedDecoder:
    """Hidden states of a packed micro-batch; see the module's docstring. `dtype` is that of the linear layers' products."""

    def __init__(self, lm: Any, dtype: torch.dtype = torch.float32) -> None:
        config = lm.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.embedding: nn.Parameter = lm.model.embed_tokens.weight
        self.rotary = lm.model.rotary_emb
        shape = (config.num_attention_heads, config.num_key_value_heads, head_dim)
        self.blocks = [Block(layer, *shape, dtype) for layer in lm.model.layers]
        self.norm = Norm(lm.model.norm)
        trains = any(p.requires_grad for p in lm.parameters())
        self.anchor = torch.zeros(1, requires_grad=trains)

    def hidden(self, layout: Layout) -> Tensor:
        """States that predict each of the layout's N targets. [N, H]"""
        wanted, place = layout.predictor.unique(return_inverse=True)
        x: Tensor = EmbeddingFunction.apply(self.embedding, layout.token_ids)
        rows = Rows(layout, self.rotation(layout.positions), None)
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            x = BlockFunction.apply(x, self.anchor, block, rows._replace(wanted=wanted) if last else rows)
        return NormFunction.apply(x, self.anchor, self.norm).index_select(0, place)

    def rotation(self, positions: Tensor) -> Tensor:
        """cos + i sin of each position's angles, [T, 1, D / 2]."""
        cos, sin = self.rotary(self.embedding, positions[None])
        half = cos.shape[-1] // 2
        return torch.complex(cos[0, :, None, :half], sin[0, :, None, :half])

    def finish(self) -> None:
        """Hand the gradients collected since the start to the parameters."""
        for block in self.blocks:
            block.finish()


class EmbeddingFunction(torch.autograd.Function):
    """Rows of the embedding; its gradient is added in place, where autograd would fill a [V, H] tensor per micro-batch."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.weight = weight
        ctx.save_for_backward(ids)
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        weight, (ids,) = ctx.weight, ctx.saved_tensors
        if weight.requires_grad:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad.index_add_(0, ids, grads[0])
        return None, None


class NormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, norm: Norm) -> Tensor:
        scale = norm.scale(x)
        ctx.norm = norm
        ctx.save_for_backward(x, scale)
        return norm.apply(x, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, scale = ctx.saved_tensors
        into = torch.zeros_like(x)
        ctx.norm.backward(grads[0].clone(), x, scale, into)
        return into, None, None
