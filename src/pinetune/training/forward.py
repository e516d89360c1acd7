"""From samples to hidden states and log-probs of each completion token.

Packed where the model allows (prompts once, no padding), through fused blocks or the Hugging Face model's own modules; padded rows
otherwise, which is also the reference in tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pinetune.training.attention import ATTENTION_NAME, register
from pinetune.training.fused import FusedDecoder, can_fuse
from pinetune.training.layout import Layout, build_layout, document_layout
from pinetune.training.logprobs import head_of, token_logprobs
from pinetune.training.pack import MicroBatch


def causal_lm(model: Any) -> Any:
    """The Hugging Face causal LM inside a peft wrapper (its linear layers then already carry the adapters), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def can_pack(lm: Any, longest: int) -> bool:
    """Whether `lm` calls transformers' attention interface with nothing our attention lacks.

    A sliding window shorter than the longest row, soft-capped scores (Gemma 2), attention sinks (gpt-oss) and layers that are no
    attention are not packed.
    """
    config = lm.config
    supported = getattr(lm, "_supports_attention_backend", False)
    window = getattr(config, "sliding_window", None)
    windowed = getattr(config, "use_sliding_window", True) and window is not None and window < longest
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    sinks = any(name.endswith(".sinks") for name, _ in lm.named_parameters())
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}  # linear, chunked, recurrent
    return bool(supported) and not (windowed or capped or sinks or kinds)


@contextmanager
def attention_implementation(lm: Any, name: str) -> Iterator[None]:
    """Switch the attention function for one forward; the sampler shares the module and finds its own again."""
    before = lm.config._attn_implementation
    lm.config._attn_implementation = name
    try:
        yield
    finally:
        lm.config._attn_implementation = before


def packed_hidden(lm: Any, layout: Layout) -> Tensor:
    """Last hidden states of a packed micro-batch. [T, H]"""
    register()
    with attention_implementation(lm, ATTENTION_NAME):
        output = lm.base_model(input_ids=layout.token_ids[None], position_ids=layout.positions[None], use_cache=False, layout=layout)
    return output.last_hidden_state[0]


def padded_hidden(lm: Any, batch: MicroBatch, device: torch.device) -> Tensor:
    """Hidden states that predict each completion token, from rows of prompt + completion padded on the right. [N, H]"""
    samples = [sample for group in batch for sample in group]
    rows = [list(s.prompt_ids + s.completion_ids[:-1]) for s in samples]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    hidden = lm.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    parts = [hidden[i, len(s.prompt_ids) - 1 : len(s.prompt_ids) + len(s.completion_ids) - 1] for i, s in enumerate(samples)]
    return torch.cat(parts)


def padded_document_hidden(lm: Any, documents: Sequence[Sequence[int]], trained: Sequence[Sequence[int]]) -> Tensor:
    """Hidden states that predict the trained positions of each text, from rows padded on the right. [N, H]"""
    device = next(lm.parameters()).device
    width = max(map(len, documents))
    ids = torch.tensor([[*d, *([0] * (width - len(d)))] for d in documents], device=device)
    mask = torch.tensor([[1] * len(d) + [0] * (width - len(d)) for d in documents], device=device)
    hidden = lm.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    rows = [row for row, wanted in enumerate(trained) for _ in wanted]
    columns = [t - 1 for wanted in trained for t in wanted]
    return hidden[torch.tensor(rows, device=device), torch.tensor(columns, device=device)]


class BodyForward:
    """The forward passes of one optimizer step through a model's body, whatever head it has; `finish` after its last backward.

    Three ways, by what the model allows: fused blocks (fused.py), its own modules over packed rows, its own modules over padded rows.
    `packed` and `fused` False rule a way out, which tests use.
    """

    def __init__(self, model: Any, *, bfloat16: bool = False, packed: bool = True, fused: bool = True) -> None:
        self.lm = causal_lm(model)
        self.device: torch.device = next(self.lm.parameters()).device
        self.packed = packed
        self.bfloat16 = bfloat16
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        self.decoder = FusedDecoder(self.lm, dtype) if packed and fused and can_fuse(self.lm) else None

    def precision(self) -> AbstractContextManager[object]:
        """To be entered around forward and backward: bfloat16 products, through autocast where the blocks do not see to it."""
        autocast = self.bfloat16 and self.decoder is None
        return torch.autocast(self.device.type, torch.bfloat16) if autocast else nullcontext()

    def completions(self, batch: MicroBatch) -> Tensor:
        """Hidden states that predict each completion token, sample by sample in the order of `batch`. [N, H]"""
        longest = max(len(s.prompt_ids) + len(s.completion_ids) for group in batch for s in group)
        if not (self.packed and can_pack(self.lm, longest)):
            return padded_hidden(self.lm, batch, self.device)
        return self._packed(build_layout(batch, self.device))

    def documents(self, documents: Sequence[Sequence[int]], trained: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states that predict the trained positions of each text, in order. [N, H]"""
        if not (self.packed and can_pack(self.lm, max(map(len, documents)))):
            return padded_document_hidden(self.lm, documents, trained)
        return self._packed(document_layout(documents, trained, self.device))

    def _packed(self, layout: Layout) -> Tensor:
        if self.decoder is not None:
            return self.decoder.hidden(layout)
        return packed_hidden(self.lm, layout).index_select(0, layout.predictor)

    def finish(self) -> None:
        """Gradients that were collected on the side reach the parameters."""
        if self.decoder is not None:
            self.decoder.finish()


class PolicyForward(BodyForward):
    """The body with its language-model head."""

    def __init__(self, model: Any, *, bfloat16: bool = False, packed: bool = True, fused: bool = True) -> None:
        super().__init__(model, bfloat16=bfloat16, packed=packed, fused=fused)
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        self.head = head_of(self.lm, dtype if self.decoder else None)

    def finish(self) -> None:
        self.head.finish()
        super().finish()


def completion_logprobs(forward: PolicyForward, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Log-probs (with gradient) and entropies (without) of all completion tokens, float32 [N] each."""
    hidden = forward.completions(batch)
    return token_logprobs(hidden, forward.head, completion_targets(batch, hidden.device))


def completion_targets(batch: MicroBatch, device: torch.device) -> Tensor:
    """The completion tokens of a micro-batch, sample by sample. [N]"""
    return torch.tensor([token for group in batch for sample in group for token in sample.completion_ids], device=device)
