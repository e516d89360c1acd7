"""What every policy loss is given, and the ratio they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pinetune.records import TrainSample
from pinetune.training.pack import is_trained


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Clip bounds of DAPO (arXiv 2503.14476): the higher upper bound leaves room for rare tokens to grow."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    importance_cap: float = 2.0  # truncated importance sampling: the largest weight a token may get
    kl_coefficient: float = 0.0  # weight of the k3 estimate of KL(policy || reference)


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What is known of N completion tokens, all tensors of shape [N].

    `mask` is True where the token is trained: in the sample's mask *and* with a finite sampler log-prob.
    `sequence` numbers the completion a token belongs to, from 0, for losses over whole sequences.
    """

    sampler_logprobs: Tensor  # float32; 0 where dropped
    advantages: Tensor  # float32
    mask: Tensor  # float32, 0 or 1
    sequence: Tensor  # int64
    reference_logprobs: Tensor | None = None

    def rows(self, rows: slice) -> LossInputs:
        """The same of some of the tokens."""
        reference = None if self.reference_logprobs is None else self.reference_logprobs[rows]
        return LossInputs(self.sampler_logprobs[rows], self.advantages[rows], self.mask[rows], self.sequence[rows], reference)


def loss_inputs(samples: Sequence[TrainSample], device: torch.device, reference_logprobs: Tensor | None = None) -> LossInputs:
    """The tokens of `samples` laid end to end."""
    trained = [is_trained(m, lp) for s in samples for m, lp in zip(s.mask, s.sampler_logprobs, strict=True)]
    sampler = [lp if math.isfinite(lp) else 0.0 for s in samples for lp in s.sampler_logprobs]
    sequence = [i for i, s in enumerate(samples) for _ in s.completion_ids]
    return LossInputs(
        sampler_logprobs=torch.tensor(sampler, dtype=torch.float32, device=device),
        advantages=torch.tensor([a for s in samples for a in s.advantages], dtype=torch.float32, device=device),
        mask=torch.tensor(trained, dtype=torch.float32, device=device),
        sequence=torch.tensor(sequence, dtype=torch.long, device=device),
        reference_logprobs=reference_logprobs,
    )


# Scalars, summed over chunks and micro-batches; those named *_max take the largest instead.
Metrics = dict[str, Tensor]
PolicyLoss = Callable[[Tensor, LossInputs, float, LossSettings], tuple[Tensor, Metrics]]


def log_ratio(logprobs: Tensor, inputs: LossInputs) -> Tensor:
    """log(learner / sampler) per token, 0 where the token is not trained. [N]

    Untrained tokens are zeroed *before* exp: an overflow there would turn 0 * inf into NaN.
    """
    return (logprobs - inputs.sampler_logprobs) * inputs.mask


def ratio_metrics(log_ratio_N: Tensor, ratio_N: Tensor) -> Metrics:
    gap = log_ratio_N.detach().abs().max()
    return {"ratio_max": ratio_N.detach().max(), "logprob_gap_max": gap}
