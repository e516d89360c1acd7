"""`pinetune demo`: the whole product on the bundled miniature; `pinetune demo build-base` makes that miniature anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

demo_app = typer.Typer(invoke_without_command=True, help="A real RFT job on the bundled miniature, from dataset to evidence.")


@demo_app.callback()
def demo(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="under a minute: fewer steps, same path")] = False,
    out: Annotated[Path, typer.Option(help="where data, run and report go")] = Path("demo-run"),
) -> None:
    """Rank genes for case reports: train the bundled miniature on some genes, test it on others. Minutes on a laptop's CPU."""
    if context.invoked_subcommand is None:
        from pinetune.cli.demo_run import run_demo

        run_demo(out, quick)


@demo_app.command("build-base")
def build_base(
    out: Annotated[Path, typer.Option(help="the folder to write the base model to")] = Path("base"),
    seed: Annotated[int, typer.Option(help="another seed makes another base of the same kind")] = 1,
) -> None:
    """Pretrain the miniature's base model from nothing, by the committed recipe."""
    from dataclasses import replace

    from pinetune.demo.build_base import Recipe
    from pinetune.demo.build_base import build_base as build

    build(out, replace(Recipe(), seed=seed))
