"""Sampler and learner give the tokens different probabilities: the update corrects for something that did not happen."""

from __future__ import annotations

import math

from pinetune.loop.alarms.history import Alarm, History

NAME = "sampler_gap"
# A factor of two on a token's probability, where truncated importance weights are cut. One engine in float32 agrees within 1e-4
# (the miniature does), bfloat16 within a few tenths.
GAP = math.log(2)  # nats
STEPS = 2  # in a row: one odd token does no harm


def check(history: History) -> Alarm | None:
    gaps = [report.update.metrics.get("logprob_gap_max", 0.0) for report in history.steps[-STEPS:]]
    if len(gaps) < STEPS or min(gaps) <= GAP:
        return None
    return Alarm(
        NAME,
        f"The engine that samples and the one that learns differ by up to {max(gaps):.2f} nats on a token, a factor of "
        f"{math.exp(max(gaps)):.1f} on its probability. Updates are distorted. Train in float32 (pinetune.dtype), sample with the same "
        'weights and precision, or set pinetune.loss to "importance_sampling", which corrects for it.',
        {"gaps": gaps},
    )
