"""Rows of supervised and DPO files, and their answers as tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_tokenizer

from pinetune.data.examples import load_dialogues, load_preferences
from pinetune.errors import DataError
from pinetune.models.answers import answer_tokens, trained_answers
from pinetune.models.chat import ChatFormat
from pinetune.records import Row

USER = {"role": "user", "content": "Hi"}
SAID = {"role": "assistant", "content": "Ho"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def complaints(load: Any, path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(path)
    return [text.removeprefix(f"{path}:") for text in caught.value.complaints]


def test_dialogues(tmp_path: Path) -> None:
    [row] = load_dialogues(write(tmp_path / "a.jsonl", {"messages": [USER, SAID]}))
    assert (row.index, row.line, row.messages) == (0, 1, (USER, SAID))
    bad = write(
        tmp_path / "b.jsonl",
        {"messages": [USER]},
        {"messages": [USER, {**SAID, "weight": 2}]},
        {"messages": [USER, {**SAID, "weight": 0}]},
        {"messages": [{**USER, "weight": 1}, SAID]},
        {},
    )
    found = complaints(load_dialogues, bad)
    assert [text.split(": ")[:2] for text in found] == [
        ["1", "messages[0].role"], ["2", "messages[1].weight"], ["3", "messages"], ["4", "messages[0].weight"], ["5", "messages"],
    ]  # fmt: skip


def test_preferences(tmp_path: Path) -> None:
    good = {"input": {"messages": [USER]}, "preferred_output": [SAID], "non_preferred_output": [{**SAID, "content": "No"}]}
    [pair] = load_preferences(write(tmp_path / "a.jsonl", good))
    assert (pair.row.messages, pair.preferred["content"], pair.rejected["content"]) == ((USER,), "Ho", "No")
    bad = write(
        tmp_path / "b.jsonl",
        {**good, "input": None},
        {**good, "preferred_output": []},
        {**good, "non_preferred_output": [SAID]},
        {**good, "preferred_output": [USER]},
        {**good, "input": {"messages": []}},
    )
    assert [text.split(": ")[:2] for text in complaints(load_preferences, bad)] == [
        ["1", "input"], ["2", "preferred_output"], ["3", "non_preferred_output"], ["4", "preferred_output[0].role"],
        ["5", "input.messages"],
    ]  # fmt: skip


@pytest.mark.parametrize("template", ["chatml", "chatml-open", "llama3", "gemma"])
def test_an_answer_is_what_the_model_would_have_sampled(template: str) -> None:
    chat = ChatFormat(make_tokenizer(template))
    prompt, answer = answer_tokens(chat, Row(0, (USER,), {}), SAID)
    assert tuple(prompt) == chat.render(Row(0, (USER,), {})).token_ids
    assert answer[-1] in chat.stop_ids and not set(answer[:-1]) & set(chat.stop_ids)
    assert chat.split(answer, thinking_open=template == "chatml-open").answer == "Ho"


def test_each_message_with_a_weight_is_an_answer() -> None:
    chat = ChatFormat(make_tokenizer())
    row = Row(0, (USER, {**SAID, "weight": 0}, USER, {"role": "assistant", "content": "He"}, USER, {**SAID, "weight": 1}), {})
    answers = trained_answers(chat, row)
    assert [chat.decode(answer) for _, answer in answers] == ["He", "Ho"]
    assert "Ho" in chat.decode(answers[0][0])
