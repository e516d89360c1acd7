"""Bodies of evals and runs at the door: everything that can be wrong before a row is graded is a 400 that names its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinetune.api.bodies import check
from pinetune.api.context import Context
from pinetune.api.grader_check import check_grader
from pinetune.errors import GraderError, NotFound
from pinetune.store.rows import Eval
from pinetune.wire.errors import ApiProblem
from pinetune.wire.evals import (
    CompletionsSampling,
    CreateEval,
    CreateRun,
    CustomConfig,
    FileContent,
    FileId,
    JsonlSource,
    ResponsesSampling,
    ResponsesSource,
    SampledSource,
)
from pinetune.wire.problems import grader_problem

# What a row's `sample` holds, as the hosted API describes it.
CHOICE = {"type": "object", "properties": {"message": {"type": "object"}, "finish_reason": {"type": "string"}}}
SAMPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "choices": {"type": "array", "items": CHOICE},
        "output_text": {"type": "string"},
        "output_json": {"type": "object"},
        "output_tools": {"type": "array", "items": {"type": "object"}},
        "output_audio": {"type": ["object", "null"]},
        "output_reasoning_summary": {"type": ["string", "null"]},
        "input_tools": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "choices"],
}


def new_eval(body: Mapping[str, Any], here: Context) -> tuple[CreateEval, dict[str, Any]]:
    """The checked body, and what is kept of it. Raises ApiProblem 400."""
    from pinetune.evals.criteria import with_ids

    asked = check(dict(body), CreateEval)
    for index, definition in enumerate(asked.testing_criteria):
        path = f"testing_criteria[{index}]"
        check_grader(
            {key: value for key, value in definition.items() if key != "id"}, path, unsafe_python=here.settings.unsafe_python_graders
        )
    return asked, {"data_source_config": _shown_config(asked), "testing_criteria": with_ids(asked.testing_criteria)}


def new_run(body: Mapping[str, Any], evaluation: Eval, here: Context, project: str) -> tuple[CreateRun, dict[str, Any]]:
    """The checked body, and the data source as it is kept and shown. Raises ApiProblem 400."""
    asked = check(dict(body), CreateRun)
    source = asked.data_source
    rows = source.source
    if isinstance(rows, FileContent):
        _check_rows(rows, evaluation)
    if isinstance(rows, FileId):
        try:
            here.store.files.get(rows.id, project)
        except NotFound:
            text = f"No such File object: {rows.id}; upload the rows with purpose 'evals'"
            raise ApiProblem(400, text, code="invalid_value", param="data_source.source.id") from None
    if not isinstance(source, JsonlSource):
        _check_sampled(source, here, project)
    return asked, _normalised(asked)


def _shown_config(asked: CreateEval) -> dict[str, Any]:
    """A custom config comes back with the schema of whole rows; the others with what their rows are like."""
    from pinetune.evals.cases import check_schema

    config = asked.data_source_config
    if not isinstance(config, CustomConfig):
        plain = {"type": "object", "properties": {"item": {"type": "object"}, "sample": {"type": "object"}}, "required": ["item", "sample"]}
        return {"type": config.type, "metadata": config.metadata, "schema": plain}
    fault = check_schema(config.item_schema)
    if fault is not None:
        path = "data_source_config.item_schema"
        raise ApiProblem(400, f"{path}: not a JSON schema: {fault}", code="invalid_schema", param=path)
    properties: dict[str, Any] = {"item": config.item_schema}
    if config.include_sample_schema:
        properties["sample"] = SAMPLE_SCHEMA
    return {"type": "custom", "schema": {"type": "object", "properties": properties, "required": list(properties)}}


def _check_rows(rows: FileContent, evaluation: Eval) -> None:
    from pinetune.evals.cases import RowSchema

    config = evaluation.body["data_source_config"]
    if config["type"] != "custom":
        return
    schema = RowSchema(config["schema"])
    for index, row in enumerate(rows.content):
        fault = schema.fault(row.item)
        if fault is not None:
            path = f"data_source.source.content[{index}].{fault[0]}"
            text = f"{path}: {fault[1]}; change the row, or make an eval with another item_schema"
            raise ApiProblem(400, text, code="invalid_item", param=path)


def _check_sampled(source: SampledSource, here: Context, project: str) -> None:
    """A model that can be asked, messages that can be made."""
    from pinetune.evals.cases import Prompter

    from_rows = isinstance(source.source, FileContent | FileId)
    if source.model is None:
        if not from_rows and source.input_messages is None:
            return  # the stored answers themselves are graded
        text = (
            "data_source.model: is missing; name the model that answers the rows, or use type jsonl to grade answers that rows bring along"
        )
        raise ApiProblem(400, text, code="missing_required_parameter", param="data_source.model")
    _check_model(source.model, here, project)
    if source.input_messages is not None:
        try:
            Prompter(source.input_messages)
        except GraderError as error:
            found = grader_problem(error, "data_source.input_messages")
            raise ApiProblem(400, found.message, code="invalid_value", param=found.param) from None


def _check_model(model: str, here: Context, project: str) -> None:
    from pinetune.evals.places import Places

    try:
        here.store.models.resolve(model, project)
    except NotFound:
        if not Places.read().is_remote(model):
            text = (
                f"The model '{model}' does not exist or you do not have access to it; PINETUNE_REMOTE_MODELS names models of other servers"
            )
            raise ApiProblem(400, text, code="model_not_found", param="data_source.model") from None


def _normalised(asked: CreateRun) -> dict[str, Any]:
    """The data source with every default filled in, and template messages in their long form, as the hosted API echoes them."""
    body = asked.data_source.model_dump(exclude_none=True)
    if isinstance(asked.data_source, JsonlSource):
        return body
    if asked.data_source.model is not None and "sampling_params" not in body:
        defaults = ResponsesSampling() if isinstance(asked.data_source, ResponsesSource) else CompletionsSampling()
        body["sampling_params"] = defaults.model_dump(exclude_none=True)
    for message in (body.get("input_messages") or {}).get("template", []):
        message["type"] = "message"
        if isinstance(message["content"], str):
            written = "output_text" if message["role"] == "assistant" else "input_text"
            message["content"] = {"type": written, "text": message["content"]}
    return body
