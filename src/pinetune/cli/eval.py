"""`pinetune eval`: measure models on rows, with or without a server, and compare them honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pinetune.cli.grader_input import AsJson, Unsafe

eval_app = typer.Typer(help="Measure models on rows of yours, read every answer, and compare two models.", no_args_is_help=True)
RUNS = Path("runs/evals")
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's file, or the id of a run that a server made (evalrun_...).")]
Home = Annotated[Path | None, typer.Option(help="The server's home folder, for runs that it made; default ~/.pinetune.")]
AnswerField = Annotated[str | None, typer.Option(help="The item's key that holds the right answer; found when not told.")]
ListField = Annotated[str | None, typer.Option(help="The key of a ranked list in the model's JSON answer; found when not told.")]
Alone = Annotated[bool, typer.Option("--rows-alone", help="Rows that share an answer count as independent: for few possible answers.")]


@eval_app.command()
def run(
    eval_file: Annotated[Path, typer.Argument(metavar="EVAL", help="An eval's JSON, a grader, a job body, or a promptfoo config (YAML).")],
    data: Annotated[Path | None, typer.Option(help='Rows (JSONL): {"item": {...}}, or rows of a fine-tuning file.')] = None,
    model: Annotated[
        str | None, typer.Option(help="A folder, pinetune-mini, or a remote name; left out, rows bring their answers.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint that has the model.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the endpoint's key.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=1000, help="Answers to each row.")] = 1,
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, thinking included; 512 for local models.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 = always the likeliest token.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the randomness; default the eval's, 42.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's file; default runs/evals/EVAL--MODEL.jsonl.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Rows asked at once.")] = 16,
    unsafe_python_graders: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Answer and grade rows. Interrupted, the same command goes on; finished, it shows the result again."""
    from pinetune.cli.eval_run import Asked, run_command

    asked = Asked(eval_file, data, model, base_url, key_env, samples, rows, max_tokens, temperature, seed, out, concurrency)
    run_command(asked, unsafe_python=unsafe_python_graders, as_json=as_json)


@eval_app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where runs of this command lie.")] = RUNS, home: Home = None, as_json: AsJson = False
) -> None:
    """The runs in a folder, and those of the server's evals."""
    from pinetune.cli.eval_show import list_command

    list_command(folder, home, as_json)


@eval_app.command()
def show(
    run: RunName,
    failed: Annotated[int, typer.Option(min=0, help="Print so many answers that did not pass.")] = 0,
    inspect_log: Annotated[Path | None, typer.Option(help="Write the run as a log for inspect_ai (inspect view), a .json file.")] = None,
    home: Home = None,
    answer_field: AnswerField = None,
    list_field: ListField = None,
    rows_alone: Alone = False,
    as_json: AsJson = False,
) -> None:
    """The numbers of a run with their 95% intervals."""
    from pinetune.cli.eval_show import show_command

    show_command(run, home, failed, inspect_log, (answer_field, list_field, not rows_alone), as_json)


@eval_app.command()
def compare(
    first: RunName,
    second: RunName,
    home: Home = None,
    answer_field: AnswerField = None,
    list_field: ListField = None,
    rows_alone: Alone = False,
    as_json: AsJson = False,
) -> None:
    """Is the second run better? Paired tests on the same rows, and what so many rows can show at all."""
    from pinetune.cli.eval_show import compare_command

    compare_command(first, second, home, (answer_field, list_field, not rows_alone), as_json)
