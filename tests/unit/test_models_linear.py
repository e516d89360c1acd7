"""Linear layers through oneDNN give what nn.Linear gives, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pinetune.models.linear import FastLinear, use_fast_linear


def both(bias: bool) -> tuple[nn.Linear, FastLinear]:
    torch.manual_seed(0)
    plain, fast = nn.Linear(40, 56, bias=bias), FastLinear(40, 56, bias=bias)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (5, 40), (3, 7, 40), (0, 40)])
def test_same_values_and_gradients(bias: bool, shape: tuple[int, ...]) -> None:
    plain, fast = both(bias)
    x = torch.randn(shape, requires_grad=True)
    x_fast = x.detach().clone().requires_grad_()
    expected, got = plain(x), fast(x_fast)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(x_fast.grad, x.grad, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_an_expanded_gradient_is_right() -> None:
    plain, fast = both(bias=True)
    x = torch.randn(9, 40)
    plain(x).sum().backward()
    fast(x).sum().backward()  # the gradient of a sum is one number with strides 0
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad, rtol=1e-5, atol=1e-5)


def test_frozen_weights_pass_the_gradient_on() -> None:
    _, fast = both(bias=False)
    fast.weight.requires_grad_(False)
    x = torch.randn(4, 40, requires_grad=True)
    fast(x).square().sum().backward()
    assert fast.weight.grad is None
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)


def test_bfloat16_takes_torchs_own_way() -> None:
    plain, fast = both(bias=True)
    x = torch.randn(4, 40, dtype=torch.bfloat16)
    assert torch.equal(plain.bfloat16()(x), fast.bfloat16()(x))


def test_only_plain_linear_layers_are_turned() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2))
    names = [name for name, _ in model.named_parameters()]
    use_fast_linear(model)
    assert type(model[1]) is Own
    assert [name for name, _ in model.named_parameters()] == names
