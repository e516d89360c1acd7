"""`/v1/pinetune/webhooks`: make, list and remove the addresses that are told of ended jobs and eval runs."""

from __future__ import annotations

from fastapi import APIRouter

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Here
from pinetune.errors import NotFound
from pinetune.store.rows import Delivery, WebhookEndpoint
from pinetune.wire.document import describe
from pinetune.wire.lists import ListOf
from pinetune.wire.webhooks import CreateWebhook, DeliveryObject, WebhookDeleted, WebhookObject

routes = APIRouter(prefix="/pinetune/webhooks", tags=["pinetune"])


@routes.post("", operation_id="createWebhook", openapi_extra=describe(CreateWebhook))
def create_webhook(body: Body, here: Here, who: Who) -> WebhookObject:
    """Its secret is in this reply and in no other."""
    asked = check(body, CreateWebhook)
    made = here.store.webhooks.add(who.project, asked.url, asked.events)
    return _show(made).model_copy(update={"secret": made.secret})


@routes.get("", operation_id="listWebhooks")
def list_webhooks(here: Here, who: Who) -> ListOf[WebhookObject]:
    """All of the project."""
    return ListOf(data=[_show(item) for item in here.store.webhooks.list(who.project)], has_more=False)


@routes.delete("/{webhook_id}", operation_id="deleteWebhook")
def delete_webhook(webhook_id: str, here: Here, who: Who) -> WebhookDeleted:
    """What still waits to be sent to it is dropped."""
    here.store.webhooks.remove(webhook_id, who.project)
    return WebhookDeleted(id=webhook_id)


@routes.get("/{webhook_id}/deliveries", operation_id="listWebhookDeliveries")
def list_deliveries(webhook_id: str, here: Here, who: Who) -> ListOf[DeliveryObject]:
    """The last fifty, newest first, with what went wrong."""
    if here.store.webhooks.get(webhook_id).project != who.project:
        raise NotFound("webhook endpoint", webhook_id)
    return ListOf(data=[_delivery(item) for item in here.store.webhooks.deliveries(webhook_id)], has_more=False)


def _show(item: WebhookEndpoint) -> WebhookObject:
    return WebhookObject(id=item.id, created_at=int(item.created_at), url=item.url, events=item.types)


def _delivery(item: Delivery) -> DeliveryObject:
    return DeliveryObject(
        id=item.id,
        created_at=int(item.created_at),
        type=item.type,
        payload=item.payload,
        attempts=item.attempts,
        next_attempt_at=None if item.next_at is None else int(item.next_at),
        delivered_at=None if item.delivered_at is None else int(item.delivered_at),
        last_error=item.last_error,
    )
