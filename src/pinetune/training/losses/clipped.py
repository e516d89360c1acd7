"""The clipped surrogate of PPO, per token, with GRPO's group advantages and the token-level mean of DAPO.

L = - sum_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / trained tokens of the step
(arXiv 1707.06347 equation 7; arXiv 2503.14476 equation 8), r_t = learner / sampler probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics, log_ratio, ratio_metrics


def clipped(logprobs: Tensor, inputs: LossInputs, denominator: float, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """`logprobs` [N] with gradient -> (scalar loss, metrics)."""
    log_ratio_N = log_ratio(logprobs, inputs)
    ratio_N = log_ratio_N.exp()
    clipped_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain_N = torch.minimum(ratio_N * inputs.advantages, clipped_N * inputs.advantages) * inputs.mask
    was_clipped = (clipped_N * inputs.advantages < ratio_N * inputs.advantages).float() * inputs.mask
    metrics = ratio_metrics(log_ratio_N, ratio_N) | {"clip_fraction": was_clipped.sum().detach() / denominator}
    return -gain_N.sum() / denominator, metrics
