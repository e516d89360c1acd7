"""Faster float32 matrix products on CPU: linear layers through oneDNN in place of torch's default (MKL).

torch 2.11-2.13 sends float32 products to MKL, which keeps to AVX2 on AMD processors. oneDNN, in the same wheel, uses
AVX-512 there: on two Zen cores it reached 430-500 GFLOP/s where MKL reached 200, forward and backward, at the same
precision. Everywhere else (CUDA, bf16, processors without AVX-512) the layers do what nn.Linear does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _onednn_present() -> bool:
    # The operators are the ones torch.compile emits for CPU; they have no public name, hence the check.
    has_operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and has_operator and torch.backends.cpu.get_cpu_capability() == "AVX512"


ONEDNN = _onednn_present()


def is_fast(*tensors: Tensor) -> bool:
    """Whether `fast_linear` takes the oneDNN way for these operands."""
    return ONEDNN and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, differentiable; x [..., in], weight [out, in], bias [out]."""
    if not is_fast(x, weight) or torch.is_autocast_enabled("cpu") or x.numel() == 0:  # oneDNN refuses empty operands
        return functional.linear(x, weight, bias)
    x = x.contiguous()  # odd strides (an expanded tensor) send oneDNN to its reference code, a thousand times slower
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        output: Tensor = _OneDnnLinear.apply(x, weight, bias)
        return output
    return _product(x, weight, bias)


class FastLinear(nn.Linear):
    """nn.Linear through `fast_linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return fast_linear(input, self.weight, self.bias)


def use_fast_linear(model: nn.Module) -> None:
    """Turn the model's plain linear layers into FastLinear, in place; parameters and their names stay as they are."""
    if ONEDNN:
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = FastLinear


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1]).contiguous()
        grad_x = _product(rows, weight.t()).view(x.shape) if need_x else None
        # As x.T @ grad, transposed afterwards: twice as fast in oneDNN as grad.T @ x (203 against 121 GFLOP/s).
        grad_weight = _product(x.reshape(-1, x.shape[-1]).t(), rows.t()).t() if need_weight else None
        return grad_x, grad_weight, rows.sum(0) if need_bias else None
