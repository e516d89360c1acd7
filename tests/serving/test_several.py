"""Several samples, one answer, through the official client: the vote is the vote over what `n` gives, the reranker's pick its highest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from pinetune.evals.answer_rules import open_rule
from pinetune.evals.voting import vote
from pinetune.models.load import load_model
from pinetune.models.reranker import Reranker, new_reranker
from pinetune.records import Row
from pinetune.serving.app import FolderDirectory

HI = [{"role": "user", "content": "Which gene could cause this?"}]
ASKED: dict[str, Any] = {"model": "test/tiny:v1", "messages": HI, "max_tokens": 12, "seed": 5}


def chat(client: OpenAI, **pinetune: Any) -> dict[str, Any]:
    raw = client.chat.completions.with_raw_response.create(**ASKED, extra_body={"pinetune": pinetune})
    return dict(raw.http_response.json())


@pytest.fixture(scope="module")
def samples(client: OpenAI) -> list[tuple[str, str]]:
    """(reasoning, answer) of each of six samples, as `n` gives them."""
    reply = client.chat.completions.create(**ASKED, n=6)
    return [(getattr(one.message, "reasoning_content", None) or "", one.message.content or "") for one in reply.choices]


def test_the_voted_answer_is_the_one_choice(client: OpenAI, samples: list[tuple[str, str]]) -> None:
    reply = chat(client, samples=6, rule="text", vote=True)
    voted = vote([answer for _, answer in samples], open_rule("text"))
    assert [choice["message"]["content"] for choice in reply["choices"]] == [voted.answer]
    assert reply["pinetune"] == {"samples": 6, "rule": "text", "share": voted.share}
    whole = client.chat.completions.create(**ASKED, n=6).usage
    assert whole is not None and reply["usage"]["completion_tokens"] == whole.completion_tokens
    assert reply["usage"]["prompt_tokens"] == whole.prompt_tokens


def test_a_response_votes_too(client: OpenAI) -> None:
    reply = client.responses.create(
        model="test/tiny:v1", input="Which gene could cause this?", max_output_tokens=12, extra_body={"pinetune": {"samples": 3}, "seed": 5}
    )
    body = reply.model_dump()
    assert body["pinetune"]["samples"] == 3 and 0 < body["pinetune"]["share"] <= 1 and body["pinetune"]["rule"] == "text"
    assert [item["type"] for item in body["output"] if item["type"] == "message"] == ["message"]
    assert reply.usage is not None and reply.usage.output_tokens == 36
    assert client.responses.retrieve(reply.id).model_dump()["pinetune"] == body["pinetune"]


@pytest.fixture(scope="module")
def reranker(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reranker]:
    home = tmp_path_factory.mktemp("rerankers")
    made = new_reranker(load_model(folders / "tiny"), seed=4)
    made.save(home / "genes", {})
    return home, made


def test_the_reranker_picks_its_highest_score(
    models: list[Any], samples: list[tuple[str, str]], reranker: tuple[Path, Reranker], new_server: Any
) -> None:
    home, made = reranker
    with new_server(FolderDirectory(models), rerankers=home) as (client, _):
        reply = chat(client, samples=6, rerank="genes")
        scores = made.score_answers(Row(0, tuple(HI), {}), samples)
        assert reply["choices"][0]["message"]["content"] == samples[scores.index(max(scores))][1]
        assert reply["pinetune"]["score"] == pytest.approx(max(scores), abs=1e-5)
        assert (reply["pinetune"]["rerank"], reply["pinetune"]["samples"], len(reply["choices"])) == ("genes", 6, 1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"pinetune": {"samples": 1}}, "pinetune.samples"),
        ({"pinetune": {"rule": "frist"}}, "pinetune.rule"),
        ({"pinetune": {"rule": "program"}}, "pinetune.rule"),
        ({"pinetune": {"rerank": "../secret"}}, "pinetune.rerank"),
        ({"pinetune": {"rerank": "genes", "vote": True}}, "pinetune.vote"),
        ({"pinetune": {}, "n": 2}, "n"),
        ({"pinetune": {}, "stream": True}, "stream"),
        ({"pinetune": {}, "logprobs": True}, "logprobs"),
    ],
)
def test_what_does_not_go_together_is_refused(client: OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED, extra_body=body)
    assert caught.value.param == param


def test_an_unknown_reranker_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist"):
        chat(client, rerank="nobody")
