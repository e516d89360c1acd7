"""What `pinetune grader` reads: a definition (alone or in a job body), an item, a dataset row; and the grader built of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinetune.errors import DataError, GraderError
from pinetune.graders.options import Services
from pinetune.records import Row

if TYPE_CHECKING:
    from pinetune.records import Grader

GraderFile = Annotated[Path, typer.Argument(metavar="GRADER.json", help="A grader in OpenAI's JSON, or a job body that holds one.")]
Unsafe = Annotated[bool, typer.Option("--unsafe-python-graders", help="Run python graders unconfined where the host cannot confine.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@dataclass(frozen=True, slots=True)
class GraderInput:
    """A grader's definition and, where it came in a job body, the job's JSON schema for answers and its own settings."""

    definition: dict[str, Any]
    schema: Mapping[str, Any] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)  # the job's "pinetune" section: where its judges are
    where: str = "grader"  # file and JSON path of the definition, for complaints

    def build(self, *, unsafe_python: bool, services: Services | None = None) -> Grader:
        """Answers that are JSON are parsed for it (`sample.output_json`), as in `graders/run`."""
        from pinetune.graders.build import build_grader

        unsafe = unsafe_python or self.own.get("unsafe_python_graders") is True
        return build_grader(self.definition, unsafe_python=unsafe, json_answers=True, services=services, path=self.where)


def read_grader(path: Path) -> GraderInput:
    """Raises: GraderError naming the file where there is no grader in it."""
    body = read_object(path, "a grader")
    method = body.get("method")
    reinforcement = method.get("reinforcement") if isinstance(method, dict) else None
    if "type" in body or not isinstance(reinforcement, dict):
        inner = body.get("grader")
        return GraderInput(inner if isinstance(inner, dict) and "type" not in body else body, where=f"{path}: grader")
    if not isinstance(reinforcement.get("grader"), dict):
        raise GraderError(f"{path}: method.reinforcement.grader: is missing from this job body; add the grader")
    schema = None
    response_format = reinforcement.get("response_format")
    if isinstance(response_format, dict) and isinstance(response_format.get("json_schema"), dict):
        schema = response_format["json_schema"].get("schema")
    own = body.get("pinetune")
    return GraderInput(
        reinforcement["grader"],
        schema if isinstance(schema, dict) else None,
        own if isinstance(own, dict) else {},
        f"{path}: method.reinforcement.grader",
    )


def read_row(data: Path, number: int) -> Row:
    """Row `number` of a dataset file, counted from 1.

    Raises: DataError where the file has fewer rows.
    """
    from pinetune.data.rows import read_rows

    count = 0
    for row in read_rows(data, max_rows=None):
        count += 1
        if count == number:
            return row
    raise DataError(f"{data}: --row {number}: the file has {count} rows, counted from 1")


def read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise GraderError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise GraderError(f"{path}: nested too deeply to be read") from None
    if not isinstance(value, dict):
        raise GraderError(f"{path}: {what} must be one JSON object")
    return value


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GraderError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise GraderError(f"{path}: not UTF-8 at byte {error.start}") from None
