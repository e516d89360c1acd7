"""Policy losses. One small file per loss, one line in the table.

Each takes the learner's log-probs of N tokens, what is known of these tokens (`LossInputs`) and the *global* denominator
(trained tokens of the whole step), and returns `sum over trained tokens / denominator` with metrics. Losses of micro-batches
therefore add up to the loss of the step, whatever the micro-batch size.
"""

from __future__ import annotations

from pinetune.training.losses.base import LossInputs, LossSettings, Metrics, PolicyLoss, loss_inputs
from pinetune.training.losses.cispo import cispo
from pinetune.training.losses.clipped import clipped
from pinetune.training.losses.gspo import gspo
from pinetune.training.losses.importance_sampling import importance_sampling
from pinetune.training.losses.kl import k3_penalty

LOSSES: dict[str, PolicyLoss] = {
    "grpo": clipped,
    "importance_sampling": importance_sampling,
    "cispo": cispo,
    "gspo": gspo,
}

SEQUENCE_LEVEL = frozenset({"gspo"})  # need every token of a completion at once, so they cannot be cut into chunks of tokens

__all__ = [
    "LOSSES",
    "SEQUENCE_LEVEL",
    "LossInputs",
    "LossSettings",
    "Metrics",
    "PolicyLoss",
    "cispo",
    "clipped",
    "gspo",
    "importance_sampling",
    "k3_penalty",
    "loss_inputs",
]
