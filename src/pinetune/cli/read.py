"""`pinetune read RUN`: a run's answers as cards a person can read, and an expert's marks on them."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pinetune.data.answers import right_answer
from pinetune.errors import UserError

if TYPE_CHECKING:
    from pinetune.reading.marks import Mark
    from pinetune.reading.search import Answer, Found, Query

SHOWN = 600  # characters of a text on a card, unless the whole is asked for


def read(
    run: Annotated[list[Path], typer.Argument(help="one or more run folders")],
    text: Annotated[str, typer.Option(help="in thinking or answer, whatever the case")] = "",
    regex: Annotated[str, typer.Option(help="the same as a regular expression, as written")] = "",
    prompt: Annotated[str, typer.Option(help="in what the model was asked")] = "",
    contains: Annotated[str, typer.Option(help="in any of the three, whatever the case")] = "",
    reward_min: Annotated[float | None, typer.Option(help="least reward")] = None,
    reward_max: Annotated[float | None, typer.Option(help="highest reward")] = None,
    part: Annotated[str | None, typer.Option(metavar="NAME,MIN,MAX", help="a grader part within these bounds")] = None,
    step: Annotated[int | None, typer.Option(help="one step")] = None,
    row: Annotated[int | None, typer.Option(help="one row, counted from 0 as in the ids shown")] = None,
    status: Annotated[str | None, typer.Option(help="ok or error (could not be graded)")] = None,
    finish: Annotated[str | None, typer.Option(help="stop or length (cut off)")] = None,
    source: Annotated[str | None, typer.Option(help="train (rollouts) or eval (held-out reports)")] = None,
    report: Annotated[str | None, typer.Option(help="one held-out report: a step's number, or final-tuned")] = None,
    sort: Annotated[str, typer.Option(help="newest, oldest, reward, -reward, tokens, -tokens")] = "newest",
    limit: Annotated[int, typer.Option(min=1)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    whole: Annotated[bool, typer.Option("--whole", help="texts in full")] = False,
    mark: Annotated[str | None, typer.Option(metavar="ID", help="put an expert's verdict on this answer")] = None,
    verdict: Annotated[str | None, typer.Option(help="right, wrong, or a number from 0 to 1")] = None,
    note: Annotated[str, typer.Option(help="why")] = "",
    by: Annotated[str | None, typer.Option(help="whose verdict; default: the user's name")] = None,
    marks: Annotated[bool, typer.Option("--marks", help="list the verdicts")] = False,
    export: Annotated[Path | None, typer.Option(help="write the verdicts for pinetune grader test --labels")] = None,
    data: Annotated[Path | None, typer.Option(help="the run's training file, for --export, where it is not beside the run")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
) -> None:
    """Read a run's answers: search, filter, and mark grades that are wrong."""
    if mark is not None:
        mark_command(run[0], mark, verdict, note, by)
    elif marks or export is not None:
        marks_command(run[0], export, data, as_json)
    else:
        query = query_of(
            part, text=text, regex=regex, prompt=prompt, anywhere=contains, reward_min=reward_min, reward_max=reward_max, step=step,
            row=row, status=status, finish=finish, source=source, report=report, sort=sort, limit=limit, offset=offset,
        )  # fmt: skip
        read_command(run, query, whole=whole, as_json=as_json)


def read_command(runs: list[Path], query: Query, *, whole: bool, as_json: bool) -> None:
    """Print what fits, newest first."""
    from pinetune.reading.marks import marks
    from pinetune.reading.search import search

    found = search(runs, query)
    if as_json:
        typer.echo(json.dumps({"total": found.total, "rows": [_object(row) for row in found.rows]}, ensure_ascii=False))
        return
    marked = {(str(run), one.rollout): one for run in runs for one in marks(run)}
    show(found, query, marked, len(runs) > 1, whole, Console())


CHOICES = {"status": ("ok", "error"), "finish": ("stop", "length"), "source": ("train", "eval")}


def query_of(part: str | None, **filters: Any) -> Query:
    """Raises UserError for a value that no answer can have."""
    from pinetune.reading.search import Query, part_of

    for name, known in CHOICES.items():
        if filters.get(name) not in (None, *known):
            raise UserError(f"--{name} {filters[name]}: write {' or '.join(known)}")
    try:
        return Query(part=None if part is None else part_of(part), **filters)
    except UserError as error:
        raise UserError(f"--part {error}") from None


def mark_command(run: Path, rollout: str, verdict: str | None, note: str, by: str | None) -> None:
    from pinetune.reading.marks import mark

    if verdict is None:
        raise UserError(f"--mark {rollout}: add --verdict right, wrong, or a number from 0 to 1")
    made = mark(run, rollout, verdict, note=note, by=by if by is not None else _user())
    typer.echo(_mark_line(made))


def _user() -> str:
    """ "" where nobody has a name, as in a container that runs under a bare number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def marks_command(run: Path, export_to: Path | None, data: Path | None, as_json: bool) -> None:
    """List the marks, or write them as labelled answers for the grader bench."""
    from pinetune.data.rows import load_rows
    from pinetune.reading.marks import export, marks

    if export_to is not None:
        count = export(run, export_to, load_rows(data, max_rows=None) if data else ())
        typer.echo(
            f"{_counted(count, 'labelled answer')}: {export_to}. Test the grader on them: "
            f"pinetune grader test JOB.json --data ROWS.jsonl --labels {export_to}"
        )
        return
    standing = marks(run)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in standing], ensure_ascii=False))
        return
    for one in standing:
        typer.echo(_mark_line(one))
    against = sum(one.disagrees for one in standing)
    typer.echo(f"{_counted(len(standing), 'mark')}, {against} against the grade." if standing else "No marks yet.")


def show(found: Found, query: Query, marked: dict[tuple[str, str], Mark], named: bool, whole: bool, console: Console) -> None:
    """One card an answer; `named`: with the run's name, where there are several."""
    from rich.text import Text

    for row in found.rows:
        head = f"{row.run}  {row.id}" if named else str(row.id)
        grade = f"reward {row.reward:.3g}" if row.reward is not None else f"could not be graded ({row.error_kind or 'error'})"
        cut = "" if row.finish == "stop" else ", cut off"
        console.print(Text(f"{head}  {grade}  {row.completion_tokens} tokens{cut}", style="bold"))
        _part(console, "asked", str(row.messages[-1].get("content") or "") if row.messages else "", whole)
        _part(console, "thought", row.reasoning, whole, "dim")
        _part(console, "answered", row.answer, whole)
        _part(console, "right", right_answer(row.item or {}) or "", whole)
        if row.parts:
            _part(console, "parts", ", ".join(f"{name} {_number(value)}" for name, value in row.parts.items()), whole)
        _part(console, "grader", row.explanation, whole, "dim")
        one = marked.get((row.run, str(row.id)))
        if one is not None:
            _part(console, "marked", _mark_line(one), True, "yellow")
        console.print()
    first = query.offset + 1
    of = f"{first} to {query.offset + len(found.rows)} of {found.total}" if found.rows else f"none of {found.total}" if found.total else "0"
    console.print(f"{of} answers fit.", highlight=False)


def _part(console: Console, name: str, text: str, whole: bool, style: str = "") -> None:
    from rich.padding import Padding
    from rich.text import Text

    text = text.strip()
    if text:
        shown = text if whole or len(text) <= SHOWN else f"{text[:SHOWN]} ... ({len(text) - SHOWN} more characters; --whole)"
        console.print(Padding(Text(f"{name}: {shown}", style=style), (0, 0, 0, 2), expand=False))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _mark_line(one: Mark) -> str:
    grade = "no grade" if one.reward is None else f"graded {one.reward:.3g}"
    return f"{one.rollout}: {one.label:g} by {one.by or 'nobody named'} ({grade}){f': {one.note}' if one.note else ''}"


def _object(row: Answer) -> dict[str, Any]:
    return {**asdict(row), "id": str(row.id)}
