"""Log-probs of the completion tokens, without ever holding [N, vocabulary] logits.

The language-model head runs over chunks of tokens. `TokenLogprobs` recomputes a chunk's logits in backward and turns them into
gradients at once: d log p(target) / d logits = onehot(target) - softmax(logits). Peak memory is one chunk, not N rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pinetune.errors import ModelError
from pinetune.models.linear import fast_linear
from pinetune.training.projection import add_gradient, transposed_product

CHUNK_BYTES = 16 * 2**20  # of logits at a time: they stay in the processor's cache between product, softmax and gradient
LARGEST_CHUNK_BYTES = 128 * 2**20
CHUNK_ROWS = 512


@dataclass(slots=True)
class Head:
    """A language-model head: logits = softcap(hidden @ weight.T + bias); `softcap` 0 = none (Gemma 2 caps its logits).

    `coarse` is the weight in the type its products are taken in, where that is not its own. Gradients that come by chunk are
    collected as [H, V], which oneDNN computes and memory adds faster than [V, H]; `finish` hands them to the parameters.
    """

    weight: Tensor  # [V, H]
    bias: Tensor | None = None
    softcap: float = 0.0
    coarse: Tensor | None = None
    collected: Tensor | None = None  # [H, V]

    @property
    def factor(self) -> Tensor:
        """The weight as it enters products."""
        return self.weight if self.coarse is None else self.coarse

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, H] -> [n, V] in float32."""
        bias = None if self.bias is None else self.bias.to(self.factor.dtype)
        raw = fast_linear(hidden.to(self.factor.dtype) if self.coarse is not None else hidden, self.factor, bias).float()
        return self.softcap * torch.tanh(raw / self.softcap) if self.softcap else raw

    def accumulate(self, grad_logits: Tensor, hidden: Tensor) -> None:
        """Add the gradient of raw logits [n, V] given hidden [n, H] to the head's own parameters."""
        if self.weight.requires_grad:
            gradient = transposed_product(hidden.to(grad_logits.dtype), grad_logits).to(self.weight.dtype)
            self.collected = gradient if self.collected is None else self.collected.add_(gradient)
        if self.bias is not None and self.bias.requires_grad:
            add_gradient(self.bias, grad_logits.sum(0))

    def finish(self) -> None:
        if self.collected is not None:
            add_gradient(self.weight, self.collected.t())
            self.collected = None

    def chunks(self, num_rows: int) -> Iterator[slice]:
        """Rows taken at once: 16 MB of logits, or 128 MB where that is too few to be worth reading the head's weights for."""
        bytes_per_row = 4 * self.weight.shape[0]
        size = max(CHUNK_BYTES // bytes_per_row, min(CHUNK_ROWS, LARGEST_CHUNK_BYTES // bytes_per_row), 64)
        for start in range(0, num_rows, size):
            yield slice(start, min(start + size, num_rows))


class TokenLogprobs(torch.autograd.Function):
    """(hidden [N, H], weight [V, H], bias [V] | None, softcap, targets [N]) -> (log-probs [N], entropy [N], no gradient)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float, targets: Tensor) -> tuple[Tensor, Tensor]:
        head = Head(weight, bias, softcap)
        logprobs, entropy = (hidden.new_empty(hidden.shape[0], dtype=torch.float32) for _ in range(2))
        for rows in head.chunks(hidden.shape[0]):
            _, logprobs[rows], entropy[rows] = softmax_of(head.logits(hidden[rows]), targets[rows])
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.softcap = softcap
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        hidden, weight, bias, targets = ctx.saved_tensors
        head = Head(weight, bias, ctx.softcap)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        grad_bias = torch.zeros_like(bias) if needs_bias and bias is not None else None
        for rows in head.chunks(hidden.shape[0]):
            logits = head.logits(hidden[rows])
            grad = logits_gradient(logits, logits.softmax(-1), targets[rows], grads[0][rows], ctx.softcap).to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = fast_linear(grad, weight.t())
            if grad_weight is not None:
                grad_weight += transposed_product(hidden[rows], grad).t()
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None


def softmax_of(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(probabilities [n, V], log-probs of the targets [n], entropies [n]) of logits [n, V].

    The log-sum-exp is read off the largest entry, lse = max logit - log max probability: exact, and four times cheaper on a CPU than
    torch's logsumexp.
    """
    probabilities = logits.softmax(-1)
    lse = logits.amax(-1) - probabilities.amax(-1).log()
    logprobs = logits.gather(1, targets[:, None])[:, 0] - lse
    return probabilities, logprobs, lse - torch.linalg.vecdot(probabilities, logits)


def logits_gradient(logits: Tensor, probabilities: Tensor, targets: Tensor, grad: Tensor, softcap: float) -> Tensor:
    """grad * d log p(target) / d raw logits, [n, V]; takes over the storage of `probabilities`."""
    result = probabilities.mul_(-grad[:, None]).scatter_add_(1, targets[:, None], grad[:, None])
    return result.mul_(1 - (logits / softcap) ** 2) if softcap else result


def token_logprobs(hidden: Tensor, head: Head, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs (differentiable) and entropies (not) of `targets` [N] given `hidden` [N, H]; both float32 [N]."""
    hidden = hidden.to(head.weight.dtype) if not torch.is_autocast_enabled(hidden.device.type) else hidden
    return TokenLogprobs.apply(hidden, head.weight, head.bias, head.softcap, targets)


def head_of(causal_lm: Any, dtype: torch.dtype | None = None) -> Head:
    """The output projection of a Hugging Face causal LM, its products in `dtype` (None = its own).

    Raises ModelError where it is not a plain linear layer.
    """
    module = causal_lm.get_output_embeddings()
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"{type(causal_lm).__name__}: its output head is a {type(module).__name__}, not a linear layer; leave lm_head out of adapters"
        )
    for field in ("logits_scaling", "logit_scale"):  # Granite divides by the one, Cohere multiplies by the other
        if getattr(causal_lm.config, field, None) not in (None, 1, 1.0):
            raise ModelError(
                f"{type(causal_lm).__name__} scales its logits ({field}), which training does not follow yet; choose another model"
            )
    softcap = getattr(causal_lm.config, "final_logit_softcapping", None) or 0.0
    coarse = None if dtype in (None, module.weight.dtype) else module.weight.detach().to(dtype)
    return Head(module.weight, module.bias, float(softcap), coarse)
