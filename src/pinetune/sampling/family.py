"""The Llama family as plain matrices: which models the fused decoder can run, and their weights taken from the modules.

Llama, Qwen2, Qwen3 and Mistral differ only in biases, query-key norms and the scaling of rotary frequencies; what
lies outside (sliding windows, frequencies that change with the length, quantised layers) goes to the generic decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pinetune.models.memory import machine_bytes
from pinetune.sampling.matrix import Matrix

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # their inverse frequencies do not depend on the length
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
# Packing copies the weights, which makes products of few rows up to three times faster (M = 4 of 1024 x 3072: 0.23 ms
# against 0.59). Above a sixth of the machine's memory it is not done; then the matrices that need no stacking are the
# module's own, and change with it and not on refresh only.
PACK_BYTES = machine_bytes() // 6


@dataclass(frozen=True, slots=True)
class Shape:
    """What the decoder must know of the architecture."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    device: torch.device
    dtype: torch.dtype

    @property
    def repeat(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer block."""

    attention_norm: Tensor
    qkv: Matrix
    qk_norm: Tensor | None  # [heads + kv_heads, head_dim], or None
    output: Matrix
    mlp_norm: Tensor
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True)
class Weights:
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Matrix
    inv_freq: Tensor  # [head_dim / 2]
    rope_scale: float


def why_not(model: PreTrainedModel) -> str:
    """Why the fused decoder cannot run this model; "" when it can."""
    name, config = type(model).__name__, model.config
    if name not in ARCHITECTURES:
        return f"{name} is not of the Llama family"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return "not every layer has full attention"
    if name == "MistralForCausalLM" and config.sliding_window is not None:
        return "sliding-window attention"
    rope = model.model.rotary_emb
    if rope.rope_type not in STATIC_ROPE or 2 * rope.inv_freq.numel() != _head_dim(config):
        return f"rotary embedding of type {rope.rope_type}"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    linears = [module.get_submodule(name) for module in model.model.layers for name in (*PROJECTIONS, *MLP)]
    if not all(_is_plain(module) for module in [*linears, model.lm_head]):
        return "quantised or unusual linear layers"
    return ""


def shape_of(model: PreTrainedModel) -> Shape:
    config = model.config
    return Shape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=_head_dim(config),
        eps=config.rms_norm_eps,
        device=model.device,
        dtype=model.dtype,
    )


def take_weights(model: PreTrainedModel, dtype: torch.dtype) -> Weights:
    """The model's present weights, LoRA merged in, as `dtype`."""
    size = sum(parameter.numel() * dtype.itemsize for parameter in model.parameters())
    packed = size <= PACK_BYTES
    layers = tuple(_take_layer(layer, shape_of(model), dtype, packed) for layer in model.model.layers)
    rope = model.model.rotary_emb
    return Weights(
        embedding=_weight(model.get_input_embeddings(), dtype, packed),
        layers=layers,
        norm=_weight(model.model.norm, dtype, packed),
        head=_matrix([_merged(model.lm_head)], dtype, packed),
        inv_freq=rope.inv_freq.detach().float(),
        rope_scale=float(rope.attention_scaling),
    )


def _take_layer(layer: nn.Module, shape: Shape, dtype: torch.dtype, packed: bool) -> Layer:
    attention: Any = layer.get_submodule("self_attn")
    mlp: Any = layer.get_submodule("mlp")
    qkv, qk_norm = _take_qkv(attention, shape, dtype, packed)
    return Layer(
        attention_norm=_weight(layer.get_submodule("input_layernorm"), dtype, packed),
        qkv=qkv,
        qk_norm=qk_norm,
        output=_matrix([_merged(attention.o_proj)], dtype, packed),
        mlp_norm=_weight(layer.get_submodule("post_attention_layernorm"), dtype, packed),
        gate=_matrix([_merged(mlp.gate_proj)], dtype, packed),
        up=_matrix([_merged(mlp.up_proj)], dtype, packed),
        down=_matrix([_merged(mlp.down_proj)], dtype, packed),
    )


def _take_qkv(attention: Any, shape: Shape, dtype: torch.dtype, packed: bool) -> tuple[Matrix, Tensor | None]:
    """The stacked projection and the query-key norm, made so that attention needs no further work on its inputs:
    the softmax scale is in the queries, and the two numbers that rotate together lie next to each other."""
    scale = attention.scaling
    (q, q_bias), (k, k_bias), v = (_merged(module) for module in (attention.q_proj, attention.k_proj, attention.v_proj))
    norm = None
    if hasattr(attention, "q_norm"):
        q_norm, k_norm = (_paired(w.detach(), 1).to(dtype) for w in (attention.q_norm.weight, attention.k_norm.weight))
        norm = torch.cat(((q_norm * scale).expand(shape.heads, -1), k_norm.expand(shape.kv_heads, -1)))
        scale = 1.0
    q, k = _paired(q, shape.heads) * scale, _paired(k, shape.kv_heads)
    q_bias = None if q_bias is None else _paired(q_bias, shape.heads) * scale
    k_bias = None if k_bias is None else _paired(k_bias, shape.kv_heads)
    return _matrix([(q, q_bias), (k, k_bias), v], dtype, packed), norm


def _paired(weight: Tensor, heads: int) -> Tensor:
    """Reorder each head's outputs [heads * D, ...] from (0 .. D-1) to (0, D/2, 1, D/2 + 1, ...)."""
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _weight(module: Any, dtype: torch.dtype, copy: bool) -> Tensor:
    weight: Tensor = module.weight.detach().to(dtype, copy=copy)
    return weight


def _matrix(parts: list[tuple[Tensor, Tensor | None]], dtype: torch.dtype, packed: bool) -> Matrix:
    weights = [weight.to(dtype) for weight, _ in parts]
    return Matrix(weights, [None if bias is None else bias.to(dtype) for _, bias in parts], packed=packed)


def _merged(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer; a peft LoRA layer gives its base plus the active adapters."""
    base = getattr(module, "base_layer", module)
    weight = base.weight.detach()
    if base is not module and not module.disable_adapters and not module.merged:
        for adapter in module.active_adapters:
            if adapter in module.lora_A:
                weight = weight + module.get_delta_weight(adapter).detach().to(weight.dtype)
    return weight, None if base.bias is None else base.bias.detach()


def _is_plain(module: Any) -> bool:
    base = getattr(module, "base_layer", module)
    has_dora = bool(getattr(module, "lora_magnitude_vector", None))
    return isinstance(base, nn.Linear) and base.weight.is_floating_point() and not has_dora


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
