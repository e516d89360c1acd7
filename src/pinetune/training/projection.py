"""Linear layers with their backward by hand, for the fused decoder blocks (block.py).

Layers that share an input are stacked into one product. Weight gradients are collected over the micro-batches of a step and handed to
the parameters' `.grad` once, in `finish`. LoRA adapters (peft) are two more, thin products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from pinetune.models.linear import fast_linear, is_fast


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """a.T @ b without copies: a [T, m], b [T, n] -> [m, n], of their type (float32 or bfloat16)."""
    if is_fast(a, b) and a.shape[0]:
        return torch.ops.mkldnn._linear_pointwise(a.t(), b.t(), None, "none", [], "")
    return a.t() @ b


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Add to `.grad`, taking the tensor over when there is none yet."""
    if parameter.grad is None:
        parameter.grad = gradient.to(parameter.dtype).contiguous()
    else:
        parameter.grad += gradient


@dataclass(frozen=True, slots=True)
class Adapter:
    """One layer's LoRA: y[:, outputs] += scale * x A^T B^T."""

    a: nn.Parameter  # [r, in]
    b: nn.Parameter  # [out, r]
    scale: float
    outputs: slice


def is_plain_linear(module: Any) -> bool:
    """A linear layer, bare or with ordinary LoRA adapters that are not merged."""
    base = getattr(module, "base_layer", module)
    if not isinstance(base, nn.Linear) or base.weight.dtype != torch.float32:
        return False
    if base is module:
        return True
    variants = getattr(module, "lora_variant", None) or getattr(module, "lora_magnitude_vector", None)
    dropouts = [d for d in getattr(module, "lora_dropout", {}).values() if not isinstance(d, nn.Identity) and getattr(d, "p", 0) > 0]
    return (
        hasattr(module, "lora_A")
        and not variants
        and not dropouts
        and not module.merged
        and not any(getattr(module, "lora_bias", {}).values())
    )


class Projection:
    """Several linear layers of one input as one: x [T, in] -> [T, sum of outs].

    `order` reorders the stacked outputs: output i is row order[i] of the stack. Gradients go back to where they belong.
    With `dtype` bfloat16 the large products are taken in it; inputs, outputs and collected gradients stay float32.
    """

    def __init__(self, modules: Sequence[Any], order: Tensor | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.layers = [getattr(module, "base_layer", module) for module in modules]
        self.adapters = _adapters(modules)
        self.order = order
        weights = [layer.weight.detach() for layer in self.layers]
        self.weight = self._ordered(weights[0] if len(weights) == 1 else torch.cat(weights)).to(dtype)
        bias = self._ordered(_stacked_bias(self.layers))
        self.bias: Tensor | None = None if bias is None else bias.to(dtype)
        self.trains = any(layer.weight.requires_grad for layer in self.layers)
        self._gradient: Tensor | None = None  # [in, sum of outs]
        self._bias_gradient: Tensor | None = None
        # LoRA's B^T as [r, outs], rows in the order of the stack
        self._ups = [self._ordered(self._spread(adapter)) for adapter in self.adapters]
        self._up_gradients: list[Tensor | None] = [None for _ in self.adapters]

    def _ordered(self, x: Any) -> Any:
        return x if x is None or self.order is None else x.index_select(0, self.order)

    def _restored(self, x: Tensor) -> Tensor:
        return x if self.order is None else torch.empty_like(x).index_copy_(0, self.order, x)

    def _spread(self, adapter: Adapter) -> Tensor:
        """B of one layer as rows of the whole stack, times its scale. [outs, r]"""
        if len(self.layers) == 1:
            return adapter.b.detach() * adapter.scale
        full = adapter.b.new_zeros(self.weight.shape[0], adapter.b.shape[1])
        full[adapter.outputs] = adapter.b.detach() * adapter.scale
        return full

    def __call__(self, x: Tensor) -> Tensor:
        y = fast_linear(x.to(self.dtype), self.weight, self.bias).float()
        for adapter, up in zip(self.adapters, self._ups, strict=True):
            y.addmm_(x @ adapter.a.detach().t(), up.t())
        return y

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        """Collect the weights' gradients; return that of x. grad [T, outs], x [T, in]"""
        coarse = grad.to(self.dtype)
        if self.trains:
            gradient = transposed_product(x.to(self.dtype), coarse).float()
            self._gradient = gradient if self._gradient is None else self._gradient.add_(gradient)
            if self.bias is not None:
                sums = grad.sum(0)
                self._bias_gradient = sums if self._bias_gradient is None else self._bias_gradient.add_(sums)
        grad_x = fast_linear(coarse, self.weight.t()).float()
        for i, (adapter, up) in enumerate(zip(self.adapters, self._ups, strict=True)):
            down, grad_down = x @ adapter.a.detach().t(), grad @ up
            gradient = grad.t() @ down
            collected = self._up_gradients[i]
            self._up_gradients[i] = gradient if collected is None else collected.add_(gradient)
            if adapter.a.requires_grad:
                add_gradient(adapter.a, grad_down.t() @ x)
            grad_x.addmm_(grad_down, adapter.a.detach())
        return grad_x

    def finish(self) -> None:
        """Hand the collected gradients to the parameters and forget them."""
        rows = self._rows()
        if self._gradient is not None:
            gradient = self._restored(self._gradient.t())
            for layer, part in zip(self.layers, rows, strict=True):
                if layer.weight.requires_grad:
                    add_gradient(layer.weight, gradient[part])
        if self._bias_gradient is not None:
            gradient = self._restored(self._bias_gradient)
            for layer, part in zip(self.layers, rows, strict=True):
                if layer.bias is not None and layer.bias.requires_grad:
                    add_gradient(layer.bias, gradient[part])
        for adapter, up_gradient in zip(self.adapters, self._up_gradients, strict=True):
            if up_gradient is not None and adapter.b.requires_grad:
                add_gradient(adapter.b, self._restored(up_gradient)[adapter.outputs] * adapter.scale)
        self._gradient = self._bias_gradient = None
        self._up_gradients = [None for _ in self.adapters]

    def _rows(self) -> list[slice]:
        """Which rows of the stack belong to each layer."""
        ends = list(accumulate(layer.weight.shape[0] for layer in self.layers))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _stacked_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat([layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.detach() for layer in layers])


def _adapters(modules: Sequence[Any]) -> list[Adapter]:
    """The active LoRA adapters of each layer, with the rows of the stack they act on."""
    found, start = [], 0
    for module in modules:
        stop = start + getattr(module, "base_layer", module).weight.shape[0]
        if hasattr(module, "lora_A") and not module.disable_adapters:
            for name in module.active_adapters:
                if name in module.lora_A:
                    a, b = module.lora_A[name].weight, module.lora_B[name].weight
                    found.append(Adapter(a, b, float(module.scaling[name]), slice(start, stop)))
        start = stop
    return found
