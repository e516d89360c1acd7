"""A weight matrix ready for many small products: packed once for oneDNN on CPU, with what follows the product fused in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pinetune.models.linear import ONEDNN


class Matrix:
    """x @ weight.T + bias for x [rows, in], weight [out, in]. `packed` copies the weight into oneDNN's own layout."""

    __slots__ = ("_bias", "_fused", "_weight")

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], *, packed: bool) -> None:
        """Several weights with the same input become one, stacked along their outputs."""
        weight = weights[0] if len(weights) == 1 else torch.cat(list(weights))
        self._bias = _stack(weights, biases)
        self._fused = ONEDNN and weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._fused and packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self._fused:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return functional.linear(x, self._weight, self._bias)

    def silu(self, x: Tensor) -> Tensor:
        """silu(product)"""
        if self._fused:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")
        return functional.silu(functional.linear(x, self._weight, self._bias))

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """product * other"""
        if self._fused:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "mul")
        return functional.linear(x, self._weight, self._bias) * other

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """product + other"""
        if self._fused:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "add")
        return functional.linear(x, self._weight, self._bias) + other


def _stack(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor | None:
    if all(bias is None for bias in biases):
        return None
    return torch.cat([weight.new_zeros(weight.shape[0]) if bias is None else bias for weight, bias in zip(weights, biases, strict=True)])
