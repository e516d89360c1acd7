"""The judge service against a real HTTP server: cache, turns, budget, what servers understand, and every failure."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from judge_server import DRIPS, HANGS, Answer, JudgeServer, Sent, fails, says, verdict

from pinetune.errors import BudgetSpent, GradingFailed, UserError
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.judges.service import JudgeService
from pinetune.judges.settings import JudgeSettings, Price

SCHEMA = {"type": "object", "properties": {"result": {"type": "number"}}, "required": ["result"]}


def question(text: str = "How good?", **more: Any) -> AskRequest:
    return AskRequest("judge-1", ({"role": "user", "content": text},), **{"schema": SCHEMA, "schema_name": "score", **more})


@pytest.fixture
def serve() -> Any:
    """serve(answer, **settings) -> (server, service); both are closed at the end."""
    opened: list[Any] = []

    def start(answer: Answer, **settings: Any) -> tuple[JudgeServer, JudgeService]:
        server = JudgeServer(answer)
        server.__enter__()
        service = JudgeService(JudgeSettings(**{"base_url": server.url, "api_key": "sk-secret-key-123", "retries": 0, **settings}))
        opened.extend((server, service))
        return server, service

    yield start
    for thing in reversed(opened):
        thing.close() if isinstance(thing, JudgeService) else thing.__exit__()


Serve = Callable[..., tuple[JudgeServer, JudgeService]]


def test_a_question_as_it_is_sent_and_its_answer(serve: Serve) -> None:
    server, service = serve(lambda n, body: says(verdict(0.5)), aliases={"o3": "judge-1"})
    asked = question(params={"temperature": 0, "max_completion_tokens": 9})
    reply = service.ask(AskRequest("o3", ({"role": "developer", "content": "Judge."}, *asked.messages), SCHEMA, "score", asked.params))
    assert reply == AskReply(
        verdict(0.5), "judge-1", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 0}
    )  # fmt: skip
    assert server.bodies == [
        {
            "model": "judge-1",
            "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "How good?"}],
            "temperature": 0,
            "max_completion_tokens": 9,
            "response_format": {"type": "json_schema", "json_schema": {"name": "score", "schema": SCHEMA, "strict": True}},
        }
    ]
    assert server.keys == ["Bearer sk-secret-key-123"]


def test_what_was_paid_is_not_asked_again_not_even_by_another_process(serve: Serve, tmp_path: Path) -> None:
    server, service = serve(lambda n, body: says(verdict(n)), cache=tmp_path / "deep" / "judges.sqlite")
    first = service.ask(question())
    again = service.ask(question())
    assert (again.text, again.usage, again.from_cache, first.from_cache) == (first.text, first.usage, True, False)
    with_file = JudgeService(service.settings)
    assert with_file.ask(question()).text == first.text
    with_file.close()
    assert server.count == 1
    for other in (question("How bad?"), question(repeat=1), question(params={"seed": 1}), question(schema=None), question(schema_name="x")):
        service.ask(other)
    assert server.count == 6
    assert (service.spending().questions, service.spending().tokens, service.from_cache) == (6, 90, 1)


def test_another_model_or_endpoint_is_another_judge(serve: Serve, tmp_path: Path) -> None:
    server, service = serve(lambda n, body: says(verdict(n)), cache=tmp_path / "c.sqlite")
    other_server, other = serve(lambda n, body: says(verdict(n)), cache=tmp_path / "c.sqlite", aliases={"judge-1": "judge-2"})
    service.ask(question())
    other.ask(question())
    assert (server.count, other_server.count, other_server.bodies[0]["model"]) == (1, 1, "judge-2")


def test_the_same_question_at_the_same_time_is_asked_once(serve: Serve) -> None:
    gate = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> Sent:
        gate.wait(10)
        return says(verdict(1))

    server, service = serve(answer)
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(service.ask, question()) for _ in range(8)]
        gate.set()
        assert {reply.result().text for reply in replies} == {verdict(1)}
    assert server.count == 1


def test_no_more_at_once_than_the_cap(serve: Serve) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    three = threading.Barrier(3, timeout=10)

    def answer(number: int, body: dict[str, Any]) -> Sent:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        three.wait()  # passes only if three are here together
        with lock:
            now[0] -= 1
        return says(verdict(1))

    server, service = serve(answer, concurrency=3)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(service.ask, [question(str(n)) for n in range(12)]))
    assert (server.count, most[0]) == (12, 3)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_may_pass_is_tried_again(serve: Serve, status: int) -> None:
    # The client honours the server's wait; a thousandth of a second keeps the test quick.
    server, service = serve(lambda n, body: fails(status, Retry_After="0.001") if n < 3 else says(verdict(1)), retries=2)
    assert service.ask(question()).text == verdict(1)
    assert server.count == 3


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (403, 1), (404, 1), (500, 3), (429, 3)])
def test_a_failure_is_an_error_in_plain_words_and_is_not_remembered(serve: Serve, status: int, tries: int) -> None:
    server, service = serve(lambda n, body: fails(status, "key sk-secret-key-123 is bad", retry_after_ms="1"), retries=2)
    for _ in range(2):
        with pytest.raises(GradingFailed, match=f"/v1 answered {status}: key .hidden. is bad") as caught:
            service.ask(question())
        assert caught.value.kind == "model_grader_server_error"
    assert server.count == 2 * tries
    assert service.spending().questions == 0


@pytest.mark.parametrize("sent", [HANGS, DRIPS], ids=["silent", "blanks"])
def test_a_judge_that_hangs_is_given_up(serve: Serve, sent: Sent) -> None:
    server, service = serve(lambda n, body: sent, timeout=0.05)
    with pytest.raises(GradingFailed, match=r"no answer within 0.05 s$") as caught:
        service.ask(question())
    assert (caught.value.kind, server.count) == ("model_grader_server_error", 1)


def test_a_place_where_nobody_listens(serve: Serve) -> None:
    server, service = serve(lambda n, body: says("x"))
    server.__exit__()
    server.__exit__ = lambda *_: None  # type: ignore[method-assign]  # closed already
    with pytest.raises(GradingFailed, match="cannot be reached") as caught:
        service.ask(question())
    assert caught.value.kind == "model_grader_server_error"


@pytest.mark.parametrize(
    "sent",
    [
        Sent({"choices": []}),
        Sent({"choices": None}),
        Sent({}),
        Sent([]),
        Sent("words"),
        Sent(b"<html>gateway</html>", 200, {"Content-Type": "text/html"}),
        Sent(b'{"choices": [', 200),
        Sent(b"", 200),
        Sent({"choices": [{"index": 0, "message": {"role": "assistant", "content": 5}, "finish_reason": "stop"}]}),
    ],
)
def test_an_answer_that_is_no_completion_is_a_server_error(serve: Serve, sent: Sent) -> None:
    with pytest.raises(GradingFailed) as caught:
        serve(lambda n, body: sent)[1].ask(question())
    assert caught.value.kind == "model_grader_server_error"


def test_refusals_have_their_own_kind_and_are_paid(serve: Serve) -> None:
    answers = [says(None, refusal="I cannot."), says("", finish="content_filter"), says(verdict(1))]
    _, service = serve(lambda n, body: answers[n - 1])
    for said in ("I cannot.", "content filter"):
        with pytest.raises(GradingFailed, match=said) as caught:
            service.ask(question())
        assert caught.value.kind == "model_grader_refusal_error"
    assert service.ask(question()).text == verdict(1)  # a refusal is not remembered
    assert service.spending().tokens == 45


def test_prose_is_returned_but_not_remembered(serve: Serve) -> None:
    server, service = serve(lambda n, body: says(verdict(1) if n == 1 else "I like it."))
    service.ask(question())
    assert service.ask(question("b")).text == "I like it."
    assert service.ask(question("b")).text == "I like it."
    assert server.count == 3


def only(form: str) -> Answer:
    """A server that refuses response_format but of one type."""

    def answer(number: int, body: dict[str, Any]) -> Sent:
        given = body.get("response_format", {"type": "text"})["type"]
        return says(verdict(1)) if given == form else fails(400, f"response_format.type {given} is not supported")

    return answer


@pytest.mark.parametrize(("form", "requests"), [("json_schema", [1, 2]), ("json_object", [2, 3]), ("text", [3, 4])])
def test_servers_without_schemas_are_asked_in_their_way(serve: Serve, form: str, requests: list[int]) -> None:
    server, service = serve(only(form))
    for number, count in enumerate(requests):
        assert service.ask(question(str(number))).text == verdict(1)
        assert server.count == count
    first = server.bodies[-1]["messages"][0]
    assert (first["role"] == "system" and json.dumps(SCHEMA) in first["content"]) == (form != "json_schema")


def test_a_server_that_ignores_schemas_is_asked_in_words(serve: Serve) -> None:
    def answer(number: int, body: dict[str, Any]) -> Sent:
        return says(verdict(1) if "must match this JSON schema" in body["messages"][0]["content"] else "Nice!")

    server, service = serve(answer)
    assert service.ask(question()).text == verdict(1)
    service.ask(question("b"))
    assert server.count == 3
    assert service.spending().tokens == 45


def test_one_prose_answer_among_json_changes_nothing(serve: Serve) -> None:
    """Also not when it was asked before anything was known of the server."""
    first_is_in = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> Sent:
        if "slow" in body["messages"][-1]["content"]:
            first_is_in.wait(10)
            return says("Nice!")
        return says(verdict(1))

    server, service = serve(answer)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(service.ask, question("slow"))
        service.ask(question("quick"))
        first_is_in.set()
        assert slow.result().text == "Nice!"
    service.ask(question("later"))
    assert server.count == 3
    assert {body["response_format"]["type"] for body in server.bodies} == {"json_schema"}


def test_settings_a_model_refuses_are_left_out_and_said(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def answer(number: int, body: dict[str, Any]) -> Sent:
        for name in ("reasoning_effort", "max_completion_tokens"):
            if name in body:
                return fails(400, f"Unsupported parameter: '{name}'")
        return says(verdict(1))

    server, service = serve(answer)
    params = {"reasoning_effort": "low", "max_completion_tokens": 50, "seed": 1}
    with caplog.at_level(logging.WARNING, "pinetune.judges"):
        service.ask(question(params=params))
        service.ask(question("b", params=params))
    assert server.count == 4
    assert {k: v for k, v in server.bodies[-1].items() if k in ("max_tokens", "seed", *params)} == {"max_tokens": 50, "seed": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "judge judge-1 is asked for JSON by json_schema and without reasoning_effort: its server knows no other way"
    ]


def test_a_question_refused_in_every_way_changes_nothing(serve: Serve) -> None:
    server, service = serve(lambda n, body: fails(400, "too long") if "long" in str(body["messages"]) else says(verdict(1)))
    with pytest.raises(GradingFailed, match="400: too long"):
        service.ask(question("long"))
    service.ask(question("short"))
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


def test_thinking_before_the_answer_is_no_answer(serve: Serve) -> None:
    _, service = serve(lambda n, body: says('<think>{"result": 0}</think>' + verdict(1)))
    assert service.ask(question()).text == verdict(1)


def test_a_spent_token_budget_asks_no_more_and_says_how_to_go_on(serve: Serve, tmp_path: Path) -> None:
    server, service = serve(lambda n, body: says(verdict(1)), budget_tokens=30, cache=tmp_path / "c.sqlite")
    service.keep_account(tmp_path / "spent.sqlite")
    service.ask(question("a"))
    service.ask(question("b"))
    with pytest.raises(BudgetSpent, match=r"budget of 30 tokens is spent \(2 questions, 30 tokens\); raise judge_budget_tokens"):
        service.ask(question("c"))
    assert service.ask(question("a")).from_cache  # what is known costs nothing
    service.close()
    resumed = JudgeService(service.settings)
    resumed.keep_account(tmp_path / "spent.sqlite")
    with pytest.raises(BudgetSpent):
        resumed.ask(question("c"))
    resumed.close()
    assert server.count == 2


def test_a_money_budget_counts_by_price(serve: Serve) -> None:
    prices = {"judge-1": Price(input=1000, output=2000)}  # 10 in, 5 out: 2 cents a question
    _, service = serve(lambda n, body: says(verdict(1)), budget_usd=0.04, prices=prices)
    service.ask(question("a"))
    assert service.spending().usd == pytest.approx(0.02)
    service.ask(question("b"))
    with pytest.raises(BudgetSpent, match=r"\$0.04 is spent \(2 questions, 30 tokens, \$0.04\); raise judge_budget_usd"):
        service.ask(question("c"))


def test_a_money_budget_asks_nobody_without_a_price(serve: Serve) -> None:
    server, service = serve(vectors, budget_usd=1.0)
    for ask in (lambda: service.ask(question()), lambda: service.embed(["a"], "e")):
        with pytest.raises(GradingFailed, match="judge_prices: no price for"):
            ask()
    assert server.count == 0


def test_a_server_that_does_not_count_is_counted_by_length(serve: Serve) -> None:
    _, service = serve(lambda n, body: says("x" * 40, tokens=None))
    assert service.ask(question("y" * 400, schema=None)).usage["total_tokens"] == 110


def vectors(number: int, body: dict[str, Any]) -> Sent:
    data = [{"object": "embedding", "index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])]
    return Sent({"object": "list", "data": data[::-1], "model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7}})


def test_embeddings_are_asked_for_once_a_text(serve: Serve) -> None:
    server, service = serve(vectors, aliases={"text-embedding-3-large": "e"})
    assert service.embed(["aa", "b"], "text-embedding-3-large") == [[2.0, 1.0], [1.0, 1.0]]
    assert service.embed(["b", "ccc", "aa", "ccc"], "text-embedding-3-large") == [[1.0, 1.0], [3.0, 1.0], [2.0, 1.0], [3.0, 1.0]]
    assert [(body["model"], body["input"]) for body in server.bodies] == [("e", ["aa", "b"]), ("e", ["ccc"])]
    assert service.spending().tokens == 14


@pytest.mark.parametrize("sent", [Sent({"data": []}), Sent({}), Sent("x"), fails(400, "no"), fails(404, "no")])
def test_embeddings_that_fail(serve: Serve, sent: Sent) -> None:
    with pytest.raises(GradingFailed) as caught:
        serve(lambda n, body: sent)[1].embed(["a"], "e")
    assert caught.value.kind == "model_grader_server_error"


def test_without_an_endpoint_the_way_to_name_one_is_said() -> None:
    service = JudgeService(JudgeSettings())
    with pytest.raises(GradingFailed, match="PINETUNE_JUDGE_BASE_URL"):
        service.ask(question())
    with pytest.raises(GradingFailed, match="PINETUNE_JUDGE_BASE_URL"):
        service.embed(["a"], "e")
    with pytest.raises(UserError, match="PINETUNE_JUDGE_BASE_URL"):
        service.settings.check(["judge-1"])
    service.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_text("words" * 1000)
    service = JudgeService(JudgeSettings(base_url="http://127.0.0.1:9/v1", cache=tmp_path / "c.sqlite"))
    with pytest.raises(UserError, match=r"c\.sqlite: cannot be used .* PINETUNE_JUDGE_CACHE"):
        service.ask(question())
    service.close()
