"""Texts to vectors: the mean of a causal model's last hidden states, scaled to length 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pinetune.models.load import LoadedModel


def embed(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """One unit vector [hidden size] for each list of token ids; none may be empty.

    Each text is read alone, so that a text's vector does not depend on its neighbours. The adapter in use is the active one.
    """
    body = loaded.base.base_model
    vectors = []
    with torch.inference_mode():
        for ids in texts:
            states = body(input_ids=torch.tensor([list(ids)], device=loaded.device), use_cache=False).last_hidden_state
            mean = states[0].float().mean(dim=0)
            vectors.append((mean / mean.norm().clamp_min(1e-12)).tolist())
    return vectors
