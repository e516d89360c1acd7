"""`pinetune check JOB.json`: what is known before a job runs, in plain words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer


def check_command(job: Path, *, rows: int, samples: int, model: bool, as_json: bool, strict: bool) -> bool:
    """Print the report; False only where `strict` and the verdict is "stop"."""
    from pinetune.loop.job import read_job_file
    from pinetune.preflight.options import PreflightOptions
    from pinetune.preflight.run import preflight
    from pinetune.preflight.text import as_text

    told = _tell if sys.stderr.isatty() and not as_json else lambda _: None
    report = preflight(read_job_file(job), job.parent, PreflightOptions(rows=rows, samples=samples, model=model, told=told))
    told("")
    typer.echo(json.dumps(report.as_json(), ensure_ascii=False) if as_json else as_text(report))
    return not strict or report.verdict != "stop"


def _tell(doing: str) -> None:
    """One line on the terminal, written over by the next; the report goes to standard output."""
    sys.stderr.write(f"\r\033[K{doing}")
    sys.stderr.flush()
