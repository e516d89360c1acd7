"""A completion under way: its tokens so far, whether it is thinking, and what the engine must impose on its next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pinetune.models.chat import ChatFormat
from pinetune.records import Completion, FinishReason, Prompt, SamplingParams

Phase = Literal["start", "thinking", "answer"]
TAIL = 24  # tokens decoded to look for a tag or stop string that may span several of them


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every completion of one `sample()` call."""

    params: SamplingParams
    chat: ChatFormat
    stop_ids: frozenset[int]
    new_matcher: Callable[[], Any] | None  # grammar state of a fresh answer; None = free text

    @property
    def plain(self) -> bool:
        """Nothing to impose: a token either stops the completion or does not."""
        return not self.params.stop and self.params.thinking_budget is None and self.new_matcher is None


class Draft:
    """One rollout's completion while it is being written."""

    def __init__(self, place: tuple[int, int], prompt: Prompt, rules: Rules, uniforms: Sequence[float]) -> None:
        self.place = place  # (prompt index, sample index)
        self.prompt = prompt
        self.rules = rules
        self.uniforms = uniforms
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.forced: list[bool] = []
        self.matcher: Any = None
        self._queue: list[int] = []  # tokens of a closing tag still to be written
        self._think_from = 0  # first token inside the thinking
        self._answer_from = 0
        self._phase: Phase = "thinking" if prompt.thinking_open else "start"
        if self._phase == "start" and rules.new_matcher and not self._may_open():
            self._begin_answer()

    def next_uniform(self) -> float:
        return self.uniforms[len(self.tokens)]

    @property
    def opening_allowed(self) -> int | None:
        """The tag that may come first besides what the grammar allows, while nothing is written."""
        waits = self.rules.new_matcher is not None and self._phase == "start"
        return self.rules.chat.thinking.open_ids[0] if waits else None

    def imposed(self) -> int | None:
        """The token the engine wants next, whatever the model would say."""
        budget = self.rules.params.thinking_budget
        if not self._queue and budget is not None and self._phase == "thinking" and len(self.tokens) - self._think_from >= budget:
            self._queue = list(self.rules.chat.thinking.close_ids)
        return self._queue[0] if self._queue else None

    @property
    def owes_answer(self) -> bool:
        """Still thinking, with a grammar that the answer must follow: to stop here would be to answer nothing."""
        return self.rules.new_matcher is not None and self._phase == "thinking"

    def grammar(self) -> Any:
        """The grammar state that limits the next token, or None. At the start it is a fresh one, not yet adopted."""
        if self.rules.new_matcher is None or self._phase == "thinking":
            return None
        if self.matcher is None:
            self.matcher = self.rules.new_matcher()
        return self.matcher

    def add(self, token: int, logprob: float, forced: bool) -> FinishReason | None:
        """Write a token; return why the completion ends with it, or None."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.forced.append(forced)
        if token in self.rules.stop_ids:
            return "stop"
        if not self.rules.plain and self._follow(token):
            return "stop"
        return "length" if len(self.tokens) >= self.rules.params.max_tokens else None

    def finish(self, reason: FinishReason) -> Completion:
        reasoning, answer, reasoning_tokens = self.rules.chat.split(self.tokens, self.prompt.thinking_open)
        for text in self.rules.params.stop:
            answer = answer.split(text, 1)[0]
        return Completion(
            token_ids=tuple(self.tokens),
            logprobs=tuple(self.logprobs),
            forced=tuple(self.forced),
            finish=reason,
            answer=answer.strip() if self.rules.params.stop else answer,
            reasoning=reasoning,
            reasoning_tokens=reasoning_tokens,
        )

    def _follow(self, token: int) -> bool:
        """Move between the phases; True when a stop string has been written."""
        if self._queue:
            self._queue.pop(0)
            if not self._queue:
                self._begin_answer()
            return False
        if self._phase == "thinking":
            if self._closed(token):
                self._begin_answer()
            return False
        if self._phase == "start" and self._still_opening(token):
            return False
        if self.matcher is not None:
            self.matcher.consume_token(token)
        return self._stop_string_written()

    def _still_opening(self, token: int) -> bool:
        """At the start: the tag has begun or is complete (then the phase is "thinking"); else the answer has begun."""
        tags = self.rules.chat.thinking
        text = self._text(0).lstrip()
        if text.startswith(tags.open):
            self._phase, self._think_from, self.matcher = "thinking", len(self.tokens), None
            return True
        if self.rules.new_matcher is None and tags.open.startswith(text) and len(self.tokens) < TAIL:
            return True
        self._phase = "answer"  # its first tokens are written already: keep the matcher that allowed them
        return False

    def _closed(self, token: int) -> bool:
        tags = self.rules.chat.thinking
        if len(tags.close_ids) == 1:
            return token == tags.close_ids[0]
        return tags.close in self._text(max(self._think_from, len(self.tokens) - TAIL))

    def _begin_answer(self) -> None:
        self._phase, self._answer_from = "answer", len(self.tokens)
        self.matcher = self.rules.new_matcher() if self.rules.new_matcher else None

    def _may_open(self) -> bool:
        tags = self.rules.chat.thinking
        return tags.native and len(tags.open_ids) == 1

    def _stop_string_written(self) -> bool:
        stop = self.rules.params.stop
        if not stop:
            return False
        reach = TAIL + max(len(text) for text in stop)
        start = max(self._answer_from, len(self.tokens) - reach)
        tail = self._text(start, special=False)
        if start == self._answer_from:
            tail = tail.lstrip()  # the line breaks between thinking and answer are no part of the answer
        return any(text in tail for text in stop)

    def _text(self, start: int, *, special: bool = True) -> str:
        tokenizer = self.rules.chat.tokenizer
        return str(tokenizer.decode(self.tokens[start:], skip_special_tokens=not special, clean_up_tokenization_spaces=False))
