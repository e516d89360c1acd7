"""`pinetune ablate JOB.json`: is the gain the grader's, or would anything have done it?"""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console


def ablate_command(job: Path, out: Path, arms: str | None, as_json: bool) -> None:
    """Run the controls into `out` (or go on with them), print the table and what follows from it."""
    from pinetune.cli.progress import ProgressRecorder
    from pinetune.loop.ablation.report import as_text
    from pinetune.loop.ablation.run import ARMS, Stopped, ablate
    from pinetune.loop.job import read_job_file
    from pinetune.runs.folder import RunFolder
    from pinetune.runs.recorder import FolderRecorder

    console = Console(stderr=True)

    def open_recorder(folder: RunFolder) -> ProgressRecorder:
        console.print(f"[bold]{folder.path.name}[/bold]: {ARMS[folder.path.name]}")
        return ProgressRecorder(FolderRecorder(folder), console)

    try:
        report = ablate(read_job_file(job), job.parent, out, open_recorder, arms.split(",") if arms else tuple(ARMS))
    except Stopped:
        console.print("Stopped. The same command goes on from there.")
        raise typer.Exit(130) from None
    typer.echo(json.dumps(report.as_json(), default=str) if as_json else as_text(report))
