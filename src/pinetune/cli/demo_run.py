"""What `pinetune demo` does and says."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from pinetune.cli.console import duration
from pinetune.cli.run import run_job, show_summary


def run_demo(out: Path, quick: bool) -> None:
    """Write the demo's files into `out`, train, compare, and say where to look."""
    from pinetune.demo.job import HELD_OUT, make_demo

    console = Console()
    began = time.monotonic()
    console.print(
        "[bold]Pinetune demo[/bold]: a small model has read which findings are typical of which genes, but looks up only one or two "
        "of a patient's findings before it answers. Reinforcement on cases of some genes should teach it to look at all of them. "
        "It is tested on cases of other genes."
    )
    job = make_demo(out, quick=quick)
    summary = run_job(job.body, out, out / "run", console, tool=job.tool, held_out=HELD_OUT)
    if not summary:
        return
    show_summary(summary, console)
    console.print(f"Report:   {out / 'run' / 'report.html'}\nSummary:  {out / 'run' / 'summary.json'}\nModel:    {out / 'run' / 'model'}")
    console.print(f"Talk to it:  pinetune chat {out / 'run'}\nIn all: {duration(time.monotonic() - began)}", highlight=False)
