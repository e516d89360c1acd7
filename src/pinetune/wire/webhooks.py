"""Webhooks: who is told when jobs and eval runs end. On the hosted product they are made in its dashboard; here below /v1/pinetune."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from pinetune.wire.base import Wire

EventType = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
]


class CreateWebhook(Wire):
    """`events` empty or left out = all."""

    url: Annotated[str, Field(max_length=2000)]
    events: list[EventType] = Field(default_factory=list)

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")) or not url.isprintable():
            raise ValueError("must begin with http:// or https://")
        return url


class WebhookObject(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    url: str
    events: list[str]
    secret: str | None = None  # told once, when it is made: the client's `webhooks.unwrap` needs it


class WebhookDeleted(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    deleted: Literal[True] = True


class DeliveryObject(BaseModel):
    id: str  # of the event: the header webhook-id, the same at each attempt
    object: Literal["webhook_delivery"] = "webhook_delivery"
    created_at: int
    type: str
    payload: dict[str, Any]
    attempts: int
    next_attempt_at: int | None
    delivered_at: int | None
    last_error: str | None
