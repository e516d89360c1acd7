"""Penalty that holds the policy near a reference: the k3 estimate of KL(policy || reference).

k3 = exp(d) - d - 1 with d = log reference - log policy: never negative, unbiased, low variance
(Schulman, "Approximating KL divergence", 2020; GRPO, arXiv 2402.03300, equation 4).
"""

from __future__ import annotations

from torch import Tensor

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics


def k3_penalty(logprobs: Tensor, inputs: LossInputs, denominator: float, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """`kl_coefficient * sum_t k3_t / denominator`; needs `inputs.reference_logprobs`. `logprobs` [N] with gradient."""
    assert inputs.reference_logprobs is not None, "a KL penalty needs the reference's log-probs"
    difference_N = (inputs.reference_logprobs - logprobs) * inputs.mask
    k3 = (difference_N.exp() - difference_N - 1).sum() / denominator
    return settings.kl_coefficient * k3, {"kl": k3.detach()}
