"""An eval as a file: the body of `POST /v1/evals`, a grader, a fine-tuning job's body, or a promptfoo config.

Besides its criteria such a file may say how a model is asked (`input_messages`, `sampling_params`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pinetune.data.jsonl import parse_document
from pinetune.errors import UserError
from pinetune.evals.cases import RowSchema, check_schema
from pinetune.graders.build import parse_definition
from pinetune.wire.base import complaints
from pinetune.wire.evals import CustomConfig, EvalDocument, InputMessages

DEFAULTS: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "seed": 42}


@dataclass(frozen=True, slots=True)
class EvalFile:
    """`criteria` have ids: their names, numbered where two share one. `rows` are those that the file itself brings, if any."""

    name: str
    criteria: Sequence[Mapping[str, Any]]
    schema: RowSchema | None = None
    input_messages: InputMessages | None = None
    params: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    rows: Sequence[Mapping[str, Any]] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)  # a job body's "pinetune" section: where its judges are


def read_eval(path: Path) -> EvalFile:
    """Raises UserError that names the file and the place in it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name an eval, a grader, a job or a promptfoo config") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        from pinetune.evals.promptfoo import read_promptfoo

        return read_promptfoo(path)
    try:
        body = parse_document(raw)
    except ValueError as error:
        raise UserError(f"{path}: {error}; write one JSON object") from None
    return _from_body(body, path)


def named(definitions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Definitions with their names as ids, the same whenever the file is read.

    >>> [d["id"] for d in named([{"type": "python", "source": "def grade(sample, item): return 1"}] * 2)]
    ['python', 'python-2']
    """
    found: list[dict[str, Any]] = []
    for index, definition in enumerate(definitions):
        plain = {key: value for key, value in definition.items() if key != "id"}
        name = parse_definition(plain, f"testing_criteria[{index}]").name or str(plain["type"])
        same = sum(other["name"] == name for other in found)
        found.append({**plain, "name": name, "id": f"{name}-{same + 1}" if same else name})
    return found


def _from_body(body: dict[str, Any], path: Path) -> EvalFile:
    if isinstance(body.get("type"), str):
        return EvalFile(path.stem, named([body]))
    method = body.get("method")
    if isinstance(method, dict):
        return _from_job(body, method, path)
    try:
        document = EvalDocument.model_validate(body)
    except ValidationError as error:
        lines = [f"{path}: {where}: {said}" for where, said in complaints(error, EvalDocument)]
        raise UserError("\n".join(lines)) from None
    params = document.sampling_params.model_dump(exclude_none=True) if document.sampling_params else dict(DEFAULTS)
    name = document.name or path.stem
    return EvalFile(name, named(document.testing_criteria), _schema(document, path), document.input_messages, params)


def _from_job(body: Mapping[str, Any], method: Mapping[str, Any], path: Path) -> EvalFile:
    reinforcement = method.get("reinforcement")
    if not isinstance(reinforcement, dict) or not isinstance(reinforcement.get("grader"), dict):
        raise UserError(f"{path}: method.reinforcement.grader: is missing; this job has nothing to measure by")
    params = dict(DEFAULTS)
    if reinforcement.get("response_format"):
        params["response_format"] = reinforcement["response_format"]
    own = body.get("pinetune")
    name = str(body.get("suffix") or path.stem)
    return EvalFile(name, named([reinforcement["grader"]]), params=params, own=own if isinstance(own, dict) else {})


def _schema(document: EvalDocument, path: Path) -> RowSchema | None:
    config = document.data_source_config
    if not isinstance(config, CustomConfig):
        return None
    fault = check_schema(config.item_schema)
    if fault is not None:
        raise UserError(f"{path}: data_source_config.item_schema: not a JSON schema: {fault}")
    return RowSchema({"properties": {"item": config.item_schema}})
