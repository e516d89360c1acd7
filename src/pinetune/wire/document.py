"""How a body that a route reads by itself stands in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def describe(shape: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is a `shape`."""
    schema = shape.model_json_schema()
    named = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(named[node["$ref"].rsplit("/", 1)[1]])
        return {key: inline(value) for key, value in node.items() if key != "discriminator"}

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline(schema)}}}}
