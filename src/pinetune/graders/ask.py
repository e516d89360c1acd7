"""How a judge grader asks a language model, and nothing about who answers: an endpoint, a local model, a cache.

Whoever builds the grader hands in an `Ask` (`judges.service` makes them); graders therefore never see a network or a
sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pinetune.records import JsonSchema, Message

Embed = Callable[[Sequence[str], str], Sequence[Sequence[float]]]  # (texts, model) -> one vector a text; raises as `Ask` does


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One question to a judge.

    `messages` are chat-completions messages: content is a string or a list of `text`, `image_url` and `input_audio`
    parts. `params` holds chat-completions settings (temperature, top_p, seed, max_completion_tokens,
    reasoning_effort). `repeat` tells repeated questions apart, so that a cache does not answer the second with the first.
    """

    model: str
    messages: tuple[Message, ...]
    schema: JsonSchema | None = None  # the answer should match it; who asks must check that it does
    schema_name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class AskReply:
    """What the judge said. `usage` has prompt_tokens, completion_tokens, total_tokens and cached_tokens (of the prompt)."""

    text: str
    model: str  # the one that answered: an alias may have led elsewhere
    usage: Mapping[str, int] = field(default_factory=dict)
    from_cache: bool = False  # nothing was paid for it this time; `usage` is what it cost once
    cut: bool = False  # the answer ended at its token limit


class Ask(Protocol):
    """Answers one question; called from many threads at once.

    Raises GradingFailed with kind "model_grader_server_error" or "model_grader_refusal_error" when there is no answer,
    and BudgetSpent when there is no money or there are no tokens left to ask with.
    """

    def __call__(self, request: AskRequest) -> AskReply: ...


def with_repeat(ask: Ask, repeat: int) -> Ask:
    """The same judge asked anew: a grader built with it does not get the cached answers of other repeats."""

    def again(request: AskRequest) -> AskReply:
        return ask(replace(request, repeat=repeat))

    return again
