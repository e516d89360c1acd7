"""`pinetune grader`: try a grader on one answer, check its definition; `test` and `new` stand in files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pinetune.cli.grader_input import AsJson, GraderFile, Unsafe, read_grader, read_object, read_row, read_text
from pinetune.cli.grader_new import new
from pinetune.cli.grader_services import grader_services
from pinetune.cli.grader_test import test
from pinetune.errors import UserError
from pinetune.records import Completion, Grade, Row

grader_app = typer.Typer(help="Make, check, run and test graders.", no_args_is_help=True)


@grader_app.command()
def run(
    grader_file: GraderFile,
    answer: Annotated[str | None, typer.Option(help="The model's answer.")] = None,
    answer_file: Annotated[Path | None, typer.Option(help="A text file with the model's answer.")] = None,
    item: Annotated[Path | None, typer.Option(help="A JSON file with the dataset row (what templates call item).")] = None,
    data: Annotated[Path | None, typer.Option(help="A dataset file (JSONL) that --row picks the row from.")] = None,
    row: Annotated[int | None, typer.Option(min=1, help="Number of the row in --data, from 1.")] = None,
    unsafe_python_graders: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Grade one answer and print the reward, or why it could not be graded (exit code 1)."""
    if (answer is None) == (answer_file is None):
        raise UserError("give the answer with either --answer TEXT or --answer-file FILE")
    if (data is None) != (row is None) or (data is not None and item is not None):
        raise UserError("give the dataset row with either --item FILE or both --data FILE and --row N")
    text = answer if answer is not None else read_text(answer_file)  # type: ignore[arg-type]  # one of them is set
    graded = read_row(data, row) if data and row else Row(0, (), read_object(item, "an item") if item else {})
    source = read_grader(grader_file)
    with grader_services(source, grader_file) as judging:
        grader = source.build(unsafe_python=unsafe_python_graders, services=judging.services(0))
        try:
            grade = grader.grade(Completion((), (), (), "stop", text), graded)
        finally:
            grader.close()
    typer.echo(_as_json(grader.name, grade) if as_json else _as_text(grader.name, grade))
    if grade.status == "error":
        raise typer.Exit(1)


@grader_app.command()
def validate(grader_file: GraderFile, unsafe_python_graders: Unsafe = False, as_json: AsJson = False) -> None:
    """Check a grader's definition without grading anything, and say what it is made of and where its python can run."""
    from pinetune.cli.grader_parts import describe_parts, part_line

    source = read_grader(grader_file)
    grader, parts = describe_parts(source.definition, unsafe_python=unsafe_python_graders, where=source.where)
    if as_json:
        typer.echo(json.dumps({"valid": True, "name": grader, "parts": parts}, ensure_ascii=False))
        return
    typer.echo("\n".join([f"{grader_file}: grader {grader} is valid", *(f"  {part_line(part)}" for part in parts)]))


def _as_json(name: str, grade: Grade) -> str:
    fields = ("status", "value", "error_kind", "explanation", "seconds")
    body = {"name": name, **{field: getattr(grade, field) for field in fields}, "parts": dict(grade.parts)}
    body |= {"model": grade.model or None, "usage": {model: dict(used) for model, used in grade.usage.items()}}
    return json.dumps(body if grade.status == "ok" else body | {"value": None}, ensure_ascii=False)


grader_app.command()(test)
grader_app.command()(new)


def _as_text(name: str, grade: Grade) -> str:
    if grade.status == "error":
        return f"{name}: could not grade ({grade.error_kind})\n{grade.explanation}"
    parts = "".join(f"\n  {part}: {value:g}" for part, value in grade.parts.items())
    tokens = sum(used.get("total_tokens", 0) for used in grade.usage.values())
    judged = f"\njudged by {grade.model} ({tokens} tokens)" if grade.model else ""
    said = f"\n{'said' if grade.model else 'printed'}:\n{grade.explanation}" if grade.explanation else ""
    return f"{name}: reward {grade.value:g} ({grade.seconds * 1000:.1f} ms){parts}{judged}{said}"
