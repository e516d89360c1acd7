"""Chat completions through the official client: what the sampler gives is what HTTP gives, whole and streamed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from pinetune.models.load import load_model
from pinetune.records import Completion, Row, SamplingParams
from pinetune.sampling.local import LocalSampler

HI = [{"role": "user", "content": "Which gene could cause this?"}]


@pytest.fixture(scope="module")
def samplers(folders: Path) -> dict[str, LocalSampler]:
    return {name: LocalSampler(load_model(folders / name)) for name in ("tiny", "llama", "open")}


def sampled(sampler: LocalSampler, messages: list[Any], seed: int = 0, **params: Any) -> Completion:
    prompt = sampler.render(Row(index=0, messages=tuple(messages), item={}))
    given = {"max_tokens": 40, "thinking_budget": int(0.75 * params.get("max_tokens", 40)), **params}
    return next(sampler.sample([prompt], 1, SamplingParams(**given), [[seed]]))[2]


def ask(client: OpenAI, model: str = "test/tiny:v1", **body: Any) -> ChatCompletion:
    reply = client.chat.completions.create(**{"model": model, "messages": HI, "max_tokens": 40, **body})
    return ChatCompletion.model_validate(reply.model_dump(), strict=True)


def streamed(client: OpenAI, model: str = "test/tiny:v1", **body: Any) -> list[ChatCompletionChunk]:
    body = {"model": model, "messages": HI, "max_tokens": 40, "stream": True, **body}
    return [ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True) for chunk in client.chat.completions.create(**body)]


def joined(chunks: list[ChatCompletionChunk], index: int = 0) -> tuple[str, str]:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas), "".join(delta.content or "" for delta in deltas)


@pytest.mark.parametrize("name", ["tiny", "llama", "open"])
@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (1.0, 7), (0.7, 8)])
def test_http_gives_what_the_sampler_gives(
    client: OpenAI, samplers: dict[str, LocalSampler], name: str, temperature: float, seed: int
) -> None:
    expected = sampled(samplers[name], HI, seed, temperature=temperature)
    reply = ask(client, f"test/{name}:v1", temperature=temperature, seed=seed)
    message, usage = reply.choices[0].message, reply.usage
    assert (message.content, getattr(message, "reasoning_content", "")) == (expected.answer, expected.reasoning)
    assert reply.choices[0].finish_reason == expected.finish
    assert usage is not None and usage.completion_tokens_details is not None
    assert usage.completion_tokens == len(expected.token_ids)
    assert usage.completion_tokens_details.reasoning_tokens == expected.reasoning_tokens
    chunks = streamed(client, f"test/{name}:v1", temperature=temperature, seed=seed)
    assert joined(chunks) == (expected.reasoning, expected.answer)


def test_reply_has_the_hosted_fields(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="test/tiny:v1", messages=HI, max_tokens=3, seed=1).http_response.json()
    assert sorted(raw) == ["choices", "created", "id", "model", "object", "service_tier", "system_fingerprint", "usage"]
    assert sorted(raw["choices"][0]) == ["finish_reason", "index", "logprobs", "message"]
    assert raw["choices"][0]["message"]["refusal"] is None and raw["choices"][0]["logprobs"] is None
    assert raw["id"].startswith("chatcmpl-") and raw["object"] == "chat.completion" and raw["model"] == "test/tiny:v1"
    assert raw["usage"]["total_tokens"] == raw["usage"]["prompt_tokens"] + 3


def test_a_stream_says_its_role_first_why_it_ended_and_its_usage_last(client: OpenAI) -> None:
    chunks = streamed(client, seed=4, stream_options={"include_usage": True})
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert [bool(c.usage) for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 40
    assert len({c.id for c in chunks}) == 1
    assert all(c.usage is None for c in streamed(client, seed=4))


def test_stop_strings_end_the_answer_and_never_leak(client: OpenAI) -> None:
    whole = ask(client, temperature=0, max_tokens=60).choices[0].message.content or ""
    stop = whole[9:12]
    reply = ask(client, temperature=0, max_tokens=60, stop=[stop, "never written"])
    assert reply.choices[0].message.content == whole[: whole.index(stop)].rstrip()
    assert reply.choices[0].finish_reason == "stop"
    chunks = streamed(client, temperature=0, max_tokens=60, stop=stop)
    assert joined(chunks)[1] == reply.choices[0].message.content


def test_n_choices_differ_and_the_first_is_that_of_n_1(client: OpenAI) -> None:
    three = ask(client, n=3, seed=5)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in three.choices}) == 3
    assert three.choices[0].message.content == ask(client, seed=5).choices[0].message.content
    chunks = streamed(client, n=3, seed=5)
    assert [joined(chunks, i)[1] for i in range(3)] == [choice.message.content for choice in three.choices]


def test_twenty_clients_at_once_get_what_each_gets_alone(client: OpenAI) -> None:
    bodies = [
        {"seed": i, "temperature": (i % 3) / 2, "max_tokens": 8 + i, "messages": [{"role": "user", "content": "x " * (i + 1)}]}
        for i in range(20)
    ]
    alone = [ask(client, **body).choices[0].message for body in bodies]

    def one(body: dict[str, Any]) -> Any:
        return joined(streamed(client, **body))[1] if body["seed"] % 2 else ask(client, **body).choices[0].message.content

    with ThreadPoolExecutor(20) as threads:
        together = list(threads.map(one, bodies))
    assert together == [message.content for message in alone]


def test_unknown_model_is_404(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, "no/such:model")
    assert (caught.value.code, caught.value.param, caught.value.type) == ("model_not_found", "model", "invalid_request_error")


def test_a_broken_folder_is_a_clear_400_and_the_server_lives(client: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="broken", messages=HI, stream=stream)
        assert caught.value.code == "model_not_loadable" and "its folder: no such folder" in caught.value.message
    assert ask(client).choices


def test_context_length_exceeded(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, max_tokens=5000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "max_tokens")
    assert "maximum context length is 4096 tokens" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "x y z " * 4000}], max_tokens=None)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_logprobs_are_those_of_the_answers_tokens(client: OpenAI, samplers: dict[str, LocalSampler]) -> None:
    expected = sampled(samplers["tiny"], HI, 9, max_tokens=12)
    logprobs = ask(client, seed=9, max_tokens=12, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [token.logprob for token in logprobs.content] == pytest.approx(expected.logprobs, abs=2e-5)
    spelt = b"".join(bytes(token.bytes or []) for token in logprobs.content).decode("utf-8", errors="replace")
    assert spelt.strip() == expected.answer
    assert all(len(token.top_logprobs) == 3 for token in logprobs.content)
    chunks = streamed(client, seed=9, max_tokens=12, logprobs=True, top_logprobs=3)
    tokens = [token for chunk in chunks for choice in chunk.choices if choice.logprobs for token in choice.logprobs.content or []]
    assert tokens == logprobs.content


def test_structured_output(client: OpenAI) -> None:
    class Answer(BaseModel):
        gene: Literal["ABC1", "XYZ2"]

    parsed = client.chat.completions.parse(model="test/tiny:v1", messages=HI, response_format=Answer, max_tokens=100, seed=1)  # type: ignore[arg-type]
    assert parsed.choices[0].message.parsed in (Answer(gene="ABC1"), Answer(gene="XYZ2"))
    body: dict[str, Any] = {"response_format": {"type": "json_object"}, "max_tokens": 300, "temperature": 0.0, "logit_bias": {"60": 0}}
    assert (ask(client, **body).choices[0].message.content or "").startswith("{")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}})
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_json_schema")


@pytest.mark.parametrize(("effort", "tokens"), [("none", 0), ("low", 10), ("medium", 20), (None, 30), ("high", 36)])
def test_effort_caps_the_thinking(client: OpenAI, effort: str | None, tokens: int) -> None:
    usage = ask(client, "test/open:v1", reasoning_effort=effort, seed=2).usage
    assert usage is not None and usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == tokens + 1  # and the closing tag


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0.content.0"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"n": 0}, "n"),
    ],
)
def test_what_cannot_be_done_is_said(client: OpenAI, body: dict[str, Any], param: str) -> None:
    given = {"model": "test/tiny:v1", "messages": HI, "max_tokens": 4, **body}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=given, cast_to=object)
    assert caught.value.param == param
