"""`pinetune keys`: API keys, each of a project. A key is shown once; the store keeps its hash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinetune.errors import NotFound, StoreError, UserError

if TYPE_CHECKING:
    from pinetune.store import Store

keys_app = typer.Typer(
    help="Make, list and revoke API keys. The first key closes a server that was open to this machine.", no_args_is_help=True
)
Home = Annotated[Path | None, typer.Option(help="the server's home folder; default PINETUNE_HOME or ~/.pinetune")]


@keys_app.command()
def create(
    name: Annotated[str, typer.Option(help="to tell keys apart: a person, a machine")] = "",
    project: Annotated[str, typer.Option(help="the project's name or id; a new name makes a new project")] = "default",
    home: Home = None,
) -> None:
    """Make a key and print it, now and never again."""
    with open_store(home) as store:
        known = {p.name: p.id for p in store.projects.list()} | {p.id: p.id for p in store.projects.list()}
        id = known.get(project) or store.projects.create(project).id
        key, secret = store.keys.create(name, id)
    typer.echo(secret)
    typer.echo(f"{key.id} of project {project} ({id}). Keep the line above: it is not stored, only its hash.", err=True)


@keys_app.command("list")
def list_keys(home: Home = None) -> None:
    """All keys, those that were revoked too, by their first characters."""
    with open_store(home) as store:
        projects = {project.id: project.name for project in store.projects.list()}
        for key in store.keys.list():
            state = (
                f"revoked {_day(key.revoked_at)}"
                if key.revoked_at
                else f"used {_day(key.last_used_at)}"
                if key.last_used_at
                else "never used"
            )
            whose = f"{projects.get(key.project, key.project)}  {key.name or '-'}"
            typer.echo(f"{key.id}  {key.prefix}...  {whose}  made {_day(key.created_at)}  {state}")


@keys_app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="the key's id, its first characters as listed, or the key itself")], home: Home = None
) -> None:
    """Make a key useless from now on."""
    with open_store(home) as store:
        found = store.keys.check(key)
        try:
            store.keys.revoke(found.id if found else key.removesuffix("..."))
        except NotFound:
            raise UserError(f"no key that still works is called {key[:12]}; see `pinetune keys list`") from None
    typer.echo("revoked")


@contextmanager
def open_store(home: Path | None) -> Iterator[Store]:
    """The store of a home folder; what is wrong with it is the user's to mend."""
    from pinetune.settings import Settings
    from pinetune.store import Store

    try:
        with Store.open(Settings.read(home=home)) as store:
            yield store
    except StoreError as error:
        raise UserError(str(error)) from error


def _day(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment or 0))
