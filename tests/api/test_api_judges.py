"""A judge's name that the operator gave to a model of this server: graders/run, jobs and evals ask that model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import Service, listening, service_on
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from tiny_models import save_tiny

from pinetune.serving.process import create_process_app
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.worker.eval_runs import EvalRunner

JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "o3-2025-04-16",
    "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
    "range": [0, 10],
}
RUN = "/fine_tuning/alpha/graders/run"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PINETUNE_JUDGE_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PINETUNE_JUDGE_API_KEY", "PINETUNE_MODEL_ALIASES"):
        monkeypatch.delenv(name, raising=False)


class Serving:
    """Answers every chat with a verdict, or with an error, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.error = False
        self.app = FastAPI()
        self.app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])

    async def chat(self, request: Request) -> JSONResponse:
        self.asked.append((dict(request.headers), await request.json()))
        if self.error:
            return JSONResponse(
                {"error": {"message": "no memory left", "type": "server_error", "param": None, "code": None}}, status_code=503
            )
        verdict = json.dumps({"steps": [{"description": "d", "conclusion": "c"}], "result": 7.5})
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": verdict}}]})


@pytest.fixture
def serving() -> Serving:
    return Serving()


@pytest.fixture
def linked(serving: Serving, tmp_path: Path) -> Iterator[Service]:
    with listening(serving.app) as url, service_on(tmp_path / "home", url, "s3cret") as running:
        yield running


def graded(service: Service, **more: Any) -> dict[str, Any]:
    with service.http() as http:
        reply = http.post(RUN, json={"grader": JUDGE, "model_sample": "42", **more})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_graders_run_asks_the_model_that_the_alias_names(linked: Service, serving: Serving) -> None:
    before = graded(linked)["metadata"]["errors"]
    assert before["model_grader_server_error"] and "pinetune models alias o3-2025-04-16" in before["model_grader_server_error_details"]
    linked.store.models.register("house", str(linked.settings.home / "weights"))
    linked.store.models.set_alias("o3-2025-04-16", "house")
    found = graded(linked)
    assert (found["reward"], found["metadata"]["sampled_model_name"]) == (7.5, "local:house")
    headers, body = serving.asked[-1]
    assert (headers["authorization"], body["model"], body["temperature"]) == ("Bearer s3cret", "house", 0.0)
    assert body["messages"][-1] == {"role": "user", "content": "How good is 42?"}
    assert body["response_format"]["json_schema"]["schema"]["properties"]["result"]["type"] == "number"
    count = len(serving.asked)
    assert graded(linked)["reward"] == 7.5 and len(serving.asked) == count  # its answers are kept like any judge's
    assert (linked.settings.home / "judges.sqlite").is_file()  # beside the server's own things, wherever --home is


def test_a_serving_process_that_fails_is_an_error_flag(linked: Service, serving: Serving) -> None:
    linked.store.models.register("house", "somewhere/else")
    linked.store.models.set_alias("o3-2025-04-16", "house")
    serving.error = True
    errors = graded(linked)["metadata"]["errors"]
    assert errors["model_grader_server_error"] and errors["model_grader_server_error_details"] == "judge house: no memory left"


@pytest.mark.slow
def test_the_real_serving_process_judges(tmp_path: Path) -> None:
    with Store.open(Settings.read({}, home=tmp_path / "home")) as store, listening(create_process_app(store, "s3cret")) as url:
        store.models.register("house", "pinetune-mini")
        store.models.set_alias("o3-2025-04-16", "house")
        with service_on(tmp_path / "home", url, "s3cret") as service:
            found = graded(service)
    assert found["metadata"]["errors"]["model_grader_server_error_details"] is None
    assert 0 <= found["reward"] <= 10 and found["metadata"]["sampled_model_name"] == "local:house"


@pytest.mark.slow
def test_an_eval_asks_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = save_tiny(tmp_path / "tiny", positions=1024)
    home = tmp_path / "home"
    monkeypatch.setenv("PINETUNE_HOME", str(home))
    monkeypatch.setenv("PINETUNE_DATABASE_URL", f"sqlite:///{home / 'pinetune.db'}")
    with service_on(home) as service, service.http() as http:
        service.store.models.register("house", str(tiny))
        service.store.models.set_alias("o3-2025-04-16", "house")
        made = _new_eval(http)
        row = {"item": {"q": "6 * 7?"}, "sample": {"output_text": "42"}}
        source = {"type": "jsonl", "source": {"type": "file_content", "content": [row]}}
        run = http.post(f"/evals/{made}/runs", json={"data_source": source}).json()["id"]
        assert EvalRunner(service.store, service.settings, "w", threading.Event()).one()
        (item,) = http.get(f"/evals/{made}/runs/{run}/output_items").json()["data"]
    (result,) = item["results"]
    assert item["status"] in ("pass", "fail") and 0 <= result["score"] <= 10


def _new_eval(http: httpx.Client) -> str:
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    made = http.post("/evals", json={"data_source_config": config, "testing_criteria": [{**JUDGE, "pass_threshold": 5}]})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])
