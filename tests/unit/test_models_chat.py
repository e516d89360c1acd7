"""Chat templates: rendering, stop tokens of three kinds of template, and where thinking ends."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import make_tokenizer

from pinetune.errors import DataError, ModelError
from pinetune.models.chat import ChatFormat, Split
from pinetune.records import Row

MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which gene?"})


def row(*messages: dict[str, Any], **fields: Any) -> Row:
    return Row(index=0, messages=messages, item={}, **fields)


@pytest.mark.parametrize("template", ["chatml", "chatml-open", "chatml-text", "llama3", "gemma"])
@pytest.mark.parametrize("tools", [(), ({"type": "function", "function": {"name": "search"}},)])
def test_render_is_the_template_token_for_token(template: str, tools: tuple[dict[str, Any], ...]) -> None:
    tokenizer = make_tokenizer(template)
    expected = tokenizer.apply_chat_template(list(MESSAGES), tools=list(tools) or None, add_generation_prompt=True, return_dict=False)
    prompt = ChatFormat(tokenizer).render(row(*MESSAGES, tools=tools))
    assert prompt.token_ids == tuple(expected)
    assert prompt.thinking_open == (template == "chatml-open")


@pytest.mark.parametrize(
    ("template", "stops"),
    [("chatml", ["<|im_end|>"]), ("llama3", ["<|end_of_text|>", "<|eot_id|>"]), ("gemma", ["<eos>", "<end_of_turn>"])],
)
def test_stop_tokens_are_eos_and_the_end_of_turn(template: str, stops: list[str]) -> None:
    tokenizer = make_tokenizer(template)
    assert tokenizer.convert_ids_to_tokens(list(ChatFormat(tokenizer).stop_ids)) == stops


def test_stop_tokens_of_the_generation_config_come_first() -> None:
    assert ChatFormat(make_tokenizer(), generation_eos=[7]).stop_ids[0] == 7


def test_developer_messages_become_system_messages_where_the_template_does_not_know_them() -> None:
    chat = ChatFormat(make_tokenizer())
    developer = row({"role": "developer", "content": "Be brief."}, MESSAGES[1])
    assert chat.render(developer) == chat.render(row(*MESSAGES))


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    chat = ChatFormat(make_tokenizer())
    parts = [{"type": "text", "text": "Which "}, {"type": "text", "text": "gene?"}]
    assert chat.render(row({"role": "user", "content": parts})) == chat.render(row({"role": "user", "content": "Which gene?"}))
    with pytest.raises(DataError, match=r"line 4: .* a part that is not text"):
        chat.render(row({"role": "user", "content": [{"type": "image_url"}]}, line=4))


def test_a_refusing_template_names_the_line() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match="line 9: the chat template of the model refuses these messages: roles must alternate"):
        ChatFormat(tokenizer).render(row(*MESSAGES, line=9))


def test_a_template_without_system_messages_gets_their_words_with_the_users() -> None:
    tokenizer = make_tokenizer("gemma")
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    chat = ChatFormat(tokenizer)
    assert chat.render(row(*MESSAGES)) == chat.render(row({"role": "user", "content": "Be brief.\n\nWhich gene?"}))
    with pytest.raises(DataError, match="System role not supported"):
        chat.render(row(MESSAGES[0], {"role": "assistant", "content": "Yes."}))


def test_no_template() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="has no chat template"):
        ChatFormat(tokenizer)


def split(text: str, *, thinking_open: bool = False, template: str = "chatml") -> Split:
    tokenizer = make_tokenizer(template)
    return ChatFormat(tokenizer).split(tokenizer.encode(text, add_special_tokens=False), thinking_open)


@pytest.mark.parametrize(
    ("text", "thinking_open", "expected"),
    [
        ("<think>a</think>4<|im_end|>", False, Split("a", "4", 3)),
        ("a</think>4<|im_end|>", True, Split("a", "4", 2)),
        ("4<|im_end|>", False, Split("", "4", 0)),
        ("<think></think>4", False, Split("", "4", 2)),
        ("a b", True, Split("a b", "", 3)),  # never closed: no answer
        ("<think>a<|im_end|>", False, Split("a", "", 2)),  # the stop token is no thinking
        ("4 <think>a</think>", False, Split("", "4 <think>a</think>", 0)),  # thinking comes first or not at all
        ("a</think>b</think>c", True, Split("a", "b</think>c", 2)),  # the first closing tag counts
        ("", False, Split("", "", 0)),
    ],
)
def test_split(text: str, thinking_open: bool, expected: Split) -> None:
    assert split(text, thinking_open=thinking_open) == expected


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [("<think>ab</think>{4}<|im_end|>", "ab", "{4}"), ("<think>ab", "ab", ""), ("{4}", "", "{4}"), ("<thin>{4}", "", "<thin>{4}")],
)
def test_split_with_tags_of_many_tokens(text: str, reasoning: str, answer: str) -> None:
    tokenizer = make_tokenizer("chatml-text")
    chat = ChatFormat(tokenizer)
    assert not chat.thinking.native
    assert len(chat.thinking.close_ids) > 1
    ids = tokenizer.encode(text, add_special_tokens=False)
    result = chat.split(ids)
    assert (result.reasoning, result.answer) == (reasoning, answer)
    # The shortest run of tokens that holds the closing tag: its last token may reach into the answer.
    assert ("</think>" in tokenizer.decode(ids[: result.reasoning_tokens])) == ("</think>" in text)
    assert "</think>" not in tokenizer.decode(ids[: max(result.reasoning_tokens - 1, 0)])


def test_tags_of_a_model_that_does_not_think() -> None:
    tags = ChatFormat(make_tokenizer()).thinking
    assert (tags.native, len(tags.open_ids), len(tags.close_ids)) == (True, 1, 1)
