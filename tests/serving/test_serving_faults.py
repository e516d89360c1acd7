"""What nobody should send, and a store that cannot be written: always OpenAI's envelope, never a bare 500, no path of this machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_models import save_tiny

from pinetune.serving.app import FolderDirectory, create
from pinetune.serving.directory import ServedModel
from pinetune.serving.process import create_process_app
from pinetune.settings import Settings
from pinetune.store import Store

HALF = "\\ud800"  # an escape of half a surrogate pair: JSON, and no Unicode
CHAT = '{"model": "pinetune-mini", "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ask(home: Path) -> Iterator[TestClient]:
    with Store.open(Settings.read({}, home=home, busy_seconds=0.1)) as store:
        store.models.register("pinetune-mini", "pinetune-mini")
        headers = {"authorization": "Bearer secret", "x-pinetune-project": "proj_default", "content-type": "application/json"}
        app = create_process_app(store, "secret")
        with TestClient(app, base_url="http://127.0.0.1/v1", headers=headers, raise_server_exceptions=False) as client:
            yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", CHAT.replace("pinetune-mini", HALF) + "}"),
        ("/chat/completions", CHAT.replace("hi", HALF) + "}"),
        ("/chat/completions", CHAT + ', "stop": "' + HALF + '"}'),
        ("/responses", '{"model": "pinetune-mini", "input": "' + HALF + '"}'),
        ("/embeddings", '{"model": "pinetune-mini", "input": "' + HALF + '"}'),
        ("/chat/completions", CHAT + ', "metadata": ' + "[" * 150 + "]" * 150 + "}"),
        ("/chat/completions", CHAT + ', "temperature": NaN}'),
    ],
)
def test_text_that_is_none(ask: TestClient, path: str, body: str) -> None:
    reply = ask.post(path, content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json"), reply.text


@pytest.mark.parametrize(
    ("query", "param"), [("limit=99999999999999999999", "limit"), ("order=up", "order"), ("after=chatcmpl-none", "after")]
)
def test_parameters_that_are_none(ask: TestClient, query: str, param: str) -> None:
    reply = ask.get(f"/chat/completions?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "functions": [{"name": "f"}]}, "functions", "use tools"),
        ("/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "audio": {}}, "audio", "read and write text"),
        ("/responses", {"input": "hi", "conversation": "conv_1"}, "conversation", "use previous_response_id"),
    ],
)
def test_what_only_the_hosted_product_has_is_told_apart_from_a_misspelling(
    ask: TestClient, path: str, body: dict[str, Any], param: str, said: str
) -> None:
    error = ask.post(path, json={"model": "pinetune-mini", **body}).json()["error"]
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert error["message"].startswith(f"{param}: is not supported here; ") and said in error["message"]
    accepted = ask.post(path, json={"model": "nobody", **body, param: None}).json()["error"]
    assert accepted["code"] == "model_not_found"  # null is as if it were left out


@pytest.mark.parametrize("path", ["/nothing", "/models/a%0Ab"])
def test_an_address_that_is_none(ask: TestClient, path: str) -> None:
    for method in ("GET", "DELETE"):
        reply = ask.request(method, path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url"), reply.text
    reply = ask.put("/models")
    assert (reply.status_code, reply.json()["error"]["code"], reply.headers["allow"]) == (405, "method_not_allowed", "GET")


def test_a_locked_store_is_503(ask: TestClient, home: Path) -> None:
    with sqlite3.connect(home / "pinetune.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        reply = ask.post("/chat/completions", content=CHAT + ', "store": true}')
        other.execute("ROLLBACK")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "storage_busy"), reply.text
    assert reply.headers["retry-after"] == "2"


def test_a_fault_of_ours_is_an_envelope(ask: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"{home}")

    monkeypatch.setattr("pinetune.serving.stored.StoredModels.resolve", broken)
    reply = ask.post("/chat/completions", content=CHAT + "}", headers={"x-request-id": "req_7"})
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error"), reply.text
    assert "req_7" in reply.text and str(home) not in reply.text


def test_a_template_that_refuses_is_told_without_its_folder(tmp_path: Path) -> None:
    save_tiny(tmp_path / "fussy", "qwen3", "chatml", seed=3)
    (tmp_path / "fussy" / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    app = create(FolderDirectory([ServedModel("fussy", str(tmp_path / "fussy"))]))
    with TestClient(app, base_url="http://127.0.0.1/v1") as client:
        reply = client.post("/chat/completions", content=CHAT.replace("pinetune-mini", "fussy") + "}")
    text = reply.json()["error"]["message"]
    assert reply.status_code == 400 and "roles must alternate" in text and "this model" in text and str(tmp_path) not in text, text
