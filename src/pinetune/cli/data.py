"""`pinetune data ...`: check files, split them, and bring rare-disease cases into RFT form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pinetune.data.compact import Imported
    from pinetune.data.split import Split

data_app = typer.Typer(help="Check, split and import datasets.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="print one JSON object for machines")]
Out = Annotated[Path | None, typer.Option(help="folder to write to")]
Seed = Annotated[int, typer.Option(help="fixes the split")]
PerGroup = Annotated[int | None, typer.Option(min=1, help="at most so many rows of one group in a file")]
PerGroupValid = Annotated[int | None, typer.Option(min=1, help="a lower cap for valid and test: more groups there, narrower intervals")]
Test = Annotated[int, typer.Option(min=0, help="rows for test.jsonl")]

SHOWN_NAMES = 3  # skipped files named per reason


@data_app.command()
def check(
    train: Annotated[Path, typer.Argument(help="training file (RFT JSONL)")],
    valid: Annotated[Path | None, typer.Argument(help="validation file, checked for overlap with the training file")] = None,
    answer_field: Annotated[str | None, typer.Option(help="field of the answer; default: found by its usual names")] = None,
    allow_answer_overlap: Annotated[bool, typer.Option(help="answers are labels of a closed set, or worked out from the prompt")] = False,
    as_json: Json = False,
) -> None:
    """Read files as a job would, and report rows, answers, skew and overlap."""
    from pinetune.data.answers import count_by, effective_number, find_answer_field
    from pinetune.data.leakage import check_disjoint, require_field
    from pinetune.data.rows import load_rows

    files = {str(path): load_rows(path) for path in (train, valid) if path is not None}
    field = answer_field or find_answer_field(*files.values())
    for name, rows in files.items():
        if field is not None:
            require_field(field, rows, name)
    overlap = None
    if valid is not None:
        overlap = check_disjoint(
            files[str(train)],
            files[str(valid)],
            answer_field,
            allow_answer_overlap=allow_answer_overlap,
            train_file=str(train),
            valid_file=str(valid),
        )
    report: dict[str, Any] = {"answer_field": field, "files": {}}
    for name, rows in files.items():
        counts = count_by(rows, field) if field else {}
        report["files"][name] = {
            "rows": len(rows),
            "answers": len(counts),
            "effective_answers": round(effective_number(counts.values()), 1),
        }
    if overlap is not None:
        report["overlap"] = {"rows_with_shared_answers": overlap.num_valid_rows, "same_prompts": len(overlap.same_prompt_pairs)}
    if as_json:
        typer.echo(json.dumps(report))
        return
    rows_shown = [[name, *figures.values()] for name, figures in report["files"].items()]
    _table(["file", "rows", f"answers ({field or 'no answer field found'})", "effective number"], rows_shown)
    if overlap is not None:
        rows_word = "row" if overlap.num_valid_rows == 1 else "rows"
        same = len(overlap.same_prompt_pairs)
        typer.echo(f"overlap: {overlap.num_valid_rows} {rows_word} with shared answers, {same} with the same prompt")


@data_app.command()
def split(
    file: Annotated[Path, typer.Argument(help="RFT JSONL, plain or gzip")],
    by: Annotated[str, typer.Option(help="field whose values must not be shared between the files (a dotted path)")],
    valid: Annotated[int, typer.Option(min=1, help="rows for valid.jsonl")] = 200,
    test: Test = 0,
    max_per_group: PerGroup = None,
    max_per_group_valid: PerGroupValid = None,
    seed: Seed = 1,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Split a file by groups into train.jsonl, valid.jsonl and test.jsonl. Default folder: the file's own."""
    from pinetune.data.rows import load_rows
    from pinetune.data.split import split_rows

    rows = load_rows(file, max_rows=None)
    made = split_rows(
        rows,
        by,
        valid=valid,
        test=test,
        max_per_group=max_per_group,
        max_per_group_valid=max_per_group_valid,
        seed=seed,
        file=str(file),
    )
    _write_split(made, out or file.parent, file, as_json, {})


@data_app.command()
def phenopackets(
    src: Annotated[Path, typer.Argument(help="folder or zip of GA4GH phenopackets v2")],
    out: Annotated[Path, typer.Option(help="folder for train.jsonl and valid.jsonl")],
    valid: Annotated[int | None, typer.Option(min=1, help="rows for valid.jsonl; default 200, or a fifth of the cases if fewer")] = None,
    test: Test = 0,
    max_per_group: PerGroup = 5,
    max_per_group_valid: PerGroupValid = None,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Turn solved cases into RFT rows (case report -> ranked genes), with disjoint genes in the files."""
    from pinetune.data.jsonl import Complaints
    from pinetune.data.phenopackets import import_phenopackets
    from pinetune.data.rows import to_row
    from pinetune.data.split import split_rows

    imported = import_phenopackets(src)
    complaints = Complaints(str(src))
    rows = [row for i, item in enumerate(imported.items) if (row := to_row(item, i, 0, complaints)) is not None]
    complaints.raise_if_any()
    made = split_rows(
        rows,
        "reference_answer",
        valid=valid or max(1, min(200, len(rows) // 5)),
        test=test,
        max_per_group=max_per_group,
        max_per_group_valid=max_per_group_valid,
        seed=seed,
        file=str(src),
    )
    _write_split(made, out, src, as_json, _import_report(imported))


@data_app.command("rare-rows")
def rare_rows(
    file: Annotated[Path, typer.Argument(help="JSONL (plain or gzip) of compact cases")],
    out: Annotated[Path, typer.Option(help="RFT JSONL to write")],
    as_json: Json = False,
) -> None:
    """Turn compact rare-disease cases (sex, age, findings, gene) into RFT rows; the split stays as it is."""
    from pinetune.data.compact import read_compact
    from pinetune.data.rows import write_rows

    imported = read_compact(file)
    _refuse_same_file(out, file)
    write_rows(out, imported.items)
    report = {"file": str(out), "rows": len(imported.items), **_import_report(imported)}
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{out}: {len(imported.items)} rows")
    _print_import(report)


def _write_split(made: Split, out: Path, source: Path, as_json: bool, extra: Mapping[str, Any]) -> None:
    from pinetune.data.rows import write_rows

    paths = {part.name: out / f"{part.name}.jsonl" for part in made.parts}
    for path in paths.values():
        _refuse_same_file(path, source)
    for part in made.parts:
        write_rows(paths[part.name], [row.item for row in part.rows])
    parts: list[dict[str, Any]] = []
    for part in made.parts:
        figures = {"num_groups": part.num_groups, "effective_groups": part.effective_groups, "largest_group": part.largest_group}
        parts.append({"file": str(paths[part.name]), "rows": len(part.rows), **figures})
    report = {"by": made.by, "parts": parts, "left_out": {"over_cap": made.num_over_cap, "trimmed": made.num_trimmed}, **extra}
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{out}: split by {made.by}")
    table = []
    for p in parts:
        value, size = p["largest_group"]
        table.append([Path(p["file"]).name, p["rows"], p["num_groups"], f"{p['effective_groups']:.1f}", f"{value[:30]} ({size})"])
    _table(["file", "rows", "groups", "effective number", "largest group (rows)"], table)
    typer.echo(f"left out: {made.num_over_cap} rows over the cap per group, {made.num_trimmed} of groups cut to fit")
    _print_import(extra)


def _import_report(imported: Imported) -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    for name, reason in imported.skipped:
        names.setdefault(reason.split(":")[0], []).append(f"{name} ({reason})" if ":" in reason else name)
    skipped = {reason: {"count": count, "names": names[reason]} for reason, count in imported.reasons().most_common()}
    return {"cases": len(imported.items), "skipped": skipped, "cleaned": dict(imported.notes)}


def _print_import(report: Mapping[str, Any]) -> None:
    for reason, found in report.get("skipped", {}).items():
        shown = ", ".join(found["names"][:SHOWN_NAMES]) + (", ..." if found["count"] > SHOWN_NAMES else "")
        typer.echo(f"skipped {found['count']}: {reason}: {shown}")
    for note, count in report.get("cleaned", {}).items():
        typer.echo(f"cleaned {count}: {note}")


def _refuse_same_file(path: Path, source: Path) -> None:
    from pinetune.errors import DataError

    if path.exists() and source.exists() and path.samefile(source):
        raise DataError(f"{path}: would overwrite its own source; choose another --out")


def _table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in body:
        table.add_row(*[str(cell) for cell in row])
    Console().print(table)
