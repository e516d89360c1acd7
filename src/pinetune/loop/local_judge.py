"""A model in this process as a judge: constrained to the schema, so that even a small one gives a readable verdict.

One question at a time: batches formed by chance of timing would round differently, and a resumed job could then judge
differently. Many questions at once are what an endpoint is for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pinetune.errors import GradingFailed
from pinetune.judges.local import MAX_TOKENS, bounded, identity_of
from pinetune.models.load import load_model
from pinetune.records import JsonSchema, Message, Prompt, Row, SamplingParams
from pinetune.rollout.run import derive_seed
from pinetune.sampling.local import LocalSampler

LEAST_TOKENS = 64  # less room than this is no room for a verdict


class LocalJudge:
    """See judges.local.LocalModel. Greedy unless the grader sets a temperature."""

    def __init__(self, source: str) -> None:
        """`source` is a folder or hub id; raises ModelError."""
        self._loaded = load_model(source)
        self._sampler = LocalSampler(self._loaded, max_slots=1)
        self._lock = threading.Lock()
        self.identity = identity_of(source)
        tokenizer = self._loaded.tokenizer
        self._special = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]

    def __call__(self, messages: Sequence[Message], schema: JsonSchema | None, params: Mapping[str, Any]) -> str:
        row = Row(0, tuple({**message, "content": self._harmless(message["content"])} for message in messages), {})
        prompt = self._sampler.render(row)
        room = (self._loaded.context_length or 32_768) - len(prompt.token_ids)
        if room < LEAST_TOKENS:
            raise GradingFailed("model_grader_server_error", f"the judge's prompt has {len(prompt.token_ids)} tokens: too long for it")
        max_tokens = min(room, int(params.get("max_completion_tokens", MAX_TOKENS)))
        settings = SamplingParams(
            max_tokens=max_tokens,
            temperature=float(params.get("temperature", 0.0)),
            top_p=float(params.get("top_p", 1.0)),
            thinking_budget=max_tokens // 2,
            json_schema=None if schema is None else bounded(schema),
        )
        seed = derive_seed("judge", int(params.get("seed", 0)), json.dumps(list(messages), sort_keys=True))
        with self._lock:
            answer = self._answer(prompt, settings, seed)
            if schema is not None and not answer:  # it stopped in the middle of its thinking
                answer = self._answer(prompt, replace(settings, thinking_budget=0), seed)
            return answer

    def _answer(self, prompt: Prompt, settings: SamplingParams, seed: int) -> str:
        return next(self._sampler.sample([prompt], 1, settings, [[seed]]))[2].answer

    def _harmless(self, content: Any) -> str:
        """Text in which no special token is left: an answer must not be able to end its own message and open another."""
        if not isinstance(content, str):
            raise GradingFailed("model_grader_server_error", "a local judge reads text only, no images and no audio")
        text: str = content
        for token in self._special:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text
