"""How bodies and parameters that a route reads by itself stand in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

# A filter written as metadata[key]=value, as often as one likes.
METADATA: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}


def query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter that a route reads by itself; an object's keys stand in brackets."""
    bracketed = {"style": "deepObject", "explode": True} if schema.get("type") == "object" else {}
    return {"name": name, "in": "query", "required": False, "schema": schema, **bracketed}


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
