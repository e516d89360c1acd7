"""`pinetune run JOB.json`: check, show what "auto" became, train with live progress, show the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from pinetune.cli.console import duration
from pinetune.cli.progress import ProgressRecorder, settings_table
from pinetune.errors import BudgetSpent


def run_command(job: Path, out: Path | None, dry_run: bool) -> None:
    """Run the job in `out` (default runs/<suffix or file name>), or go on with it where it was stopped."""
    from pinetune.loop.job import read_job_file

    raw = read_job_file(job)
    folder = out or Path("runs") / str(raw.get("suffix") or job.stem)
    summary = run_job(raw, job.parent, folder, Console(), dry_run=dry_run)
    if summary:
        show_summary(summary, Console())


def run_job(
    raw: dict[str, Any], beside: Path, out: Path, console: Console, *, dry_run: bool = False, trusted_grader: bool = False, **evidence: Any
) -> dict[str, Any]:
    """The whole job with live progress; returns the summary, {} where there is none yet. `evidence` goes to `loop.finish`."""
    from pinetune.loop.finish import finish
    from pinetune.loop.job import open_run, prepare, run_prepared
    from pinetune.runs.folder import RunFolder
    from pinetune.runs.lock import locked
    from pinetune.runs.recorder import FolderRecorder

    known = RunFolder(out)
    seed = known.read_job()["resolved"]["seed"] if known.exists() else None
    with console.status("checking data, grader and model ..."):
        prepared = prepare(raw, beside, seed=seed, trusted_grader=trusted_grader)
    try:
        console.print(settings_table(f"{prepared.body.model} -> {out}", _settings(prepared)))
        if dry_run:
            return {}
        folder = open_run(prepared, out)
        with locked(folder.path), ProgressRecorder(FolderRecorder(folder), console) as recorder:
            state = run_prepared(prepared, folder, recorder)
            if state.stop_reason == "stopped":
                console.print(f"Stopped after step {state.step}. The same command goes on from there.")
                raise typer.Exit(130)
            console.print(f"[dim]{state.stop_reason} after {state.step} steps, {duration(state.seconds)}[/dim]", highlight=False)
            recorder.training = False
            try:
                return finish(prepared, folder, recorder, state, **evidence)
            except BudgetSpent as spent:
                recorder.event("warn", f"Paused: {spent}. Training is done; the same command goes on with the evidence")
                raise typer.Exit(130) from None
    finally:
        prepared.close()


def _settings(prepared: Any) -> dict[str, Any]:
    from pinetune.loop.judging import who_judges

    config = prepared.config
    shown = {k: v for k, v in config.printed().items() if v not in (None, "", ())}
    rows = f"{len(prepared.train)} training, {len(prepared.valid)} validation, {len(prepared.test)} test"
    judges = who_judges(prepared.body.method.reinforcement.grader, prepared.judges.settings)
    return {"rows": rows, "answers shared with training": _overlap(prepared), **({"judges": judges} if judges else {}), **shown}


def _overlap(prepared: Any) -> str:
    if prepared.overlap is None:
        return "no held-out rows"
    return f"{prepared.overlap.num_valid_rows} validation rows"


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """The numbers that matter, with interval and n, and where to look further."""
    from rich.table import Table

    metrics = [name for name in ("top1", "top5", "topmax", "mrr", "reward") if name in summary["tuned"]]
    table = Table(title=f"Held-out evidence, n={summary['n']}", title_justify="left")
    table.add_column("")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for who in ("base", "ranker", "tuned"):
        if summary.get(who):
            table.add_row(who, *(_cell(summary[who][metric], metric) for metric in metrics))
    console.print(table)


def _cell(number: dict[str, Any], metric: str) -> str:
    low, high = number["ci95"]
    if metric in ("reward", "mrr"):
        return f"{number['value']:.2f} [{low:.2f}-{high:.2f}]"
    return f"{number['value']:.0%} [{low:.0%}-{high:.0%}]"
