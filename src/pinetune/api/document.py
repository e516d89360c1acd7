"""The OpenAPI document: FastAPI's, with the errors that are really sent in the place of its own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pinetune.wire.errors import ErrorEnvelope

ERROR = {
    "description": "OpenAI's error envelope",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
}
NOT_OURS = ("HTTPValidationError", "ValidationError")  # FastAPI's 422, which `problems` turns into a 400


def install(app: FastAPI) -> None:
    """Make `app.openapi()` tell the truth about errors. Made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI's documentation names


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": ERROR, "5XX": ERROR}
    schemas = made["components"]["schemas"]
    for name in NOT_OURS:
        schemas.pop(name, None)
    envelope = ErrorEnvelope.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= envelope.pop("$defs")
    schemas["ErrorEnvelope"] = envelope
    return made
