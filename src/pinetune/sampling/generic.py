"""The decoder for any Hugging Face causal LM, through its own forward and its own cache.

A prompt is read once, alone, and its cache repeated for its rows. Where every layer of the cache is plain (keys and
values of the whole past), all rows decode as one batch, padded on the left. Other caches (sliding windows, linear
attention) cannot be padded alike, so there the rows forked together stay a batch of their own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from pinetune.errors import ModelError


@dataclass(slots=True)
class Batch:
    """Rows that decode together. The cache holds `length` positions a row; the first `pads[i]` of row i are empty."""

    cache: Any
    length: int
    rows: list[int]  # positions in the session's row order
    pads: list[int]


class GenericSession:
    """See decoder.Session."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prompts: dict[int, tuple[Any, int]] = {}  # key -> cache of batch size 1, number of tokens
        self._batches: list[Batch] = []
        self._num_rows = 0
        self._next_key = 0

    def open(self, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
        keys, logits = [], []
        for prompt in prompts:
            batch = Batch(DynamicCache(config=self._model.config), 0, [0], [0])
            logits.append(self._forward(batch, torch.tensor([list(prompt)], device=self._model.device)))
            keys.append(self._next_key)
            self._prompts[self._next_key] = (batch.cache, batch.length)
            self._next_key += 1
        return keys, torch.cat(logits)

    def fork(self, key: int, count: int) -> None:
        cache, length = self._prompts[key]
        cache = copy.deepcopy(cache)
        _select(cache, [0] * count, self._model.device)
        batch = Batch(cache, length, list(range(self._num_rows, self._num_rows + count)), [0] * count)
        self._num_rows += count
        if self._batches and _is_plain(cache):
            join(self._batches[0], batch)
        else:
            self._batches.append(batch)

    def keep(self, rows: Sequence[int]) -> None:
        place = {old: new for new, old in enumerate(rows)}
        for batch in self._batches:
            alive = [i for i, row in enumerate(batch.rows) if row in place]
            if alive and len(alive) < len(batch.rows):
                _select(batch.cache, alive, self._model.device)
            batch.rows = [place[batch.rows[i]] for i in alive]
            batch.pads = [batch.pads[i] for i in alive]
            trim(batch)
        self._batches = [batch for batch in self._batches if batch.rows]
        self._num_rows = len(rows)

    def close(self, key: int) -> None:
        del self._prompts[key]

    def settle(self) -> None:
        pass

    def decode(self, tokens: Tensor) -> Tensor:
        if len(self._batches) == 1:
            [batch] = self._batches
            if batch.rows == list(range(self._num_rows)):
                return self._forward(batch, tokens.unsqueeze(1))
        parts = [self._forward(batch, tokens[batch.rows].unsqueeze(1)) for batch in self._batches]
        order = torch.tensor([row for batch in self._batches for row in batch.rows], device=tokens.device)
        return torch.cat(parts)[order.argsort()]

    def _forward(self, batch: Batch, ids: Tensor) -> Tensor:
        """Append `ids` [rows, tokens] to the batch; the logits after the last of them [rows, vocabulary]."""
        pads = torch.tensor(batch.pads, device=ids.device)[:, None]
        total = batch.length + ids.shape[1]
        spots = torch.arange(total, device=ids.device)
        mask = (spots >= pads).long() if any(batch.pads) else None
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=spots[batch.length :] - pads,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        batch.cache, batch.length = output.past_key_values, total
        logits: Tensor = output.logits[:, -1].float()
        return logits


def join(batch: Batch, other: Batch) -> None:
    """Put the rows of `other` behind those of `batch`, the shorter of the two padded on the left."""
    length = max(batch.length, other.length)
    pads = (length - batch.length, length - other.length)
    for mine, theirs in zip(batch.cache.layers, other.cache.layers, strict=True):
        mine.keys = torch.cat((_pad_left(mine.keys, pads[0]), _pad_left(theirs.keys, pads[1])))
        mine.values = torch.cat((_pad_left(mine.values, pads[0]), _pad_left(theirs.values, pads[1])))
    batch.pads = [pad + pads[0] for pad in batch.pads] + [pad + pads[1] for pad in other.pads]
    batch.rows += other.rows
    batch.length = length


def trim(batch: Batch) -> None:
    """Cut positions that are empty in every row."""
    empty = min(batch.pads, default=0)
    if empty:
        for layer in batch.cache.layers:
            layer.keys, layer.values = layer.keys[..., empty:, :], layer.values[..., empty:, :]
        batch.pads = [pad - empty for pad in batch.pads]
        batch.length -= empty


def _select(cache: Any, rows: list[int], device: torch.device) -> None:
    """Make these rows the cache's batch, repeated ones too; beam search's own call, the only one all caches know."""
    cache.reorder_cache(torch.tensor(rows, device=device))


def _is_plain(cache: Any) -> bool:
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _pad_left(states: Tensor, count: int) -> Tensor:
    return functional.pad(states, (0, 0, count, 0)) if count else states


class GenericDecoder:
    """See decoder.Decoder. Reads the module's weights in place, so there is nothing to refresh.

    Raises ModelError for a model without `past_key_values` (pure state-space models keep their state elsewhere).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if "past_key_values" not in inspect.signature(model.forward).parameters:
            raise ModelError(f"{type(model).__name__} keeps no key-value cache that can be forked; use a transformer or a hybrid model")
        self._model = model

    def session(self, max_tokens: int) -> GenericSession:
        return GenericSession(self._model)

    def refresh(self) -> None:
        pass
