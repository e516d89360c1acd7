"""`pinetune export job`: a finished job as a folder or .zip with weights, evidence and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

export_app = typer.Typer(help="Carry finished work out of here.", no_args_is_help=True)


@export_app.callback()
def _group() -> None:
    """A group, so that other things to export can stand beside `job`."""


@export_app.command()
def job(
    which: Annotated[str, typer.Argument(metavar="ID", help="a job's id, or a run folder of `pinetune run`")],
    out: Annotated[Path, typer.Option("--out", help="a new folder, or a file that ends in .zip")],
    home: Annotated[Path | None, typer.Option(help="the server's home folder; default PINETUNE_HOME or ~/.pinetune")] = None,
    rows: Annotated[bool, typer.Option("--rows/--no-rows", help="with the report, which quotes held-out rows, or without")] = True,
) -> None:
    """Write data hashes, grader, config, seed, metrics, events, held-out evidence, adapter, merged weights and a model card."""
    from pinetune.settings import Settings
    from pinetune.store import Store
    from pinetune.transfer.bundle import merge_adapter, write_bundle
    from pinetune.transfer.sources import from_run, from_store

    if Path(which).is_dir():
        subject = from_run(Path(which))
        write_bundle(subject, out, with_report=rows, merge=merge_adapter)
    else:
        with Store.open(Settings.read(home=home)) as store:
            subject = from_store(store, which)
            write_bundle(subject, out, with_report=rows, merge=merge_adapter)
    typer.echo(f"{out}: read README.md first, the model card; its license line is yours to fill in")
    if rows and subject.report is not None:
        typer.echo("evidence/report.html quotes held-out rows: leave it out with --no-rows before you share the bundle", err=True)
    if subject.weights is None and subject.adapter is None:
        typer.echo(f"{subject.id} is {subject.status} and its weights are not here: the bundle has none", err=True)
