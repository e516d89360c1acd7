"""Each loss and its gradient on four tokens, worked out by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from pinetune.training.losses import LOSSES, LossInputs, LossSettings, Metrics, k3_penalty, loss_inputs
from tests.training_samples import random_samples

RATIOS = (1.5, 0.5, 1.1, 3.0)  # learner / sampler probability of each token
ADVANTAGES = (1.0, -1.0, 2.0, 1.0)
MASK = (1.0, 1.0, 1.0, 0.0)
DENOMINATOR = 10.0


def run(name: str, settings: LossSettings | None = None, ratios: tuple[float, ...] = RATIOS) -> tuple[float, list[float], Metrics]:
    logprobs = torch.tensor([-1.0 + log(r) for r in ratios], requires_grad=True)
    inputs = LossInputs(torch.full((4,), -1.0), torch.tensor(ADVANTAGES), torch.tensor(MASK), torch.tensor([0, 0, 1, 1]))
    loss, metrics = LOSSES[name](logprobs, inputs, DENOMINATOR, settings or LossSettings())
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return loss.item(), gradient.tolist(), metrics


def near(values: list[float]) -> object:
    return pytest.approx(values, abs=1e-6)


def test_clipped_surrogate() -> None:
    loss, gradient, metrics = run("grpo")
    # token 0 rose past 1.28 and is good: clipped, no gradient; token 1 fell past 0.8 and is bad: clipped; token 2 is free
    assert loss == pytest.approx(-(1.28 - 0.8 + 2.2) / 10)
    assert gradient == near([0, 0, -2 * 1.1 / 10, 0])
    assert metrics["clip_fraction"].item() == pytest.approx(0.2)
    assert metrics["ratio_max"].item() == pytest.approx(1.5)
    assert metrics["logprob_gap_max"].item() == pytest.approx(log(2))


def test_clipping_holds_back_only_what_went_far_enough() -> None:
    _, gradient, _ = run("grpo", ratios=(0.5, 1.5, 1.0, 1.0))  # a good token that fell, a bad one that rose: full gradient
    assert gradient == near([-0.05, 0.15, -0.2, 0])


def test_truncated_importance_sampling() -> None:
    loss, gradient, metrics = run("importance_sampling", LossSettings(importance_cap=1.2))
    weights = (1.2, 0.5, 1.1)
    assert gradient == near([-1.2 / 10, 0.5 / 10, -2.2 / 10, 0])
    assert loss == pytest.approx(-sum(w * a * (-1 + log(r)) for w, a, r in zip(weights, ADVANTAGES, RATIOS, strict=False)) / 10)
    assert metrics["clip_fraction"].item() == pytest.approx(0.1)


def test_cispo_clips_weights_and_keeps_gradients() -> None:
    _, gradient, metrics = run("cispo")
    assert gradient == near([-1.28 / 10, 0.8 / 10, -2.2 / 10, 0])
    assert metrics["clip_fraction"].item() == pytest.approx(0.2)


def test_gspo_has_one_ratio_per_completion() -> None:
    loss, gradient, metrics = run("gspo")
    first = exp((log(1.5) + log(0.5)) / 2)  # 0.866, inside the clip range; the second completion trains one token, ratio 1.1
    assert loss == pytest.approx(-(first - first + 2.2) / 10, abs=1e-7)
    assert gradient == near([-first / 10, first / 10, -2.2 / 10, 0])
    assert metrics["clip_fraction"].item() == 0


def test_k3_is_zero_at_the_reference_and_pulls_towards_it() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -1.0, -5.0], requires_grad=True)
    inputs = LossInputs(
        torch.zeros(4), torch.zeros(4), torch.tensor(MASK), torch.zeros(4, dtype=torch.long), torch.tensor([-1.0, -1.0, -1.5, -1.0])
    )
    loss, metrics = k3_penalty(logprobs, inputs, DENOMINATOR, LossSettings(kl_coefficient=0.1))
    k3 = ((exp(1) - 1 - 1) + (exp(-0.5) + 0.5 - 1)) / 10
    assert metrics["kl"].item() == pytest.approx(k3)
    assert loss.item() == pytest.approx(0.1 * k3)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient.tolist() == near([0, 0.1 * (1 - exp(1)) / 10, 0.1 * (1 - exp(-0.5)) / 10, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_untrained_tokens_cannot_make_it_infinite(name: str) -> None:
    logprobs = torch.tensor([-1.0, 0.0], requires_grad=True)
    inputs = LossInputs(torch.tensor([-1.0, -1e4]), torch.ones(2), torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.long))
    loss, metrics = LOSSES[name](logprobs, inputs, 1.0, LossSettings())
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient.tolist() == [-1, 0]
    assert metrics["ratio_max"].item() == 1


def test_non_finite_sampler_logprobs_drop_their_token() -> None:
    sample = random_samples(num_groups=1, lengths=(3,))[0]
    broken = type(sample)(0, (1,), (5, 6, 7), (-1.0, float("-inf"), float("nan")), (1.0, 1.0, 1.0), (True, True, True))
    inputs = loss_inputs([broken], torch.device("cpu"))
    assert inputs.mask.tolist() == [1, 0, 0]
    assert inputs.sampler_logprobs.tolist() == [-1, 0, 0]


def test_shares_of_chunks_add_up(name: str = "grpo") -> None:
    inputs = loss_inputs(random_samples(), torch.device("cpu"))
    logprobs: Tensor = inputs.sampler_logprobs + 0.1
    whole, _ = LOSSES[name](logprobs, inputs, 50.0, LossSettings())
    parts = [LOSSES[name](logprobs[r], inputs.rows(r), 50.0, LossSettings())[0] for r in (slice(0, 20), slice(20, None))]
    assert sum(part.item() for part in parts) == pytest.approx(whole.item())
