"""JSON as it came over the wire: depth and characters are checked, because what is read here is stored, logged and answered again."""

from __future__ import annotations

import json
from typing import Any

from pinetune.wire.errors import ApiProblem

MAX_DEPTH = 100


def parse(raw: bytes) -> Any:
    """Raises ApiProblem 400 for what is not JSON, is nested too deeply, or holds text that is not Unicode."""
    if not raw.strip():
        raise ApiProblem(400, "This request needs a JSON body, and it has none", code="missing_body")
    try:
        data = json.loads(raw, parse_constant=_no_constant)
        if b"\\u" in raw:
            json.dumps(data, ensure_ascii=False).encode()  # an escape can write half a surrogate pair, which no reply could repeat
        _check_depth(data)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ApiProblem(400, f"We could not parse the JSON body of your request: {reason}", code="invalid_json") from None
    return data


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level if isinstance(node, dict | list) for inner in (node.values() if isinstance(node, dict) else node)]
        if not level:
            return
    raise RecursionError


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
