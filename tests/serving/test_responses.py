"""The Responses API through the official client: items, events in order, conversations, what is stored."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from pinetune.serving.app import FolderDirectory

HI = "Which gene could cause this?"


def create(client: OpenAI, **body: Any) -> Response:
    extra = {"seed": body.pop("seed", 1)}
    reply = client.responses.create(**{"model": "test/tiny:v1", "input": HI, "max_output_tokens": 40, "extra_body": extra, **body})
    return Response.model_validate(reply.model_dump(by_alias=True), strict=True)


def events(client: OpenAI, **body: Any) -> list[Any]:
    extra = {"seed": body.pop("seed", 1)}
    body = {"model": "test/tiny:v1", "input": HI, "max_output_tokens": 40, "extra_body": extra, "stream": True, **body}
    return [type(event).model_validate(event.model_dump(by_alias=True)) for event in client.responses.create(**body)]


def chat_answer(client: OpenAI, messages: Any, **body: Any) -> str | None:
    body = {"model": "test/tiny:v1", "max_tokens": 40, "seed": 1, **body}
    return client.chat.completions.create(messages=messages, **body).choices[0].message.content


def test_a_text_is_a_user_message_and_instructions_come_first(client: OpenAI) -> None:
    reply = create(client, instructions="Be brief.")
    assert reply.output_text == chat_answer(client, [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": HI}])
    assert (reply.status, reply.object, reply.error) == ("incomplete", "response", None)
    assert reply.incomplete_details is not None and reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage is not None and reply.usage.output_tokens == 40
    assert reply.usage.total_tokens == reply.usage.input_tokens + 40
    assert [item.type for item in reply.output] == ["message"]
    assert (reply.temperature, reply.top_p, reply.tool_choice, reply.truncation, reply.store) == (1.0, 1.0, "auto", "disabled", True)


def test_a_rows_messages_are_taken_as_they_are(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
    messages: list[Any] = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": HI},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ABC1"},
        {"role": "assistant", "content": "So be it."},
        {"role": "user", "content": "Again."},
    ]
    assert create(client, input=messages).output_text == chat_answer(client, messages)


def test_reasoning_items_summary_and_token_counts(client: OpenAI) -> None:
    model = {"model": "test/open:v1", "max_output_tokens": 40}
    message = client.chat.completions.create(model="test/open:v1", messages=[{"role": "user", "content": HI}], max_tokens=40, seed=1)
    plain, summarised = create(client, **model), create(client, **model, reasoning={"effort": "medium", "summary": "detailed"})
    first: Any = plain.output[0]
    assert (first.type, first.summary, first.encrypted_content) == ("reasoning", [], None)
    assert first.content[0].text == getattr(message.choices[0].message, "reasoning_content", None)
    other: Any = summarised.output[0]
    assert [part.type for part in other.summary] == ["summary_text"] and other.summary[0].text == other.content[0].text
    assert plain.usage is not None and summarised.usage is not None
    assert plain.usage.output_tokens_details.reasoning_tokens == 30 + 1  # three quarters of 40, and the closing tag
    assert summarised.usage.output_tokens_details.reasoning_tokens == 20 + 1
    assert summarised.reasoning is not None and summarised.reasoning.effort == "medium"


@pytest.mark.parametrize("summary", [None, "auto"])
def test_events_come_in_order_and_add_up_to_the_response(client: OpenAI, summary: str | None) -> None:
    body: dict[str, Any] = {"model": "test/open:v1", "reasoning": {"summary": summary}}
    seen = events(client, **body)
    kinds = [event.type for event in seen]
    thinking = [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    if summary is None:
        thinking = ["content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"]
    text = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
    item = ["output_item.added", *thinking, "output_item.done", "output_item.added", *text, "output_item.done"]
    expected = [f"response.{kind}" for kind in ["created", "in_progress", *item, "incomplete"]]
    assert [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind] == expected
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    final, whole = seen[-1].response, create(client, **body)
    assert final.output_text == whole.output_text == "".join(e.delta for e in seen if e.type == "response.output_text.delta")
    thought = "".join(e.delta for e in seen if e.type.startswith("response.reasoning") and e.type.endswith("delta"))
    assert final.output[0].content[0].text == thought == whole.output[0].content[0].text  # type: ignore[union-attr]
    assert final.usage == whole.usage
    assert seen[0].response.status == "in_progress" and seen[0].response.usage is None


def test_the_clients_own_accumulation_agrees(client: OpenAI) -> None:
    class Answer(BaseModel):
        gene: Literal["ABC1", "XYZ2"]

    body: dict[str, Any] = {"model": "test/tiny:v1", "input": HI, "max_output_tokens": 100, "extra_body": {"seed": 1}}
    with client.responses.stream(**body, text_format=Answer) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    parsed = client.responses.parse(**body, text_format=Answer).output_parsed
    assert final.status == "completed" and parsed is not None and final.output_parsed == parsed


def test_previous_response_id_goes_on_with_the_conversation(client: OpenAI) -> None:
    first = create(client, instructions="Be brief.")
    second = create(client, input="Why?", previous_response_id=first.id)
    told = [{"role": "user", "content": HI}, {"role": "assistant", "content": first.output_text}, {"role": "user", "content": "Why?"}]
    assert second.output_text == chat_answer(client, told)  # the instructions are those of one response only
    third = create(client, input=[{"role": "user", "content": "So?"}], previous_response_id=second.id)
    told += [{"role": "assistant", "content": second.output_text}, {"role": "user", "content": "So?"}]
    assert third.output_text == chat_answer(client, told)
    assert third.previous_response_id == second.id
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"


def test_output_items_can_be_replayed(client: OpenAI) -> None:
    first = create(client, model="test/open:v1")
    replayed: list[Any] = [
        {"role": "user", "content": HI},
        *[item.model_dump() for item in first.output],
        {"role": "user", "content": "Why?"},
    ]
    again = create(client, model="test/open:v1", input=replayed)
    assert again.output_text == create(client, model="test/open:v1", input="Why?", previous_response_id=first.id).output_text


def test_stored_responses_are_retrieved_listed_and_deleted(client: OpenAI) -> None:
    reply = create(client, input=[{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}], metadata={"a": "b"})
    assert client.responses.retrieve(reply.id).model_dump() == reply.model_dump()
    items = client.responses.input_items.list(reply.id, order="asc")
    assert [item.content[0].text for item in items.data] == ["One.", "Two."]  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as stale:
        client.responses.input_items.list(reply.id, after="msg_none")
    assert stale.value.param == "after"
    newest = client.responses.input_items.list(reply.id, limit=1)
    assert [item.content[0].text for item in newest.data] == ["Two."] and newest.has_more  # type: ignore[union-attr]
    assert [item.content[0].text for item in newest] == ["Two.", "One."]  # type: ignore[union-attr]
    client.responses.delete(reply.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(reply.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(create(client, store=False).id)


def test_structured_output_is_valid_json(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"gene": {"enum": ["ABC1", "XYZ2"]}}, "required": ["gene"], "additionalProperties": False}
    text: Any = {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}
    reply = create(client, text=text, max_output_tokens=200)
    assert json.loads(reply.output_text)["gene"] in ("ABC1", "XYZ2")
    assert reply.status == "completed"
    assert reply.text is not None and reply.text.model_dump(by_alias=True)["format"]["schema"] == schema


def test_logprobs_where_included(client: OpenAI) -> None:
    include: Any = ["message.output_text.logprobs"]
    part: Any = create(client, include=include, top_logprobs=2, temperature=0, max_output_tokens=5).output[0]
    tokens = part.content[0].logprobs
    assert len(tokens) == 5 and all(token.logprob == token.top_logprobs[0].logprob for token in tokens)
    deltas = [e for e in events(client, include=include, temperature=0, max_output_tokens=5) if e.type == "response.output_text.delta"]
    assert sum(len(delta.logprobs) for delta in deltas) == 5


def test_background_responses_are_polled_and_cancelled(client: OpenAI) -> None:
    queued = create(client, background=True)
    assert queued.status in ("queued", "in_progress") and queued.output == []
    done = queued
    while done.status in ("queued", "in_progress"):
        time.sleep(0.02)
        done = client.responses.retrieve(queued.id)
    assert done.output_text == create(client).output_text
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(create(client).id)


def test_a_background_response_is_cancelled_while_it_waits(new_server: Any) -> None:
    gate = threading.Event()
    with new_server(FolderDirectory()) as (client, service):
        client.responses.create(model="pinetune-mini", input="hi", max_output_tokens=16)  # loads the model
        service.engine.tell(gate.wait)  # the engine stands still: nothing is over before it is cancelled
        long = client.responses.create(model="pinetune-mini", input="hi", background=True)
        assert client.responses.cancel(long.id).status == "cancelled"
        gate.set()
        assert client.responses.retrieve(long.id).status == "cancelled"


def test_input_tokens_are_counted(client: OpenAI) -> None:
    reply = create(client, instructions="Be brief.")
    assert reply.usage is not None
    assert (
        client.responses.input_tokens.count(model="test/tiny:v1", input=HI, instructions="Be brief.").input_tokens
        == reply.usage.input_tokens
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0.content.0"),
        ({"input": [{"type": "computer_call_output", "call_id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input.0.call_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 5000}, "max_output_tokens"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"background": True, "store": False}, "store"),
    ],
)
def test_what_cannot_be_done_is_said(client: OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, **body)
    assert (caught.value.status_code, caught.value.param) == (404 if param == "input.0" else 400, param)
