"""Objects as an OpenAI-compatible endpoint shows them, as the store's rows. Own ids, own times; what is not shown is None.

An object that lacks what every reader needs (an id, a time, a known method) is Unusable, with the reason; fields that are merely
absent get their neutral value.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from pinetune.errors import PinetuneError
from pinetune.store import NewEvent, ids
from pinetune.store.rows import Checkpoint, Eval, EvalRun, File, Job, OutputItem

Json = dict[str, Any]
METHODS = ("supervised", "dpo", "reinforcement")
LONGEST_NAME = 255


class Unusable(PinetuneError):
    """An object that cannot be kept; the message says why."""


def id_of(found: Json, name: str = "id") -> str:
    """An id that may stand in URLs and file names. Raises Unusable."""
    value = found.get(name)
    if not isinstance(value, str) or not ids.SAFE.fullmatch(value):
        raise Unusable(f"its {name} {str(value)[:40]!r} is no id")
    return value


def file_row(found: Json, project: str) -> File:
    name = "".join(c for c in str(found.get("filename") or "") if c.isprintable())[:LONGEST_NAME]
    return File(
        id=id_of(found),
        created_at=_time(found),
        project=project,
        purpose=str(found.get("purpose") or "user_data"),
        filename=name or id_of(found),
        bytes=_number(found.get("bytes")) or 0,
        sha256="",  # the store takes it from the content
        status=str(found.get("status") or "processed"),
        status_details=_text(found.get("status_details")),
        expires_at=_seconds(found.get("expires_at")),
    )


def job_row(found: Json, project: str, source: str) -> Job:
    """`source`: where it came from; kept in the body, which no reply shows."""
    id, model = id_of(found), _text(found.get("model"))
    if model is None or not isinstance(found.get("training_file"), str):
        raise Unusable("it names no model or no training file")
    method, settings = _method(found)
    own = _object(found.get("pinetune"))
    options = _object(own.get("options"))
    tuned = _text(found.get("fine_tuned_model"))
    suffix = _text(found.get("user_provided_suffix"))
    created = _time(found)
    finished = _seconds(found.get("finished_at"))
    body = {
        "model": model,
        "training_file": found["training_file"],
        "validation_file": _text(found.get("validation_file")),
        "method": {"type": method, method: settings},
        "seed": _number(found.get("seed")) or 0,
        "suffix": suffix,
        "metadata": _metadata(found),
        "pinetune": options or None,
        "imported": {"from": source, "organization_id": _text(found.get("organization_id"))},
    }
    return Job(
        id=id,
        created_at=created,
        updated_at=finished or created,
        project=project,
        status=cast(Any, str(found.get("status"))),
        pause_requested=False,
        model=model,
        method=method,
        body={key: value for key, value in body.items() if value is not None},
        hyperparameters=_object(settings.get("hyperparameters")) or None,
        training_file=found["training_file"],
        validation_file=_text(found.get("validation_file")),
        test_file=_text(options.get("test_file")),
        suffix=suffix,
        seed=_number(found.get("seed")) or 0,
        metadata=_metadata(found),
        integrations=[entry for entry in found.get("integrations") or [] if isinstance(entry, dict)] or None,
        tuned_name=tuned or _text(own.get("tuned_name")) or _unnamed(id, model, suffix),
        fine_tuned_model=tuned,
        started_at=None,
        finished_at=finished,
        estimated_finish=_seconds(found.get("estimated_finish")),
        trained_tokens=_number(found.get("trained_tokens")),
        usage_metrics=_object(found.get("usage_metrics")) or None,
        result_files=[str(file) for file in found.get("result_files") or []],
        error=_job_error(found),
        eval_id=_text(found.get("eval_id")),
        folder=None,
        step=_number(own.get("step")) or 0,
        worker=None,
        lease_until=None,
        attempts=0,
    )


def new_event(found: Json) -> NewEvent:
    id = id_of(found)
    return NewEvent(
        message=str(found.get("message") or ""),
        level=cast(Any, str(found.get("level") or "info")),
        type=cast(Any, str(found.get("type") or "message")),
        data=_object(found.get("data")) or None,
        key=id,
        created_at=_time(found),
        id=id,
    )


def checkpoint_row(found: Json, job_id: str) -> Checkpoint:
    """Its folder is "": the weights stay where they are, and the model cannot be called here."""
    step, model = _number(found.get("step_number")), _text(found.get("fine_tuned_model_checkpoint"))
    if step is None or model is None:
        raise Unusable("it names no step or no model")
    metrics = {name: value for name, value in _object(found.get("metrics")).items() if name != "step" and value is not None}
    return Checkpoint(id_of(found), _time(found), job_id, step, model, "", metrics)


def eval_row(found: Json, project: str) -> Eval:
    body = {"data_source_config": _object(found.get("data_source_config")), "testing_criteria": _objects(found, "testing_criteria", "type")}
    created = _time(found)
    return Eval(id_of(found), created, created, project, _text(found.get("name")), _metadata(found), body)


def run_row(found: Json, project: str, eval_id: str) -> EvalRun:
    counts = {name: _number(value) for name, value in _object(found.get("result_counts")).items()}
    result = {
        "result_counts": {name: number for name, number in counts.items() if number is not None},
        "per_model_usage": _objects(found, "per_model_usage", "model_name"),
        "per_testing_criteria_results": _objects(found, "per_testing_criteria_results", "testing_criteria"),
    }
    return EvalRun(
        id=id_of(found),
        created_at=_time(found),
        project=project,
        eval_id=eval_id,
        status=cast(Any, str(found.get("status"))),
        name=_text(found.get("name")),
        model=_text(found.get("model")),
        metadata=_metadata(found),
        body={"data_source": _object(found.get("data_source"))},
        result=result,
        error=_object(found.get("error")) or None,
        job_id=None,
        finished_at=None,
        worker=None,
        attempts=0,
    )


def item_row(found: Json, run_id: str, eval_id: str, position: int) -> OutputItem:
    """`position` counts the run's items: their datasource_item_id repeats where a row was answered several times."""
    body = {
        "datasource_item_id": _number(found.get("datasource_item_id")) or 0,
        "datasource_item": _object(found.get("datasource_item")),
        "results": _objects(found, "results", "name"),
        "sample": _object(found.get("sample")),
    }
    return OutputItem(id_of(found), _time(found), run_id, eval_id, position, str(found.get("status") or "fail"), body)


def _method(found: Json) -> tuple[str, Json]:
    """The method and its settings; jobs from before methods are supervised ones with `hyperparameters`."""
    given = _object(found.get("method"))
    name = str(given.get("type") or "supervised")
    if name not in METHODS:
        raise Unusable(f"its method {name[:40]!r} is not known here")
    settings = dict(_object(given.get(name)))
    if not _object(settings.get("hyperparameters")):
        settings["hyperparameters"] = {key: value for key, value in _object(found.get("hyperparameters")).items() if value is not None}
    return name, settings


def _job_error(found: Json) -> Json | None:
    """None also for the `{}` that the hosted API shows where nothing failed."""
    error = _object(found.get("error"))
    if not error.get("code") and not error.get("message"):
        return None
    return {"code": _text(error.get("code")) or "unknown", "message": _text(error.get("message")) or "", "param": _text(error.get("param"))}


def _unnamed(id: str, model: str, suffix: str | None) -> str:
    """A name for the model that a job never made: the same at every import."""
    return f"ft:{model}:imported:{suffix or ''}:{hashlib.sha256(id.encode()).hexdigest()[:12]}"


def _time(found: Json) -> float:
    moment = _seconds(found.get("created_at"))
    if moment is None:
        raise Unusable("it has no created_at")
    return moment


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _objects(found: Json, name: str, key: str) -> list[Json]:
    """The objects of a list that have a text under `key`."""
    given = found.get(name)
    return [entry for entry in given if isinstance(entry, dict) and isinstance(entry.get(key), str)] if isinstance(given, list) else []


def _metadata(found: Json) -> dict[str, str] | None:
    """Replies promise text for text."""
    given = _object(found.get("metadata"))
    return {name: value if isinstance(value, str) else str(value) for name, value in given.items()} or None


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
