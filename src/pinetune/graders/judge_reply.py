"""What a judge answered, read strictly: one verdict or none.

A judge that honours the schema returns bare JSON. Others wrap it into prose or code fences, which is let through as
long as there is one verdict: two that differ (one may be quoted from the answer under judgement) are no verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pinetune.errors import GradingFailed
from pinetune.graders.ask import AskReply

STEPS = {
    "type": "array",
    "description": "The reasoning, step by step, before the result.",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}
SHOWN = 300  # characters of a reply that could not be read


def verdict_schema(result: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's contract for judges: `steps` first, so that the judge thinks before it decides, then `result`."""
    return {
        "type": "object",
        "properties": {"steps": STEPS, "result": dict(result)},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects that stand in a text, in order, whatever is around them.

    >>> objects_in('Sure: ```json {"result": 1}``` {broken')
    [{'result': 1}]
    """
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    return found


def read_verdict(reply: AskReply) -> dict[str, Any]:
    """The object with a `result`. Raises GradingFailed("model_grader_parse_error") when there is none, or two that differ."""
    verdicts = [found for found in objects_in(reply.text) if "result" in found]
    if not verdicts:
        cut = " It was cut off at its token limit: raise sampling_params.max_completions_tokens." if reply.cut else ""
        raise unreadable(f"the judge's answer has no JSON object with a result.{cut}", reply)
    if any(other["result"] != verdicts[-1]["result"] for other in verdicts[:-1]):
        raise unreadable("the judge's answer has several results that differ", reply)
    return verdicts[-1]


def read_number(value: Any, reply: AskReply) -> float:
    """`value` as a finite float; a text that is a number is one. Raises GradingFailed("model_grader_parse_error")."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise unreadable("the judge's result is no finite number", reply)
    return number


def unreadable(what: str, reply: AskReply) -> GradingFailed:
    shown = reply.text.strip()[:SHOWN]
    return GradingFailed("model_grader_parse_error", f"{what} {reply.model} answered: {shown!r}")


def explained(verdict: Mapping[str, Any]) -> str:
    """The judge's steps as lines a person reads."""
    steps = verdict.get("steps")
    lines = [_line(step) for step in steps] if isinstance(steps, list) else [str(steps or "")]
    return "\n".join(line for line in lines if line)


def _line(step: Any) -> str:
    if not isinstance(step, Mapping):
        return str(step)
    said = [str(step[key]).strip() for key in ("description", "conclusion") if step.get(key)]
    return ": ".join(said)
