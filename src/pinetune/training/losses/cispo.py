"""CISPO: clip the importance weight, not the update, so that no token loses its gradient (MiniMax-M1, arXiv 2506.13585, equation 4).

L = - sum_t clip(r_t, 1 - low, 1 + high).detach() A_t log p_t / trained tokens of the step
"""

from __future__ import annotations

from torch import Tensor

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics, log_ratio, ratio_metrics


def cispo(logprobs: Tensor, inputs: LossInputs, denominator: float, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """`logprobs` [N] with gradient -> (scalar loss, metrics)."""
    log_ratio_N = log_ratio(logprobs, inputs)
    ratio_N = log_ratio_N.detach().exp()
    weight_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain_N = weight_N * inputs.advantages * logprobs * inputs.mask
    metrics = ratio_metrics(log_ratio_N, ratio_N) | {"clip_fraction": ((weight_N != ratio_N).float() * inputs.mask).sum() / denominator}
    return -gain_N.sum() / denominator, metrics
