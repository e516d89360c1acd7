"""Runs as logs of inspect_ai (`inspect view`, its Python reader) and back. Its format: the JSON log, version 2.

Each item is a sample, each criterion a scorer. A criterion that could not grade gives the sample no score from it, so that its
accuracy, like ours, leaves such samples out. Pass and fail are its values "C" and "I" under `<criterion>`; where a criterion's scores
are no mere yes or no, `<criterion> score` holds them as numbers.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pinetune import __version__
from pinetune.errors import UserError
from pinetune.evals.items import tally
from pinetune.evals.measures import label
from pinetune.evals.run_file import StoredRun
from pinetune.runs import files

FORMAT = 2
CORRECT, INCORRECT = "C", "I"
STATUS = {"completed": "success", "failed": "error", "canceled": "cancelled", "in_progress": "started", "queued": "started"}
STOPS = {"stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls", "content_filter": "content_filter"}
ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
MARK = "pinetune"  # the metadata key under which an item is kept whole


def write_inspect_log(run: StoredRun, path: Path) -> None:
    """Write `run` as a `.json` log. Raises UserError for another ending: inspect_ai goes by it."""
    if path.suffix != ".json":
        raise UserError(f"{path}: inspect_ai reads logs that end in .json; choose such a name")
    files.write_json(path, inspect_log(run))


def inspect_log(run: StoredRun) -> dict[str, Any]:
    """The log as JSON."""
    created = _time(run.created_at)
    scorers = _scorers(run.items)
    samples = [_sample(item, epoch, scorers) for item, epoch in _numbered(run.items)]
    rows = {int(item["datasource_item_id"]) for item in run.items}
    model = run.model or "none/none"
    params = run.params or {}
    config = {ours: params[ours] for ours in ("temperature", "top_p", "seed") if params.get(ours) is not None}
    if params.get("max_completion_tokens") is not None:
        config["max_tokens"] = params["max_completion_tokens"]
    return {
        "version": FORMAT,
        "status": STATUS.get(run.status, "error"),
        "eval": {
            "run_id": _id(run, "run"),
            "created": created,
            "task": run.eval_name,
            "task_id": _id(run, "task"),
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "dataset": {"name": run.data or run.eval_name, "samples": len(rows), "sample_ids": sorted(rows), "shuffled": False},
            "model": model,
            "model_args": {},
            "config": {"epochs": max((sample["epoch"] for sample in samples), default=1)},
            "packages": {"pinetune": __version__},
        },
        "plan": {"name": "plan", "steps": [], "config": config},
        "results": {
            "total_samples": len(samples),
            "completed_samples": sum(s.get("error") is None for s in samples),
            "scores": _scores(samples),
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": _usage(run)},
        "samples": samples,
    }


def read_inspect_log(path: Path) -> StoredRun:
    """A run from a log, also from one that inspect_ai made: scorers become criteria, "C" and numbers from 0.5 on pass.

    Raises UserError for a file that is no log of version 2 with its samples.
    """
    log = files.read_json(path)
    if not isinstance(log, Mapping) or log.get("version") != FORMAT or not isinstance(log.get("eval"), Mapping):
        raise UserError(f"{path}: is no inspect_ai log in JSON, version {FORMAT}; `inspect log convert --to json` makes one")
    samples = log.get("samples")
    if not samples:
        raise UserError(f"{path}: the log holds no samples; write it with them (not --no-log-samples)")
    numbers = {id: index for index, id in enumerate(dict.fromkeys(str(sample["id"]) for sample in samples))}
    items = [_item(sample, numbers[str(sample["id"])]) for sample in samples]
    items.sort(key=lambda item: (item["datasource_item_id"], item["epoch"]))
    items = [{**{key: value for key, value in item.items() if key != "epoch"}, "position": place} for place, item in enumerate(items)]
    criteria = list(dict.fromkeys(result["name"] for item in items for result in item["results"]))
    ours = {theirs: status for status, theirs in STATUS.items() if status != "queued"}
    result = tally(((item["status"], item) for item in items), criteria)
    facts = log["eval"]
    made = datetime.datetime.fromisoformat(facts["created"]).timestamp()
    status = ours.get(str(log.get("status")), "failed")
    model = "" if facts["model"] == "none/none" else facts["model"]
    return StoredRun(
        path.stem, facts["task"], model, made, status, items, result, criteria, data=(facts.get("dataset") or {}).get("name") or ""
    )


def _sample(item: Mapping[str, Any], epoch: int, scorers: Mapping[str, bool]) -> dict[str, Any]:
    said = item["sample"]
    output = said["output"]
    text = str(output[0].get("content") or "") if output else ""
    messages = [_message(message) for message in said["input"]]
    choice = {
        "message": {"role": "assistant", "content": text, "source": "generate"},
        "stop_reason": STOPS.get(said["finish_reason"], "unknown"),
    }
    usage = {
        "input_tokens": said["usage"]["prompt_tokens"],
        "output_tokens": said["usage"]["completion_tokens"],
        "total_tokens": said["usage"]["total_tokens"],
    }
    body: dict[str, Any] = {
        "id": int(item["datasource_item_id"]),
        "epoch": epoch,
        "input": messages or "",
        "target": str(item["datasource_item"].get("reference_answer") or item["datasource_item"].get("answer") or ""),
        "messages": [*messages, choice["message"]] if output else messages,
        "output": {"model": said["model"], "choices": [choice] if output else [], "completion": text, "usage": usage},
        "scores": _sample_scores(item, text, scorers),
        "metadata": {MARK: {key: item[key] for key in ("status", "datasource_item", "results", "sample")}},
        "store": {},
        "events": [],
        "model_usage": {said["model"]: usage} if said["model"] and usage["total_tokens"] else {},
        "attachments": {},
    }
    if said.get("error"):
        fault = f"{said['error']['code']}: {said['error']['message']}"
        body["error"] = {"message": fault, "traceback": fault, "traceback_ansi": fault}
    return body


def _numbered(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Each item with its epoch: which of its row's samples it is, from 1."""
    seen: Counter[int] = Counter()
    for item in items:
        seen[int(item["datasource_item_id"])] += 1
        yield item, seen[int(item["datasource_item_id"])]


def _scorers(items: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Criterion id -> whether its scores are more than yes or no."""
    found: dict[str, bool] = {}
    for item in items:
        for result in item["results"]:
            graded = result.get("error") is None
            found[result["name"]] = found.get(result["name"], False) or (graded and result["score"] != float(result["passed"]))
    return found


def _sample_scores(item: Mapping[str, Any], text: str, scorers: Mapping[str, bool]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    names = _names(scorers)
    for result in item["results"]:
        if result.get("error") is not None:
            continue
        name = names[result["name"]]
        said = ((result.get("sample") or {}).get("output") or [{}])[0].get("content")
        shared = {"answer": text, "explanation": said, "metadata": {}, "history": []}
        scores[name] = {"value": CORRECT if result["passed"] else INCORRECT, **shared}
        if scorers[result["name"]]:
            scores[f"{name} score"] = {"value": float(result["score"]), **shared}
    return scores


def _names(ids: Iterable[str]) -> dict[str, str]:
    """Without their uuids where that leaves them apart."""
    listed = list(ids)
    labels = [label(id) for id in listed]
    return {id: name if labels.count(name) == 1 else id for id, name in zip(listed, labels, strict=True)}


def _scores(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """inspect_ai's summary of each scorer: its accuracy (or mean) over the samples that it scored, epochs of a sample averaged first."""
    values: dict[str, dict[Any, list[float]]] = {}
    graded: dict[str, int] = {}
    for sample in samples:
        for name, score in sample["scores"].items():
            number = score["value"] if isinstance(score["value"], float) else float(score["value"] == CORRECT)
            values.setdefault(name, {}).setdefault(sample["id"], []).append(number)
            graded[name] = graded.get(name, 0) + 1
    found = []
    for name, of_samples in values.items():
        means = [sum(numbers) / len(numbers) for numbers in of_samples.values()]
        metric = "mean" if name.endswith(" score") else "accuracy"
        metrics = {metric: {"name": metric, "value": sum(means) / len(means), "params": {}}}
        counts = {"scored_samples": graded[name], "unscored_samples": len(samples) - graded[name]}
        found.append({"name": name, "scorer": name, "reducer": "mean", **counts, "params": {}, "metrics": metrics})
    return found


def _item(sample: Mapping[str, Any], row: int) -> dict[str, Any]:
    kept = (sample.get("metadata") or {}).get(MARK)
    base = {"datasource_item_id": row, "epoch": int(sample.get("epoch") or 1)}
    if isinstance(kept, Mapping):
        return {**base, **kept}
    results = [_result(name, score) for name, score in (sample.get("scores") or {}).items()]
    fault = sample.get("error")
    status = "error" if fault or not results or any("error" in result for result in results) else "fail"
    if status == "fail" and all(result["passed"] for result in results):
        status = "pass"
    output = sample.get("output") or {}
    text = output.get("completion")
    if text is None and output.get("choices"):
        text = _text(output["choices"][0]["message"].get("content"))
    usage = output.get("usage") or {}
    asked = sample["input"] if isinstance(sample["input"], list) else [{"role": "user", "content": sample["input"]}]
    item = {"input": sample["input"], "target": sample.get("target"), **(sample.get("metadata") or {})}
    if isinstance(sample.get("target"), str):
        item.setdefault("answer", sample["target"])
    counts = {"prompt_tokens": usage.get("input_tokens", 0), "completion_tokens": usage.get("output_tokens", 0)}
    counts |= {"total_tokens": usage.get("total_tokens", 0), "cached_tokens": usage.get("input_tokens_cache_read") or 0}
    said = {
        "input": [{"role": message["role"], "content": _text(message.get("content")), "name": None} for message in asked],
        "output": [] if fault else [{"role": "assistant", "content": text or ""}],
        "finish_reason": "stop",
        "model": output.get("model") or "",
        "usage": counts,
        "error": {"code": "sample_error", "message": str(fault.get("message"))} if fault else None,
        "temperature": None,
        "max_completion_tokens": None,
        "top_p": None,
        "seed": None,
    }
    return {**base, "status": status, "datasource_item": item, "results": results, "sample": said}


def _result(name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """inspect_ai's words for a value: C, I, P (partly), N (no answer), yes and no, a number."""
    words = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
    value = score.get("value")
    number = float(value) if isinstance(value, bool | int | float) else words.get(str(value).lower())
    if number is not None and not math.isfinite(number):  # inspect_ai's NaN for a sample that a scorer left out
        number = None
    result: dict[str, Any] = {
        "name": name,
        "type": "inspect-scorer",
        "score": number or 0.0,
        "passed": (number or 0.0) >= 0.5,
        "sample": None,
    }
    if number is None:
        result["error"] = {"code": "other_error", "message": f"the score {str(value)[:100]!r} is no number"}
    return result


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": ROLES.get(message["role"], "user"), "content": _text(message.get("content"))}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return str(content or "")


def _usage(run: StoredRun) -> dict[str, Any]:
    return {
        usage["model_name"]: {
            "input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"], "total_tokens": usage["total_tokens"],
        }
        for usage in run.result.get("per_model_usage") or []
    }  # fmt: skip


def _time(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")


def _id(run: StoredRun, kind: str) -> str:
    """The same for the same run: writing a log again changes nothing in it."""
    return hashlib.sha256(f"{kind} {run.name} {run.created_at}".encode()).hexdigest()[:22]
