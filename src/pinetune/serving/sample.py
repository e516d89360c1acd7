"""One answer while it grows: what of it is certain enough to be sent, and what it amounts to in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pinetune.records import Completion
from pinetune.serving.turn import Shown, Turn
from pinetune.wire.chat import ToolCall

if TYPE_CHECKING:
    from pinetune.serving.text import Piece, TokenInfo

FinishReason = Literal["stop", "length", "tool_calls"]
LEAST_LOGPROB = -9999.0  # what the hosted API gives for a token it would never have written; JSON knows no infinity


@dataclass(slots=True)
class Delta:
    """What can be sent now. `tokens` are those of `content`, where log-probs are wanted."""

    reasoning: str = ""
    content: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)


class Sample:
    """Text that may be the beginning of a tool call is held back until it is clear that it is none."""

    def __init__(self, turn: Turn, shown: Shown) -> None:
        self._turn, self._shown = turn, shown
        self._answer = ""
        self._sent = 0
        self._unsent: list[TokenInfo] = []
        self.reasoning = ""
        self.content: str | None = None
        self.calls: list[ToolCall] = []
        self.finish: FinishReason | None = None
        self.tokens: list[TokenInfo] = []

    def grow(self, piece: Piece) -> Delta:
        self.reasoning += piece.reasoning
        self._answer += piece.answer
        if self._turn.top_logprobs is not None:
            self.tokens += piece.tokens
            self._unsent += piece.tokens
        form = self._shown.form
        return self._up_to(len(self._answer) if form is None else form.holds_back(self._answer), piece.reasoning)

    def end(self, completion: Completion) -> Delta:
        """What was held back and is no call."""
        self.content = self._answer
        if self._shown.form is not None:
            text, calls = self._shown.form.parse(self._answer, self._turn.tool_names)
            self.calls = calls if self._turn.parallel else calls[:1]
            if self.calls:
                self.content = text or None
                self._answer = text
        self.finish = "tool_calls" if self.calls and completion.finish == "stop" else completion.finish
        delta = self._up_to(len(self._answer), "")
        delta.tokens, self._unsent = [*delta.tokens, *self._unsent], []
        return delta

    def _up_to(self, limit: int, reasoning: str) -> Delta:
        if limit <= self._sent:
            return Delta(reasoning)
        text, self._sent = self._answer[self._sent : limit], limit
        tokens, self._unsent = self._unsent, []
        return Delta(reasoning, text, tokens)


def spelled(tokens: Sequence[TokenInfo], shown: Shown) -> list[dict[str, Any]]:
    """Log-probs as both APIs write them; none where they were not asked for."""
    spell = shown.spell
    if spell is None:
        return []

    def one(token: int, logprob: float) -> dict[str, Any]:
        text, raw = spell(token)
        return {"token": text, "bytes": raw, "logprob": max(logprob, LEAST_LOGPROB)}

    return [{**one(info.token, info.logprob), "top_logprobs": [one(*pair) for pair in info.top]} for info in tokens]
