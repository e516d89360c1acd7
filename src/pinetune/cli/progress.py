"""Live progress of a running job: step, reward, held-out reward, tokens a second, time left."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from pinetune.cli.console import duration
from pinetune.records import EvalReport, Group, Interval, Recorder, StepReport

PLAIN_EVERY_SECONDS = 10.0  # where there is no terminal, one line this often and at every evaluation


class ProgressRecorder:
    """Shows what it hears and passes it on to `inner`. The first Ctrl-C asks the job to stop after the step in flight."""

    def __init__(self, inner: Recorder, console: Console) -> None:
        self._inner = inner
        self._console = console
        self._stop = False
        self.training = True  # False once only the final evidence is left: there is no step to wait for
        self._seconds: list[float] = []
        self._eval_seconds: list[float] = []
        self._steps_between_evals: list[int] = []
        self._held_out: EvalReport | None = None
        self._last_plain = 0.0
        self._progress = Progress(BarColumn(bar_width=None), TextColumn("{task.description}"), expand=True)
        self._task: TaskID = self._progress.add_task("starting ...", total=None)
        self._live = Live(self._progress, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> ProgressRecorder:
        self._old = {number: signal.signal(number, self._on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self._console.is_terminal:
            self._live.stop()

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._stop or not self.training:
            raise KeyboardInterrupt  # what is saved is whole at any moment; the same command goes on
        self._stop = True
        self._console.print("[yellow]Stopping after this step; a checkpoint will be written. Ctrl-C again to stop at once.[/yellow]")

    def event(self, level: Literal["info", "warn", "error"], message: str, data: Mapping[str, Any] | None = None) -> None:
        self._inner.event(level, message, data)
        if level != "info":
            self._console.print(f"[yellow]{level}:[/yellow] {message}", highlight=False)
        elif not message.startswith("Checkpoint created"):
            self._console.print(f"[dim]{message}[/dim]", highlight=False)

    def step(self, report: StepReport, groups: Sequence[Group]) -> None:
        self._inner.step(report, groups)
        self._seconds.append(report.seconds["full_iteration"])
        line = self._line(report)
        self._progress.update(self._task, total=report.total_steps, completed=report.step, description=line)
        if not self._console.is_terminal and time.monotonic() - self._last_plain > PLAIN_EVERY_SECONDS:
            self._last_plain = time.monotonic()
            self._console.print(line, highlight=False)

    def evaluation(self, report: EvalReport) -> None:
        self._inner.evaluation(report)
        self._eval_seconds.append(report.seconds)
        self._held_out = report
        shown = [f"reward {_interval(report.reward)}", *(f"{name} {_interval(value)}" for name, value in report.metrics.items())]
        ungraded = f"; {report.num_ungraded} answers could not be graded" if report.num_ungraded else ""
        self._console.print(
            f"[bold]held-out, step {report.step}[/bold]: {', '.join(shown)}; n={report.reward.n}, "
            f"thinking {report.reasoning_tokens_mean:.0f} tokens{ungraded}",
            highlight=False,
        )

    def stop_requested(self) -> bool:
        return self._stop or self._inner.stop_requested()

    def _line(self, report: StepReport) -> str:
        recent = self._seconds[-20:]
        left = (report.total_steps - report.step) * sum(recent) / len(recent)
        if len(self._eval_seconds) > 1:  # evaluations seen so far, spread over the steps seen so far
            left += (report.total_steps - report.step) / report.step * sum(self._eval_seconds[1:])
        held_out = f" held-out {self._held_out.reward.value:.2f}" if self._held_out else ""
        return (
            f"step {report.step}/{report.total_steps}  reward {report.reward_mean:.2f} {held_out}  "
            f"{report.tokens_per_second:.0f} tok/s  {duration(left)} left"
        )


def _interval(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}-{interval.high:.2f}]"


def settings_table(title: str, rows: Mapping[str, Any]) -> Table:
    table = Table(title=title, show_header=False, box=None, title_justify="left", title_style="bold", padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    return table
