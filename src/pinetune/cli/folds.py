"""`pinetune folds JOB.json`: what a recipe is worth where rows are too few for one split."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console


def folds_command(job: Path, out: Path, k: int, as_json: bool) -> None:
    """Run the folds into `out` (or go on with them) and print base and tuned over all rows."""
    from pinetune.cli.progress import ProgressRecorder
    from pinetune.loop.job import read_job_file
    from pinetune.loop.kfold import Stopped, run_folds
    from pinetune.reports.evidence import difference_text, p_text, with_interval
    from pinetune.runs.folder import RunFolder
    from pinetune.runs.recorder import FolderRecorder

    console = Console(stderr=True)

    def open_recorder(folder: RunFolder) -> ProgressRecorder:
        console.print(f"[bold]{folder.path.name}[/bold] of {k}")
        return ProgressRecorder(FolderRecorder(folder), console)

    try:
        report = run_folds(read_job_file(job), job.parent, out, k, open_recorder)
    except Stopped:
        console.print("Stopped. The same command goes on from there.")
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    typer.echo(f"{k} folds, {report.gain.num_rows} rows, each judged by a model that did not see it:")
    for name, found in (("base", report.base), ("tuned", report.tuned)):
        metrics = {"reward": found.reward, **found.metrics}
        typer.echo(f"  {name:<6}" + "  ".join(f"{metric} {with_interval(interval, metric)}" for metric, interval in metrics.items()))
    gain = report.gain.reward
    typer.echo(f"  gain  reward {difference_text(gain.difference, 'reward')}, paired {p_text(gain.p_value)}")
