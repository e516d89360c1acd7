"""The decoder for any Hugging Face causal LM, through its own forward and its own cache.

A prompt is read once and its cache repeated for its rows. Rows forked together (a wave) decode on their own, without
padding, so a model may have any kind of cache (sliding windows, state spaces): waves are never merged, rows that finish
are cut out with the cache's own `batch_select_indices`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


@dataclass(slots=True)
class _Prompt:
    """A prompt read but not yet (fully) forked: its own cache of batch size 1."""

    cache: Any
    length: int


@dataclass(slots=True)
class _Wave:
    """Rows forked together: same cache, same number of cached tokens, own positions in the session's row order."""

    cache: Any
    length: int
    rows: list[int] = field(default_factory=list)


class GenericSession:
    """See decoder.Session."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prompts: dict[int, _Prompt] = {}
        self._waves: list[_Wave] = []
        self._num_rows = 0
        self._next_key = 0

    def open(self, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
        keys, logits = [], []
        for prompt in prompts:
            cache = DynamicCache(config=self._model.config)
            ids = torch.tensor([list(prompt)], device=self._model.device)
            output = self._forward(ids, cache, 0)
            keys.append(self._next_key)
            self._prompts[self._next_key] = _Prompt(output.past_key_values, len(prompt))
            self._next_key += 1
            logits.append(output.logits[:, -1].float())
        return keys, torch.cat(logits)

    def fork(self, key: int, count: int) -> None:
        prompt = self._prompts[key]
        cache = copy.deepcopy(prompt.cache)
        cache.batch_repeat_interleave(count)
        rows = list(range(self._num_rows, self._num_rows + count))
        self._waves.append(_Wave(cache, prompt.length, rows))
        self._num_rows += count

    def keep(self, rows: Sequence[int]) -> None:
        place = {old: new for new, old in enumerate(rows)}
        for wave in self._waves:
            alive = [i for i, row in enumerate(wave.rows) if row in place]
            if alive and len(alive) < len(wave.rows):
                wave.cache.batch_select_indices(torch.tensor(alive, device=self._model.device))
            wave.rows = [place[wave.rows[i]] for i in alive]
        self._waves = [wave for wave in self._waves if wave.rows]
        self._num_rows = len(rows)

    def close(self, key: int) -> None:
        del self._prompts[key]

    def settle(self) -> None:
        pass

    def decode(self, tokens: Tensor) -> Tensor:
        logits: Tensor | None = None
        for wave in self._waves:
            rows = torch.tensor(wave.rows, device=tokens.device)
            output = self._forward(tokens[rows].unsqueeze(1), wave.cache, wave.length)
            wave.cache, wave.length = output.past_key_values, wave.length + 1
            last = output.logits[:, -1].float()
            if logits is None:
                logits = last.new_empty((self._num_rows, last.shape[1]))
            logits[rows] = last
        assert logits is not None, "decode without rows"
        return logits

    def _forward(self, ids: Tensor, cache: Any, start: int) -> Any:
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).unsqueeze(0).expand(ids.shape[0], -1)
        with torch.inference_mode():
            return self._model(input_ids=ids, past_key_values=cache, position_ids=positions, use_cache=True, logits_to_keep=1)


class GenericDecoder:
    """See decoder.Decoder. Reads the module's weights in place, so there is nothing to refresh."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def session(self, max_tokens: int) -> GenericSession:
        return GenericSession(self._model)

    def refresh(self) -> None:
        pass
