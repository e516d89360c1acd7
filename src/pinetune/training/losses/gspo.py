"""GSPO: one importance ratio per completion, the geometric mean of its tokens' ratios (arXiv 2507.18071, equations 5-7 and 13).

s = exp(mean_t log r_t) over the trained tokens; each token carries s with its own gradient, `s.detach() * p_t / p_t.detach()`,
so per-token advantages stay possible. Aggregated over tokens like the other losses. The ratios are far closer to 1 than per-token
ones: the paper clips at 3e-4 / 4e-4, to be set in `LossSettings`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics, log_ratio, ratio_metrics


def gspo(logprobs: Tensor, inputs: LossInputs, denominator: float, settings: LossSettings) -> tuple[Tensor, Metrics]:
    """`logprobs` [N] with gradient, every token of each completion present -> (scalar loss, metrics)."""
    log_ratio_N = log_ratio(logprobs, inputs)
    num_sequences = int(inputs.sequence.max()) + 1 if inputs.sequence.numel() else 0
    zeros = log_ratio_N.new_zeros(num_sequences)
    lengths = zeros.index_add(0, inputs.sequence, inputs.mask).clamp(min=1)
    mean_S = zeros.index_add(0, inputs.sequence, log_ratio_N.detach()) / lengths
    ratio_N = (mean_S[inputs.sequence] + logprobs - logprobs.detach()).exp()
    clipped_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain_N = torch.minimum(ratio_N * inputs.advantages, clipped_N * inputs.advantages) * inputs.mask
    was_clipped = (clipped_N * inputs.advantages < ratio_N * inputs.advantages).float() * inputs.mask
    metrics = ratio_metrics(log_ratio_N, ratio_N) | {"clip_fraction": was_clipped.sum().detach() / denominator}
    return -gain_N.sum() / denominator, metrics
