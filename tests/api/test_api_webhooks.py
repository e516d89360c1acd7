"""Webhooks: told once a job ends, signed so that the official client believes it, sent again when nobody answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import PATIENCE, Service, connect, job_body, listening, service_on, upload_rows
from fastapi import FastAPI, Request, Response


class Receiver:
    def __init__(self) -> None:
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.answers = [500, 200]
        self.app = FastAPI()
        self.app.add_api_route("/hook", self.hook, methods=["POST"])

    async def hook(self, request: Request) -> Response:
        self.got.append((await request.body(), dict(request.headers)))
        return Response(status_code=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    found = Receiver()
    with listening(found.app) as url:
        yield found, f"{url}/hook"


def test_a_job_s_end_is_told(receiver: tuple[Receiver, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.api.chores.WEBHOOK_SECONDS", 0.05)
    monkeypatch.setattr("pinetune.store.webhooks.RETRY_SECONDS", (0.05,) * 7)
    found, url = receiver
    with service_on(tmp_path) as service, connect(service.url) as client, service.http() as http:
        made = http.post("/pinetune/webhooks", json={"url": url, "events": ["fine_tuning.job.cancelled"]}).json()
        assert made["secret"].startswith("whsec_")
        listed = http.get("/pinetune/webhooks").json()["data"]
        assert [(item["id"], item["secret"]) for item in listed] == [(made["id"], None)]
        job = client.fine_tuning.jobs.create(**job_body(upload_rows(client).id))
        client.fine_tuning.jobs.cancel(job.id)
        delivery = _delivered(service, http, made["id"])
        assert (delivery["attempts"], delivery["type"]) == (2, "fine_tuning.job.cancelled")
        assert [headers["webhook-id"] for _, headers in found.got] == [delivery["id"]] * 2  # a repeat can be told
        body, headers = found.got[1]
        event: Any = client.webhooks.unwrap(body, headers, secret=made["secret"])
        assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id)
        assert http.delete(f"/pinetune/webhooks/{made['id']}").json()["deleted"] is True
        assert http.get("/pinetune/webhooks").json()["data"] == []
        assert http.get("/pinetune/webhooks/we_none/deliveries").status_code == 404


def test_addresses_that_are_none(http: httpx.Client) -> None:
    for body, param in [({"url": "file:///etc/passwd"}, "url"), ({}, "url"), ({"url": "http://x", "events": ["job"]}, "events.0")]:
        reply = http.post("/pinetune/webhooks", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def _delivered(service: Service, http: httpx.Client, webhook: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for delivery in http.get(f"/pinetune/webhooks/{webhook}/deliveries").json()["data"]:
            if delivery["delivered_at"] is not None:
                return dict(delivery)
        time.sleep(0.05)
    raise AssertionError("nothing was delivered")
