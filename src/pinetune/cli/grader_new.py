"""`pinetune grader new`: the gallery's kinds, and one of them as a grader definition to keep, change and run anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pinetune.cli.grader_input import AsJson
from pinetune.errors import UserError

Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the kind; may be given again.")]


def new(
    kind: Annotated[str | None, typer.Argument(help="What the grader is for; leave it out to see the list.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    answer_field: Annotated[str | None, typer.Option(help="Field of the row that holds the reference answer.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the grader; default: the kind.")] = None,
    set_: Set = None,
    show_settings: Annotated[bool, typer.Option("--settings", help="List the kind's settings and their defaults.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a ready grader for a known use. Without KIND, list the kinds."""
    from pinetune.graders.gallery.kinds import KINDS, describe, new_grader, settings

    if kind is None:
        listed = {name: describe(name) for name in KINDS}
        typer.echo(json.dumps(listed) if as_json else "\n".join(f"{name:18} {said}" for name, said in listed.items()))
        return
    known = settings(kind)
    if show_settings:
        described = {key: {"default": setting.default, "help": setting.help} for key, setting in known.items()}
        lines = [f"{key:16} {setting.help} (default: {json.dumps(setting.default)})" for key, setting in known.items()]
        typer.echo(json.dumps(described) if as_json else "\n".join(lines))
        return
    values = _values(set_ or [])
    if answer_field is not None:
        values["answer_field"] = answer_field
    text = json.dumps(new_grader(kind, values, name=name), indent=2, ensure_ascii=False)
    if out is None:
        typer.echo(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); choose another place") from None
    typer.echo(f"{out}: {kind}; try it with: pinetune grader test {out} --data rows.jsonl")


def _values(texts: list[str]) -> dict[str, Any]:
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write NAME=VALUE, as --set decay=0.5")
        values[key.strip().lower().replace("-", "_")] = value
    return values
