"""Tool calls: how each format is read, held back in a stream, enforced by grammar, and shown to the template."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from tiny_models import save_tiny

from pinetune.serving.app import FolderDirectory
from pinetune.serving.directory import ServedModel
from pinetune.serving.tools import FORMATS, HERMES, LLAMA3, MISTRAL, format_of

HI = [{"role": "user", "content": "Look it up."}]
LOOK = {
    "name": "look",
    "description": "Look up a gene",
    "parameters": {
        "type": "object",
        "properties": {"gene": {"enum": ["ABC1", "XYZ2"]}},
        "required": ["gene"],
        "additionalProperties": False,
    },
}
COUNT = {
    "name": "count",
    "parameters": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["n"],
        "additionalProperties": False,
    },
}
TOOLS: list[Any] = [{"type": "function", "function": LOOK}, {"type": "function", "function": COUNT}]


def calls_in(text: str, form: Any = HERMES) -> tuple[str, list[tuple[str, Any]]]:
    kept, calls = form.parse(text, ["look", "count"])
    return kept, [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (HERMES, 'A <tool_call>\n{"name": "look", "arguments": {"gene": "X"}}\n</tool_call>', ("A", [("look", {"gene": "X"})])),
        (
            HERMES,
            '<tool_call>{"name": "look", "arguments": {}}</tool_call>\n<tool_call>{"name": "count", "arguments": {"n": 1}}</tool_call>',
            ("", [("look", {}), ("count", {"n": 1})]),
        ),
        (HERMES, '<tool_call>{"name": "look", "arguments": {}}', ("", [("look", {})])),  # the end mark is missing
        (
            HERMES,
            '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
            ('<tool_call>{"name": "nobody", "arguments": {}}</tool_call>', []),
        ),
        (HERMES, "<tool_call>not json</tool_call>", ("<tool_call>not json</tool_call>", [])),
        (HERMES, "plain", ("plain", [])),
        (LLAMA3, '{"name": "look", "parameters": {"gene": "X"}}', ("", [("look", {"gene": "X"})])),
        (LLAMA3, '<|python_tag|>{"name": "count", "parameters": {"n": 2}}', ("", [("count", {"n": 2})])),
        (LLAMA3, '{"gene": "X"}', ('{"gene": "X"}', [])),
        (
            MISTRAL,
            '[TOOL_CALLS][{"name": "look", "arguments": {}}, {"name": "count", "arguments": {"n": 3}}]',
            ("", [("look", {}), ("count", {"n": 3})]),
        ),
    ],
)
def test_calls_are_read(form: Any, text: str, expected: Any) -> None:
    assert calls_in(text, form) == expected


def test_a_written_call_is_read_again() -> None:
    for form in FORMATS:
        _, [call] = form.parse(f'{form.begin}{{"name": "look", "{form.arguments}": {{"gene": "\\u00e4"}}}}{form.end}', ["look"])
        assert form.parse(form.write(call), ["look"])[1][0].function == call.function


@pytest.mark.parametrize(
    ("form", "text", "safe"),
    [
        (HERMES, "abc", 3),
        (HERMES, "abc <tool", 3),
        (HERMES, "a < b", 5),
        (HERMES, "a\n<tool_call>{", 1),
        (LLAMA3, ' {"na', 0),
        (LLAMA3, "abc", 3),
    ],
)
def test_a_stream_holds_back_what_may_become_a_call(form: Any, text: str, safe: int) -> None:
    assert form.holds_back(text) == safe


def test_formats_are_told_apart_by_the_template() -> None:
    assert format_of("... <tool_call>{...} ...") is HERMES
    assert format_of('{"name": function name, "parameters": dictionary of argument name}') is LLAMA3
    assert format_of("{{- '[TOOL_CALLS]' }}") is MISTRAL
    assert format_of("no tools at all") is HERMES


@pytest.fixture(scope="module")
def tool_models(tmp_path_factory: pytest.TempPathFactory) -> FolderDirectory:
    """Random weights: what they write is nonsense, so a call is there only where the grammar makes it."""
    home, models = tmp_path_factory.mktemp("tools"), []
    signs = {"hermes": "{# <tool_call> #}", "llama": '{# "parameters": dictionary #}', "mistral": "{# [TOOL_CALLS] #}", "bare": ""}
    for i, (name, sign) in enumerate(signs.items()):
        folder = save_tiny(home / name, "qwen3", "chatml", seed=20 + i)
        template = folder / "chat_template.jinja"
        text = template.read_text(encoding="utf-8")
        template.write_text(sign + (text if name != "bare" else text[text.index("{%- for") :]), encoding="utf-8")
        models.append(ServedModel(name, str(folder)))
    return FolderDirectory(models)


@pytest.fixture(scope="module")
def tool_client(tool_models: FolderDirectory, new_server: Any) -> Any:
    with new_server(tool_models) as (client, _):
        yield client


def ask(client: OpenAI, **body: Any) -> ChatCompletion:
    reply = client.chat.completions.create(
        **{"model": "hermes", "messages": HI, "tools": TOOLS, "max_tokens": 400, "seed": 1, "reasoning_effort": "none", **body}
    )
    return ChatCompletion.model_validate(reply.model_dump(), strict=True)


@pytest.mark.parametrize("model", ["hermes", "llama", "mistral", "bare"])
def test_a_required_call_fits_the_tools(tool_client: OpenAI, model: str) -> None:
    choice = ask(tool_client, model=model, tool_choice="required", parallel_tool_calls=False).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function" and call.id.startswith("call_")
    arguments = json.loads(call.function.arguments)
    assert arguments in ([{"gene": "ABC1"}, {"gene": "XYZ2"}] if call.function.name == "look" else [{"n": n} for n in range(10)])


def test_a_named_tool_is_the_one_called(tool_client: OpenAI) -> None:
    for name in ("look", "count"):
        message = (
            ask(tool_client, tool_choice={"type": "function", "function": {"name": name}}, parallel_tool_calls=False).choices[0].message
        )
        assert {call.function.name for call in message.tool_calls or []} == {name}  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(tool_client, tool_choice={"type": "function", "function": {"name": "none"}})
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("model", ["hermes", "llama", "mistral"])
def test_a_streamed_call_is_the_whole_one(tool_client: OpenAI, model: str) -> None:
    body: dict[str, Any] = {"model": model, "tool_choice": "required", "seed": 3, "max_tokens": 400, "reasoning_effort": "none"}
    whole = ask(tool_client, **body).choices[0]
    chunks = list(tool_client.chat.completions.create(messages=HI, tools=TOOLS, stream=True, **body))
    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or []]
    joined: dict[int, list[str]] = {}
    for part in parts:
        name, text = joined.setdefault(part.index, ["", ""])
        assert part.function is not None
        joined[part.index] = [name + (part.function.name or ""), text + (part.function.arguments or "")]
    assert list(joined.values()) == [[c.function.name, c.function.arguments] for c in whole.message.tool_calls or []]  # type: ignore[union-attr]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == ""
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason == "tool_calls"


def test_with_a_schema_the_model_calls_or_answers(tool_client: OpenAI) -> None:
    shape: Any = {
        "type": "json_schema",
        "json_schema": {
            "name": "a",
            "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False},
        },
    }
    messages = [choice.message for choice in ask(tool_client, response_format=shape, n=12, parallel_tool_calls=False).choices]
    assert {bool(message.tool_calls) for message in messages} == {True, False}
    assert all(message.tool_calls or json.loads(message.content or "")["ok"] in (True, False) for message in messages)


def test_tool_choice_none_is_a_prompt_without_tools(tool_client: OpenAI) -> None:
    without = tool_client.chat.completions.create(model="hermes", messages=HI, max_tokens=20, seed=1)
    assert ask(tool_client, tool_choice="none", max_tokens=20).choices[0].message.content == without.choices[0].message.content
    with pytest.raises(openai.BadRequestError):
        ask(tool_client, tools=[], tool_choice="required")
    with pytest.raises(openai.BadRequestError):
        ask(tool_client, tools=[TOOLS[0], TOOLS[0]])


def test_a_template_without_tools_is_told_in_words(tool_client: OpenAI) -> None:
    """A whole round trip: the call and the tool's answer reach the prompt, which only grows."""
    first = ask(tool_client, model="bare", tool_choice="required", parallel_tool_calls=False)
    plain = tool_client.chat.completions.create(model="bare", messages=HI, max_tokens=2)
    assert first.usage is not None and plain.usage is not None and first.usage.prompt_tokens > plain.usage.prompt_tokens + 100
    [call] = first.choices[0].message.tool_calls or []
    again: Any = [
        *HI,
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "found"},
    ]
    second = ask(tool_client, model="bare", messages=again, max_tokens=5)
    assert second.usage is not None and second.usage.prompt_tokens > first.usage.prompt_tokens + 20


def test_responses_give_function_call_items(tool_client: OpenAI) -> None:
    tools: Any = [{"type": "function", **LOOK, "strict": True}, {"type": "function", **COUNT, "strict": True}]
    body: dict[str, Any] = {
        "model": "hermes",
        "tools": tools,
        "max_output_tokens": 400,
        "reasoning": {"effort": "none"},
        "extra_body": {"seed": 2},
    }
    reply = tool_client.responses.create(**body, input="Look it up.", tool_choice="required", parallel_tool_calls=False)
    [call] = reply.output
    assert call.type == "function_call" and call.status == "completed" and json.loads(call.arguments)
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "found"}]
    second = tool_client.responses.create(**body, input=output, previous_response_id=reply.id, tool_choice="none")
    assert second.usage is not None and reply.usage is not None and second.status in ("completed", "incomplete")
    seen = list(tool_client.responses.create(**body, input="Look it up.", tool_choice="required", parallel_tool_calls=False, stream=True))
    names = [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event.type for event in seen] == [f"response.{name}" for name in names]
    assert seen[-1].response.output[0].arguments == call.arguments  # type: ignore[union-attr]
