"""What the server does by itself, beside requests: webhooks are sent, expired things swept. Any number of servers may do it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable

import anyio
import httpx

from pinetune.errors import PinetuneError
from pinetune.store import Store
from pinetune.store.rows import Delivery, WebhookEndpoint

log = logging.getLogger("pinetune.api")
WEBHOOK_SECONDS = 2.0  # between looks into the outbox
SWEEP_SECONDS = 900.0
ANSWER_SECONDS = 15.0  # how long a receiver may take


async def run_chores(store: Store) -> None:
    """Until cancelled. A chore that fails is logged and done again at its next turn."""
    async with anyio.create_task_group() as group:
        group.start_soon(_again_and_again, WEBHOOK_SECONDS, lambda: send_webhooks(store))
        group.start_soon(_again_and_again, SWEEP_SECONDS, store.sweep)


async def _again_and_again(seconds: float, chore: Callable[[], int]) -> None:
    while True:
        try:
            await anyio.to_thread.run_sync(chore, abandon_on_cancel=True)
        except PinetuneError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a chore failed")
        await anyio.sleep(seconds)


def send_webhooks(store: Store) -> int:
    """Send what is due; how many were sent. At least once each: the receiver tells repeats apart by webhook-id."""
    sent = 0
    with httpx.Client(timeout=ANSWER_SECONDS, follow_redirects=False) as client:
        while (claimed := store.webhooks.claim(hold_seconds=4 * ANSWER_SECONDS)) is not None:
            delivery, endpoint = claimed
            error = _send(client, delivery, endpoint)
            if error:
                store.webhooks.failed(delivery, error)
            else:
                store.webhooks.delivered(delivery)
                sent += 1
    return sent


def _send(client: httpx.Client, delivery: Delivery, endpoint: WebhookEndpoint) -> str:
    """What went wrong, or ""."""
    body = json.dumps(delivery.payload, separators=(",", ":")).encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "pinetune",
        **signature(endpoint.secret, delivery.id, body, int(time.time())),
    }
    try:
        reply = client.post(endpoint.url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "" if reply.is_success else f"the receiver answered {reply.status_code}"


def signature(secret: str, id: str, body: bytes, timestamp: int) -> dict[str, str]:
    """The three headers of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time and body with the decoded secret."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}
