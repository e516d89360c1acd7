"""Output items of a run, and what they add up to: counts, usage of each model, results of each criterion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pinetune.evals.asking import USAGE, Answer
from pinetune.evals.cases import Case
from pinetune.evals.criteria import status_of
from pinetune.graders.template import as_text

Status = Literal["pass", "fail", "error"]


@dataclass(frozen=True, slots=True)
class Item:
    """`body` is what the API shows besides ids and times: datasource_item(_id), results, sample."""

    position: int
    status: Status
    body: Mapping[str, Any]


def make_item(
    case: Case, answer: Answer, results: Sequence[Mapping[str, Any]], params: Mapping[str, Any], input: Sequence[Any] = ()
) -> Item:
    """The item of an answered and graded row; one that was not answered is an error, with no results."""
    status = "error" if answer.error else status_of(results)
    body = {
        "datasource_item_id": case.position if case.row is None else case.row,
        "datasource_item": dict(case.item),
        "results": [dict(result) for result in results],
        "sample": shown_sample(answer, params, input),
    }
    return Item(case.position, cast(Status, status), body)


def shown_sample(answer: Answer, params: Mapping[str, Any], input: Sequence[Any] = ()) -> dict[str, Any]:
    """The sample as it is shown. Settings that were left to the model, and all where no model was asked, stand as null."""
    message = _output(answer)
    return {
        "input": [{"role": str(m.get("role", "")), "content": _text(m.get("content")), "name": m.get("name")} for m in input],
        "output": [] if message is None else [message],
        "finish_reason": answer.finish,
        "model": answer.model,
        "usage": {name: answer.usage.get(name, 0) for name in USAGE},
        "error": None if answer.error is None else {"code": answer.error[0], "message": answer.error[1]},
        "temperature": params.get("temperature"),
        "max_completion_tokens": params.get("max_completion_tokens"),
        "top_p": params.get("top_p"),
        "seed": params.get("seed"),
    }


def tally(items: Iterable[tuple[str, Mapping[str, Any]]], criteria: Sequence[str]) -> dict[str, Any]:
    """What a run's (status, body) pairs add up to: result_counts, per_model_usage, per_testing_criteria_results.

    `criteria` are the ids, in the order of the eval. Models that were asked come first, judges after them.
    """
    counts = {"total": 0, "errored": 0, "failed": 0, "passed": 0}
    per: dict[str, dict[str, int]] = {id: {"passed": 0, "failed": 0, "errored": 0} for id in criteria}
    sampled: dict[str, dict[str, int]] = {}
    judged: dict[str, dict[str, int]] = {}
    for status, body in items:
        counts["total"] += 1
        counts[{"pass": "passed", "fail": "failed"}.get(status, "errored")] += 1
        sample = body.get("sample") or {}
        if sample.get("model") and any((sample.get("usage") or {}).values()):
            _add(sampled, str(sample["model"]), sample["usage"])
        for result in body.get("results") or []:
            kind = "errored" if result.get("error") is not None else "passed" if result["passed"] else "failed"
            per.setdefault(result["name"], {"passed": 0, "failed": 0, "errored": 0})[kind] += 1
            for model, usage in ((result.get("sample") or {}).get("usage_per_model") or {}).items():
                _add(judged, model, usage)
    usage = [{"model_name": model, **used} for used_by in (sampled, judged) for model, used in used_by.items()]
    return {
        "result_counts": counts,
        "per_model_usage": usage,
        "per_testing_criteria_results": [{"testing_criteria": id, **found} for id, found in per.items()],
    }


def _add(totals: dict[str, dict[str, int]], model: str, usage: Mapping[str, Any]) -> None:
    total = totals.setdefault(model, dict.fromkeys(("invocation_count", *USAGE), 0))
    total["invocation_count"] += 1
    for name in USAGE:
        total[name] += int(usage.get(name) or 0)


def _output(answer: Answer) -> dict[str, Any] | None:
    given = answer.completion.given or {}
    if answer.error is not None or (given.get("output_text", answer.completion.answer) is None and not answer.completion.tool_calls):
        return None
    message: dict[str, Any] = {"role": "assistant", "content": answer.completion.answer}
    if answer.completion.tool_calls:
        message["tool_calls"] = [dict(call) for call in answer.completion.tool_calls]
    return message


def _text(content: Any) -> str:
    """Content as the client's types want it: text, with parts joined."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join(part.get("text") or f"[{part.get('type')}]" if isinstance(part, Mapping) else str(part) for part in content)
    return as_text(content)
