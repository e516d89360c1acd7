"""`pinetune grader`: try a grader on one answer before it trains anything, or only check its definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pinetune.errors import GraderError, UserError
from pinetune.graders.build import build_grader
from pinetune.records import Completion, Grade, Row

grader_app = typer.Typer(help="Run or check a grader.", no_args_is_help=True)

GraderFile = Annotated[Path, typer.Argument(metavar="GRADER.json", help="A grader in OpenAI's JSON, or a job body that holds one.")]
Unsafe = Annotated[bool, typer.Option("--unsafe-python-graders", help="Run python graders unconfined where the host cannot confine.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@grader_app.command()
def run(
    grader_file: GraderFile,
    answer: Annotated[str | None, typer.Option(help="The model's answer.")] = None,
    answer_file: Annotated[Path | None, typer.Option(help="A text file with the model's answer.")] = None,
    item: Annotated[Path | None, typer.Option(help="A JSON file with the dataset row (what templates call item).")] = None,
    unsafe_python_graders: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Grade one answer and print the reward, or why it could not be graded (exit code 1)."""
    if (answer is None) == (answer_file is None):
        raise UserError("give the answer with either --answer TEXT or --answer-file FILE")
    text = answer if answer is not None else _text(answer_file)  # type: ignore[arg-type]  # one of them is set
    row = Row(index=0, messages=(), item=_object(item, "an item") if item else {})
    grader = build_grader(_definition(grader_file), unsafe_python=unsafe_python_graders, json_answers=True)
    try:
        grade = grader.grade(Completion((), (), (), "stop", text), row)
    finally:
        grader.close()
    typer.echo(_as_json(grader.name, grade) if as_json else _as_text(grader.name, grade))
    if grade.status == "error":
        raise typer.Exit(1)


@grader_app.command()
def validate(grader_file: GraderFile, unsafe_python_graders: Unsafe = False) -> None:
    """Check a grader's definition without grading anything."""
    grader = build_grader(_definition(grader_file), unsafe_python=unsafe_python_graders)
    grader.close()
    typer.echo(f"{grader_file}: grader {grader.name} is valid")


def _definition(path: Path) -> dict[str, Any]:
    """The grader in a file: the object itself, or where a job body keeps it."""
    body = _object(path, "a grader")
    method = body.get("method")
    inner = method.get("reinforcement", {}).get("grader") if isinstance(method, dict) else body.get("grader")
    return inner if isinstance(inner, dict) and "type" not in body else body


def _object(path: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise GraderError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise GraderError(f"{path}: {what} must be one JSON object")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GraderError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise GraderError(f"{path}: not UTF-8 at byte {error.start}") from None


def _as_json(name: str, grade: Grade) -> str:
    fields = ("status", "value", "error_kind", "explanation", "seconds")
    body = {"name": name, **{field: getattr(grade, field) for field in fields}, "parts": dict(grade.parts)}
    return json.dumps(body if grade.status == "ok" else body | {"value": None}, ensure_ascii=False)


def _as_text(name: str, grade: Grade) -> str:
    if grade.status == "error":
        return f"{name}: could not grade ({grade.error_kind})\n{grade.explanation}"
    parts = "".join(f"\n  {part}: {value:g}" for part, value in grade.parts.items())
    printed = f"\nprinted:\n{grade.explanation}" if grade.explanation else ""
    return f"{name}: reward {grade.value:g} ({grade.seconds * 1000:.1f} ms){parts}{printed}"
