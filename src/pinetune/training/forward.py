"""From samples to the log-prob of each completion token, through the Hugging Face model's own modules.

Packed where the model allows (prompts once, no padding); padded rows otherwise, which is also the reference in tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pinetune.training.attention import ATTENTION_NAME, register
from pinetune.training.layout import Layout, build_layout, document_layout
from pinetune.training.logprobs import head_of, token_logprobs
from pinetune.training.pack import MicroBatch


def causal_lm(model: Any) -> Any:
    """The Hugging Face causal LM inside a peft wrapper (its linear layers then already carry the adapters), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def can_pack(lm: Any, longest: int) -> bool:
    """Whether `lm` calls transformers' attention interface with nothing our attention lacks.

    A sliding window shorter than the longest row, soft-capped scores (Gemma 2) and attention sinks (gpt-oss) are not packed.
    """
    config = lm.config
    supported = getattr(lm, "_supports_attention_backend", False)
    window = getattr(config, "sliding_window", None)
    windowed = getattr(config, "use_sliding_window", True) and window is not None and window < longest
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    sinks = any(name.endswith(".sinks") for name, _ in lm.named_parameters())
    recurrent = any("attention" not in kind for kind in getattr(config, "layer_types", None) or ())
    return bool(supported) and not (windowed or capped or sinks or recurrent)


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


def completion_hidden(model: Any, batch: MicroBatch, packed: bool | None = None) -> Tensor:
    """Hidden states that predict each completion token, sample by sample in the order of `batch`. [N, H]

    `packed` None decides by the model.
    """
    lm = causal_lm(model)
    device = next(lm.parameters()).device
    if packed is None:
        longest = max(len(s.prompt_ids) + len(s.completion_ids) for group in batch for s in group)
        packed = can_pack(lm, longest)
    if not packed:
        return padded_hidden(lm, batch, device)
    layout = build_layout(batch, device)
    return packed_hidden(lm, layout).index_select(0, layout.predictor)


def completion_logprobs(model: Any, batch: MicroBatch, packed: bool | None = None) -> tuple[Tensor, Tensor]:
    """Log-probs (with gradient) and entropies (without) of all completion tokens, float32 [N] each."""
    hidden = completion_hidden(model, batch, packed)
    return token_logprobs(hidden, head_of(causal_lm(model)), completion_targets(batch, hidden.device))


def document_hidden(model: Any, documents: Sequence[Sequence[int]], packed: bool | None = None) -> Tensor:
    """Hidden states of whole texts of token ids, laid end to end. [sum of lengths, H]"""
    lm = causal_lm(model)
    device = next(lm.parameters()).device
    if can_pack(lm, max(map(len, documents))) if packed is None else packed:
        return packed_hidden(lm, document_layout(documents, device))
    width = max(map(len, documents))
    ids = torch.tensor([[*d, *([0] * (width - len(d)))] for d in documents], device=device)
    mask = torch.tensor([[1] * len(d) + [0] * (width - len(d)) for d in documents], device=device)
    hidden = lm.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return torch.cat([hidden[i, : len(d)] for i, d in enumerate(documents)])


def completion_targets(batch: MicroBatch, device: torch.device) -> Tensor:
    """The completion tokens of a micro-batch, sample by sample. [N]"""
    return torch.tensor([token for group in batch for sample in group for token in sample.completion_ids], device=device)
