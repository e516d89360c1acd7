"""Text out of a token stream equals the text of the whole completion: characters, tags and stop strings split anywhere."""

from __future__ import annotations

import random

import pytest
from tiny_models import make_tokenizer

from pinetune.models.chat import ChatFormat
from pinetune.serving.text import TextStream, TokenInfo, Trimmed


def streamed(chat: ChatFormat, ids: list[int], *, thinking_open: bool = False, stops: tuple[str, ...] = ()) -> tuple[str, str, list[str]]:
    stream = TextStream(chat, thinking_open=thinking_open, stops=stops)
    pieces = [*(stream.push(TokenInfo(token, 0.0)) for token in ids), stream.end()]
    return "".join(p.reasoning for p in pieces), "".join(p.answer for p in pieces), [p.answer for p in pieces]


@pytest.mark.parametrize("template", ["chatml", "chatml-text", "llama3"])
@pytest.mark.parametrize("thinking_open", [False, True])
def test_random_tokens_give_what_split_gives(template: str, thinking_open: bool) -> None:
    chat = ChatFormat(make_tokenizer(template))
    chooser = random.Random(5)
    usual = [i for i in range(len(chat.tokenizer)) if i not in chat.stop_ids]
    for _ in range(150):
        ids = chooser.choices(usual, k=chooser.randrange(30))
        if chooser.random() < 0.5:
            ids = [*chat.thinking.open_ids, *ids]
        if chooser.random() < 0.5:
            # White space behind a tag of several tokens keeps a half character before it from joining the tag's text.
            ids = [*ids, *chat.tokenizer.encode(" ok" + chat.thinking.close + " so"), *chooser.choices(usual, k=5)]
        split = chat.split(ids, thinking_open)
        assert streamed(chat, ids, thinking_open=thinking_open)[:2] == (split.reasoning, split.answer), ids


def test_no_half_characters() -> None:
    chat = ChatFormat(make_tokenizer("chatml"))
    text = "na\u00efve \u2192 \U0001f600 \u4f60\u597d done"
    _, answer, pieces = streamed(chat, chat.tokenizer.encode(text))
    assert answer == text and not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("stops", "parts", "expected"),
    [
        (("END",), ["abc EN", "D more"], ["abc", ""]),
        (("END",), ["abc EN", "X"], ["abc", " ENX"]),
        (("aab",), ["aa", "ab"], ["", "a"]),
        (("\n\n",), ["\n\nfirst\n", "\nsecond"], ["first", ""]),
        ((), ["a  ", "b  "], ["a", "  b"]),
    ],
)
def test_stop_strings_and_white_space_are_held_back(stops: tuple[str, ...], parts: list[str], expected: list[str]) -> None:
    trimmed = Trimmed(stops)
    assert [trimmed.push(part) for part in parts] == expected


def test_nothing_is_lost_when_no_stop_string_came() -> None:
    trimmed = Trimmed(["END"])
    assert trimmed.push("abc EN") + trimmed.flush() == "abc EN"
