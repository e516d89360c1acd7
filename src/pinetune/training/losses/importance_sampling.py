"""REINFORCE with truncated importance weights: L = - sum_t min(r_t, cap).detach() A_t log p_t / trained tokens of the step.

For samples of another engine or an older policy (IMPALA, arXiv 1802.01561): the weight corrects, the cap bounds the variance.
"""

from __future__ import annotations

from torch import Tensor

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics, log_ratio, ratio_metrics


def importance_sampling(logprobs: Tensor, inputs: LossInputs, denominator: float, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """`logprobs` [N] with gradient -> (scalar loss, metrics)."""
    log_ratio_N = log_ratio(logprobs, inputs)
    ratio_N = log_ratio_N.detach().exp()
    weight_N = ratio_N.clamp(max=settings.importance_cap)
    gain_N = weight_N * inputs.advantages * logprobs * inputs.mask
    capped = (ratio_N > settings.importance_cap).float() * inputs.mask
    metrics = ratio_metrics(log_ratio_N, ratio_N) | {"clip_fraction": capped.sum() / denominator}
    return -gain_N.sum() / denominator, metrics
