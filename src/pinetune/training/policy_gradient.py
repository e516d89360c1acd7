"""Loss and gradient of one micro-batch, the vocabulary logits taken chunk by chunk.

A token-level loss needs a chunk's log-probs only, so its gradient goes back through the head while the chunk's softmax is still at
hand: each logit is computed once, and neither logits nor probabilities of more than one chunk exist. A sequence-level loss needs
all log-probs first; its chunks are computed again in backward (`TokenLogprobs`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pinetune.models.linear import fast_linear
from pinetune.training.logprobs import Head, logits_gradient, softmax_of, token_logprobs
from pinetune.training.losses import LossInputs, Metrics

# (log-probs with gradient, what is known of these tokens) -> (share of the loss, share of the metrics)
LossFunction = Callable[[Tensor, LossInputs], tuple[Tensor, Metrics]]


def add_metrics(total: Metrics, part: Metrics) -> None:
    """Sum shares, take the larger of *_max, in place."""
    for name, value in part.items():
        if name not in total:
            total[name] = value.detach()
        else:
            total[name] = torch.maximum(total[name], value.detach()) if name.endswith("_max") else total[name] + value.detach()


def backward_by_chunk(hidden: Tensor, head: Head, targets: Tensor, inputs: LossInputs, loss_of: LossFunction) -> tuple[Tensor, Metrics]:
    """Token-level losses: add d loss / d parameters to every `.grad` (the head's on `finish`); return (loss, metrics).

    hidden [N, H] carries the graph.
    """
    states = hidden.detach()
    grad_hidden = torch.empty_like(states)
    total, metrics = torch.zeros((), device=hidden.device), Metrics()
    for rows in head.chunks(states.shape[0]):
        with torch.no_grad():
            logits = head.logits(states[rows])
            probabilities, logprobs, entropy = softmax_of(logits, targets[rows])
        with torch.enable_grad():
            logprobs.requires_grad_()
            loss, part = loss_of(logprobs, inputs.rows(rows))
            (grad_logprobs,) = torch.autograd.grad(loss, logprobs)
        with torch.no_grad():
            total += loss.detach()
            add_metrics(metrics, part | {"entropy": (entropy * inputs.mask[rows]).sum()})
            grad_logits = logits_gradient(logits, probabilities, targets[rows], grad_logprobs, head.softcap)
            grad_logits = grad_logits.to(states.dtype if head.coarse is None else head.coarse.dtype)
            grad_hidden[rows] = fast_linear(grad_logits, head.factor.t())
            head.accumulate(grad_logits, states[rows])
    hidden.backward(grad_hidden)
    return total, metrics


def backward_whole(hidden: Tensor, head: Head, targets: Tensor, inputs: LossInputs, loss_of: LossFunction) -> tuple[Tensor, Metrics]:
    """The same for losses over whole sequences."""
    logprobs, entropy = token_logprobs(hidden, head, targets)
    loss, part = loss_of(logprobs, inputs)
    loss.backward()
    metrics = Metrics()
    add_metrics(metrics, part | {"entropy": (entropy * inputs.mask).sum()})
    return loss.detach(), metrics
