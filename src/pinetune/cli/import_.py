"""`pinetune import openai`: bring files, jobs and evals over, with counts, the time left, and at the end what came and what did not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinetune.errors import UserError

if TYPE_CHECKING:
    from pinetune.transfer.tally import Tally

import_app = typer.Typer(help="Bring things over from an OpenAI-compatible endpoint. Nothing here is overwritten.", no_args_is_help=True)
SHOWN_IDS = 3
PLAIN_EVERY_SECONDS = 5.0


@import_app.callback()
def _group() -> None:
    """A group, so that another kind of source can stand beside `openai`."""


@import_app.command()
def openai(
    base_url: Annotated[str, typer.Option("--base-url", help="where to read")] = "https://api.openai.com/v1",
    api_key_env: Annotated[str, typer.Option("--api-key-env", help="the environment variable that holds the key")] = "OPENAI_API_KEY",
    only: Annotated[str, typer.Option(help="some of files,jobs,evals")] = "files,jobs,evals",
    rate: Annotated[float, typer.Option(help="requests a second at most; 0 = as fast as it answers", min=0)] = 5.0,
    project: Annotated[str, typer.Option(help="the project here that gets them: its id or name")] = "default",
    home: Annotated[Path | None, typer.Option(help="the server's home folder; default PINETUNE_HOME or ~/.pinetune")] = None,
) -> None:
    """Files with contents, ended jobs with events, checkpoints' numbers and result files, evals with runs and output items.

    It only reads there. Ctrl-C or a crash loses nothing: the same command goes on.
    """
    from rich.console import Console

    from pinetune.settings import Settings
    from pinetune.store import Store
    from pinetune.transfer.bring import bring_over
    from pinetune.transfer.endpoint import Endpoint
    from pinetune.transfer.tally import Tally

    console, sections, tally = Console(), _sections(only), Tally()
    key = _key(api_key_env, base_url)
    with Store.open(Settings.read(home=home)) as store, _watching(console) as watch:
        endpoint = Endpoint(base_url, key, rate=rate, waiting=watch.waiting)
        try:
            bring_over(endpoint, store, _project(store, project), watch, only=sections, tally=tally)
        finally:
            watch.stop()
            _show(tally, console)


def _sections(only: str) -> list[str]:
    from pinetune.transfer.bring import SECTIONS

    wanted = [name.strip() for name in only.split(",") if name.strip()]
    wrong = [name for name in wanted if name not in SECTIONS]
    if wrong or not wanted:
        raise UserError(f"--only: {only!r} names something else than {', '.join(SECTIONS)}; jobs bring their events, evals their runs")
    return wanted


def _key(name: str, base_url: str) -> str:
    from urllib.parse import urlsplit

    key = os.environ.get(name, "")
    if not key and urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1"):
        return "none"  # a server of this machine may need none
    if not key:
        raise UserError(f"the environment variable {name} is not set; put the API key of {base_url} there, or see --api-key-env")
    return key


def _project(store: Any, wanted: str) -> str:
    projects = store.projects.list()
    for project in projects:
        if wanted in (project.id, project.name):
            return str(project.id)
    names = ", ".join(project.name for project in projects)
    raise UserError(f"--project: there is no project {wanted!r} here, only {names}; `pinetune keys create --project NAME` makes one")


class _Watch:
    """A bar for each kind on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console
        columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, Any] = {}
        self._done: dict[str, tuple[int, int]] = {}
        self._said = time.monotonic()
        self._began: dict[str, float] = {}
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def begin(self, kind: str, total: int) -> None:
        """Told again (the runs of each eval), the total grows."""
        done, before = self._done.get(kind, (0, 0))
        self._done[kind] = (done, before + total)
        self._began.setdefault(kind, time.monotonic())
        if kind not in self._tasks:
            self._tasks[kind] = self._progress.add_task(kind, total=0)
        self._progress.update(self._tasks[kind], total=before + total)

    def advance(self, kind: str) -> None:
        done, total = self._done[kind]
        self._done[kind] = (done + 1, total)
        self._progress.advance(self._tasks[kind])
        if not self._console.is_terminal and time.monotonic() - self._said > PLAIN_EVERY_SECONDS:
            from pinetune.cli.console import duration

            self._said = time.monotonic()
            left = (self._said - self._began[kind]) / (done + 1) * (total - done - 1)
            self._console.print(f"{kind}: {done + 1} of {total}, {duration(left)} left", highlight=False)

    def waiting(self, seconds: float, why: str) -> None:
        self._console.print(f"waiting {seconds:.0f} s: {why}", highlight=False, markup=False)


@contextmanager
def _watching(console: Any) -> Iterator[_Watch]:
    watch = _Watch(console)
    try:
        yield watch
    finally:
        watch.stop()


def _show(tally: Tally, console: Any) -> None:
    from rich.table import Table

    from pinetune.transfer.tally import KINDS

    table = Table("", title="Import", title_justify="left")
    for name in ("came", "were here", "left out"):
        table.add_column(name, justify="right")
    for kind in KINDS:
        row = (tally.came[kind], tally.known[kind], tally.num_skipped(kind))
        if any(row):
            table.add_row(kind, *(f"{number:,}" for number in row))
    console.print(table)
    for kind, reason, ids in tally.reasons():
        more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
        console.print(f"{kind}: {reason}: {', '.join(ids[:SHOWN_IDS])}{more}", highlight=False, markup=False, soft_wrap=True)
