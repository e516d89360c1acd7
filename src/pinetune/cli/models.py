"""`pinetune models`: which base models a server trains and answers with, and the other names they go by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pinetune.errors import NotFound, UserError

models_app = typer.Typer(help="Register base models of a server, by folder or hub id, and other names for them.", no_args_is_help=True)
Home = Annotated[Path | None, typer.Option(help="the server's home folder; default PINETUNE_HOME or ~/.pinetune")]


@models_app.command()
def add(
    source: Annotated[str, typer.Argument(help="a folder with weights, a run folder, or a hub id such as Qwen/Qwen3-0.6B")],
    name: Annotated[str | None, typer.Option(help="what clients call it; default the hub id, or the folder's name")] = None,
    home: Home = None,
) -> None:
    """Make a model trainable and callable. A running server knows it at once."""
    from pinetune.models.names import find_model

    location = find_model(source)
    folder = Path(location)
    id = name or (Path(source).expanduser().resolve().name if folder.is_dir() else source)
    if id.startswith("ft:") or not id.strip():
        raise UserError(f"--name: {id!r} cannot name a base model; names that begin with ft: belong to tuned ones")
    from pinetune.cli.keys import open_store

    with open_store(home) as store:
        store.models.register(id, str(folder.resolve()) if folder.is_dir() else location)
    typer.echo(f'{id}   ask it or train it as model="{id}"')


@models_app.command("list")
def list_models(home: Home = None) -> None:
    """Base models, tuned models, and other names."""
    from pinetune.cli.keys import open_store

    with open_store(home) as store:
        for model in store.models.list():
            typer.echo(f"{model.id}  {model.kind}  {model.location if model.kind == 'base' else model.base or ''}".rstrip())
        for other, target in sorted(store.models.aliases().items()):
            typer.echo(f"{other}  is  {target}")


@models_app.command()
def alias(
    name: Annotated[str, typer.Argument(help="the name that scripts use, such as o4-mini-2025-04-16")],
    target: Annotated[str, typer.Argument(help="the model that answers")],
    home: Home = None,
) -> None:
    """Let scripts that name another model run unchanged; PINETUNE_MODEL_ALIASES wins over what is set here."""
    from pinetune.cli.keys import open_store

    with open_store(home) as store:
        try:
            store.models.get(target)
        except NotFound:
            raise UserError(f"there is no model {target} here; see `pinetune models list`, or add it first") from None
        store.models.set_alias(name, target)
    typer.echo(f"{name}  is  {target}")


@models_app.command()
def remove(name: Annotated[str, typer.Argument(help="a base model or an alias")], home: Home = None) -> None:
    """Forget a base model or an alias; weights in folders of yours stay where they are."""
    from pinetune.cli.keys import open_store

    with open_store(home) as store:
        try:
            store.models.remove_alias(name)
        except NotFound:
            try:
                if store.models.get(name).kind != "base":
                    raise UserError(f"{name} is a tuned model; delete it through the API: client.models.delete({name!r})")
                store.models.delete(name)
            except NotFound:
                raise UserError(f"there is no model or alias {name} here; see `pinetune models list`") from None
    typer.echo("removed")
