"""Tokens to text while they arrive: reasoning and answer apart, no half characters, no stop string leaked.

What is handed out, joined, is what `ChatFormat.split` gives for the whole completion, cut at the first stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pinetune.models.chat import ChatFormat

BROKEN = "\ufffd"  # what an unfinished or wrong UTF-8 sequence decodes to
OPENING = 16  # tokens within which the opening tag must stand, as in ChatFormat


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token of the answer with its log-prob; `top` are the likeliest ones in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Piece:
    """New text of one completion."""

    reasoning: str = ""
    answer: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)


class Decoding:
    """Text of a growing list of tokens. A character comes out with the token that completes it."""

    def __init__(self, chat: ChatFormat, skip: frozenset[int] = frozenset()) -> None:
        self._tokenizer = chat.tokenizer
        self._skip = skip
        self._ids: list[int] = []  # from the first token that the next ones' text can depend on
        self._read = 0  # of these, handed out

    def push(self, token: int) -> str:
        if token in self._skip:
            return ""
        self._ids.append(token)
        text = self._text(self._ids)
        if text.endswith(BROKEN):
            return ""
        new = text[len(self._text(self._ids[: self._read])) :]
        # Keep the tokens just read: some tokenizers write a space between two words only when they see both.
        self._ids, self._read = self._ids[self._read :], len(self._ids) - self._read
        return new

    def flush(self) -> str:
        """What is still held back, broken characters and all."""
        new = self._text(self._ids)[len(self._text(self._ids[: self._read])) :]
        self._ids, self._read = [], 0
        return new

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""


class Trimmed:
    """Text on its way out: outer white space is dropped, and an ending that may belong to a stop string held back."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self._begun = False
        self.stopped = False

    def push(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        if not self._begun:
            self._held = self._held.lstrip()
            self._begun = bool(self._held)
        cuts = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if cuts:
            self._held, self.stopped = self._held[: min(cuts)].rstrip(), True
            return self.flush()
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        ready = self._held[: len(self._held) - keep].rstrip()
        self._held = self._held[len(ready) :]
        return ready

    def flush(self) -> str:
        """The end has come: what is held back was no stop string."""
        rest, self._held = self._held.rstrip(), ""
        return rest


class TextStream:
    """One completion: push its tokens, but the stop token, take the text that is certain."""

    def __init__(self, chat: ChatFormat, *, thinking_open: bool, stops: Sequence[str] = (), keep: frozenset[int] = frozenset()) -> None:
        """`keep`: special tokens that belong into the answer's text (the marks around tool calls)."""
        self._chat = chat
        self._tags = chat.thinking
        self._phase: Literal["start", "thinking", "answer"] = "thinking" if thinking_open else "start"
        self._opening: list[TokenInfo] = []
        special = frozenset(i for i, token in chat.tokenizer.added_tokens_decoder.items() if token.special)
        self._thinking = Decoding(chat)
        self._reasoning = Trimmed()
        self._unopened = ""  # start of the reasoning, while it may still be (another) opening tag
        self._settled = False
        self._tail = ""  # end of the reasoning that may be the start of the closing tag
        self._answering = Decoding(chat, special - keep)
        self._answer = Trimmed(stops)

    def push(self, info: TokenInfo) -> Piece:
        if self._phase == "start":
            return self._start(info)
        if self._phase == "thinking":
            return self._think(info)
        return Piece(answer=self._answer.push(self._answering.push(info.token)), tokens=[] if self._answer.stopped else [info])

    def end(self) -> Piece:
        """What was held back; the completion is over."""
        if self._phase == "start":
            piece = self._begin_answer()
            piece.answer += self._answer.push(self._answering.flush()) + self._answer.flush()
            return piece
        if self._phase == "thinking":
            piece = self._reasoned(self._thinking.flush(), last=True)
            piece.reasoning += self._reasoning.flush()
            piece.answer += self._answer.flush()
            return piece
        return Piece(answer=self._answer.push(self._answering.flush()) + self._answer.flush())

    @property
    def _single(self) -> bool:
        return len(self._tags.close_ids) == 1

    def _start(self, info: TokenInfo) -> Piece:
        self._opening.append(info)
        ids = [one.token for one in self._opening]
        text = str(self._chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)).lstrip()
        if text.startswith(self._tags.open):
            self._phase = "thinking"
            piece = Piece()
            for one in self._opening:
                part = self._think(one)
                piece.reasoning, piece.answer = piece.reasoning + part.reasoning, piece.answer + part.answer
            return piece
        if self._tags.open.startswith(text.rstrip(BROKEN)) and len(ids) < OPENING:
            return Piece()
        return self._begin_answer()

    def _begin_answer(self) -> Piece:
        self._phase, piece = "answer", Piece()
        for info in self._opening:
            part = self.push(info)
            piece.answer += part.answer
            piece.tokens += part.tokens
        return piece

    def _think(self, info: TokenInfo) -> Piece:
        if self._single and info.token == self._tags.close_ids[0]:
            self._phase = "answer"
            return Piece(reasoning=self._reason(self._thinking.flush(), last=True) + self._reasoning.flush())
        return self._reasoned(self._thinking.push(info.token))

    def _reasoned(self, text: str, last: bool = False) -> Piece:
        """New text in the thinking phase; a closing tag of several tokens is found in it."""
        if self._single:
            return Piece(reasoning=self._reason(text, last))
        text = self._tail + text
        if (place := text.find(self._tags.close)) >= 0:
            self._phase = "answer"
            reasoning = self._reason(text[:place], last=True) + self._reasoning.flush()
            return Piece(reasoning=reasoning, answer=self._answer.push(text[place + len(self._tags.close) :]))
        keep = 0 if last else _overlap(text, self._tags.close)
        self._tail = text[len(text) - keep :]
        return Piece(reasoning=self._reason(text[: len(text) - keep], last))

    def _reason(self, text: str, last: bool = False) -> str:
        """Reasoning without its opening tag."""
        if self._settled:
            return self._reasoning.push(text)
        self._unopened = (self._unopened + text).lstrip()
        if self._tags.open.startswith(self._unopened) and self._unopened != self._tags.open and not last:
            return ""
        self._settled = True
        return self._reasoning.push(self._unopened.removeprefix(self._tags.open))


def _overlap(text: str, mark: str) -> int:
    """Length of the longest ending of `text` with which `mark` begins, `mark` itself excepted."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
