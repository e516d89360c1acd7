"""The `pinetune` command. Heavy packages load inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pinetune import __version__
from pinetune.cli.console import say_error
from pinetune.cli.data import data_app
from pinetune.cli.demo import demo_app
from pinetune.cli.eval import eval_app
from pinetune.cli.export import export_app
from pinetune.cli.grader import grader_app
from pinetune.cli.import_ import import_app
from pinetune.cli.keys import keys_app
from pinetune.cli.models import models_app
from pinetune.cli.read import read
from pinetune.cli.rerank import rerank_app
from pinetune.cli.vote import vote
from pinetune.errors import BudgetSpent, JobFailed, StoreError, UserError

app = typer.Typer(
    name="pinetune",
    help="Reinforcement fine-tuning on your own machines: a JSONL file and a grader in, a better model and the evidence out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(grader_app, name="grader")
app.add_typer(eval_app, name="eval")
app.add_typer(demo_app, name="demo")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(rerank_app, name="rerank")
app.command()(read)
app.command()(vote)
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="the body of POST /v1/fine_tuning/jobs as a JSON file; its files may be local paths")],
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/<suffix or file name>")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything and print the resolved settings, then stop")] = False,
) -> None:
    """Run a reinforcement fine-tuning job. Ctrl-C stops it cleanly; the same command goes on."""
    from pinetune.cli.run import run_command

    run_command(job, out, dry_run)


@app.command()
def check(
    job: Annotated[Path, typer.Argument(help="the job to check; nothing is trained and nothing is written")],
    rows: Annotated[int, typer.Option(min=1, help="training rows on which the base is tried")] = 16,
    samples: Annotated[int, typer.Option(min=1, help="answers of the base a row")] = 8,
    no_model: Annotated[bool, typer.Option("--no-model", help="data and grader only")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="exit code 1 where the verdict is stop")] = False,
) -> None:
    """Check a job before it runs: is the data sound, the grader sharp, the task learnable, the run affordable?"""
    from pinetune.cli.check import check_command

    if not check_command(job, rows=rows, samples=samples, model=not no_model, as_json=as_json, strict=strict):
        raise typer.Exit(1)


@app.command()
def ablate(
    job: Annotated[Path, typer.Argument(help="the job whose gain is to be explained; it needs held-out rows")],
    out: Annotated[Path, typer.Option(help="folder for the arms, each an ordinary run folder")],
    arms: Annotated[str | None, typer.Option(help="some of job,random,format,sft,prompt; default all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
) -> None:
    """Would anything have done it? The same job with random rewards, rewards for form, supervised training, or prompts alone."""
    from pinetune.cli.ablate import ablate_command

    ablate_command(job, out, arms, as_json)


@app.command()
def folds(
    job: Annotated[Path, typer.Argument(help="the job; all rows of its files are dealt into folds")],
    out: Annotated[Path, typer.Option(help="folder for the folds, each an ordinary run folder")],
    k: Annotated[int, typer.Option("-k", min=3, help="folds; one judges, the next chooses the step, the others train")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
) -> None:
    """For fewer than 100 rows: run the job k times, so that every row is judged by a model that did not see it."""
    from pinetune.cli.folds import folds_command

    folds_command(job, out, k, as_json)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on; default 127.0.0.1, this machine only")] = None,
    port: Annotated[int | None, typer.Option(help="default 8000")] = None,
    home: Annotated[Path | None, typer.Option(help="folder for everything that is kept; default ~/.pinetune")] = None,
) -> None:
    """Serve OpenAI's API: files, fine-tuning jobs, graders, evals, and the models, until Ctrl-C."""
    from pinetune.cli.serve import serve_command

    serve_command(home, host, port)


@app.command()
def worker(
    home: Annotated[Path | None, typer.Option(help="the server's home folder; its database and files must be the same")] = None,
    name: Annotated[str | None, typer.Option(help="what the store calls this worker; default by machine and process")] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Work on queued jobs, beside the one worker that `pinetune serve` starts by itself."""
    from pinetune.cli.worker import worker_command

    worker_command(home, name, supervised)


@app.command(hidden=True)
def serving(port: Annotated[int, typer.Option(help="on loopback")]) -> None:
    """Hold the models; started by `pinetune serve`."""
    from pinetune.cli.serving import serving_command

    serving_command(port)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="a model folder, a run folder, or a hub id")],
    message: Annotated[str | None, typer.Option("--message", "-m", help="ask once and exit")] = None,
    max_tokens: Annotated[int, typer.Option(help="longest answer, thinking included")] = 512,
    temperature: Annotated[float, typer.Option(help="0 = always the likeliest token")] = 1.0,
    seed: Annotated[int, typer.Option(help="fixes the randomness")] = 0,
) -> None:
    """Talk to a model and see it think."""
    from pinetune.cli.chat import chat_command

    chat_command(model, message, max_tokens, temperature, seed)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False) -> None:
    """Say what this host can and cannot confine, each promise tried on the spot (exit code 1: python graders are refused)."""
    from pinetune.cli.doctor import doctor_command

    if not doctor_command(as_json):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point: every foreseen error is plain lines and an exit code (2 = yours to fix, 1 = the job failed, 130 = stopped)."""
    try:
        app()
    except UserError as error:
        say_error(str(error))
        sys.exit(2)
    except (JobFailed, BudgetSpent, StoreError) as error:
        say_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say_error("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
