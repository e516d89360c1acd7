"""`pinetune rerank`: train a reranker on graded answers, and say how well it picks."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pinetune.cli.grader_input import Unsafe
from pinetune.errors import UserError

if TYPE_CHECKING:
    from pinetune.cli.answering import Answering
    from pinetune.evals.reranking import JudgedAnswer
    from pinetune.models.renaming import Renaming
    from pinetune.models.reranker import Reranker
    from pinetune.records import Row
    from pinetune.training.reranker import JudgedText, RerankerReport, RerankerSettings

rerank_app = typer.Typer(no_args_is_help=True, help="A reranker: picks the best of several answers of a model, without a grader.")

Model = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model folder, or a hub id.")]
Grader = Annotated[Path | None, typer.Option(help="A grader in OpenAI's JSON, or a job body; default: that of the run.")]


@rerank_app.command()
def train(
    model: Model,
    data: Annotated[Path, typer.Option(help="Training rows: the file the run was trained on.")],
    out: Annotated[Path, typer.Option(help="The reranker's folder.")],
    grader: Grader = None,
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Validation and test files: refused where they share rows or answers.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Fresh samples a row; 0 = the rollouts the run kept, of all its steps.")] = 16,
    threshold: Annotated[float, typer.Option(help="An answer is correct from this reward on.")] = 1.0,
    base: Annotated[str | None, typer.Option(help="Whose backbone it gets; default: the model's.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most; the best step on rows held out of training is kept.")] = 20,
    learning_rate: Annotated[float | None, typer.Option(help="Default by size.")] = None,
    per_row: Annotated[int, typer.Option(min=2, help="Most answers of one row, half right and half wrong.")] = 32,
    rule: Annotated[
        str,
        typer.Option(
            help="As in pinetune vote: of each thing answered as many right as wrong answers, so that no name tells; "
            "auto = first for ranked lists, else none."
        ),
    ] = "auto",
    rename: Annotated[
        bool, typer.Option(help="Exchange the names that answers list at random, anew each time: nothing is learned by heart.")
    ] = False,
    allow_answer_overlap: Annotated[bool, typer.Option(help="For tasks with few possible answers (yes/no, a label).")] = False,
    seed: Annotated[int, typer.Option(help="Fixes head, split, order and fresh samples.")] = 0,
    unsafe_python_graders: Unsafe = False,
) -> None:
    """Train a binary head on the model's backbone: from fresh samples (ReFT 4.4), or from the rollouts that a run graded."""
    how = HowTrained(
        samples, threshold, base, epochs, learning_rate, per_row, rule, rename, allow_answer_overlap, seed, unsafe_python_graders
    )
    train_command(model, data, out, grader, held_out or [], how)


@dataclass(frozen=True, slots=True)
class HowTrained:
    """The command's flags; see `train`."""

    samples: int
    threshold: float
    base: str | None
    epochs: int
    learning_rate: float | None
    per_row: int
    rule: str
    rename: bool
    allow_answer_overlap: bool
    seed: int
    unsafe_python: bool


def train_command(model: str, data: Path, out: Path, grader: Path | None, held_out: list[Path], how: HowTrained) -> None:
    """Collect or draw answers, train, save, and say how well it picks on rows held out of training."""
    from pinetune.cli.answering import answering
    from pinetune.data.rows import load_rows
    from pinetune.evals.reranking import fingerprints, names_in, require_both_kinds, said_by, split_rows, telling, thinned
    from pinetune.models.load import load_model
    from pinetune.models.names import find_model
    from pinetune.models.renaming import Renaming
    from pinetune.models.reranker import new_reranker
    from pinetune.training.reranker import best_of

    console = Console()
    rows = load_rows(data, max_rows=None)
    asked = answering(model, grader)
    if asked.run is None and not how.samples:
        raise UserError(f"{model} is no run folder, so there are no rollouts to learn from; sample some: --samples 16")
    refuse_held_out(asked, data, rows, held_out, how.allow_answer_overlap)
    judged = thinned(collect(asked, rows, how, console), how.per_row)
    require_both_kinds(judged, how.threshold)
    ours, chosen_by = split_rows(judged, answer_field=asked.evidence["answer_field"], seed=how.seed)
    require_both_kinds(ours, how.threshold)
    renaming = Renaming(names_in(ours)) if how.rename else None
    said = [str(one.row.index) for one in ours] if renaming else said_by(ours, how.rule, unsafe_python=how.unsafe_python)
    reranker = new_reranker(load_model(find_model(how.base) if how.base else asked.source), seed=how.seed)
    settings = _settings(reranker, how.epochs, how.learning_rate, how.seed)
    right = sum(one.correct for one in ours)
    console.print(
        f"{len(ours)} answers to train on, {right} correct; {len(telling(chosen_by))} answers of other rows choose the step; "
        f"learning rate {settings.learning_rate:.2g}",
        highlight=False,
    )
    began = time.monotonic()
    reports = fit(
        reranker, ours, said, telling(chosen_by), settings, renaming, lambda report: console.print(_line(report), highlight=False)
    )
    kept = best_of(reports)
    about = {
        "base": how.base or model,
        "threshold": how.threshold,
        "samples": how.samples,
        "rule": how.rule,
        "names": renaming.names if renaming else None,  # exchanged when scoring, too
        "answers": len(ours),
        "correct": right,
        **_what_training_did(reports, kept, settings, began),
        "rows": fingerprints(one.row for one in judged),  # the step was chosen by the others: neither are evidence
    }
    reranker.save(out, about)
    console.print(
        f"Step {kept.step} kept. Reranker: {out}\nTry it on rows it has not seen: pinetune vote {model} --reranker {out} --data ..."
    )


def _what_training_did(reports: list[RerankerReport], kept: RerankerReport, settings: RerankerSettings, began: float) -> dict[str, Any]:
    return {
        "kept_step": kept.step,
        "reports": [_finite(asdict(report)) for report in reports],
        "settings": asdict(settings),
        "seconds": round(time.monotonic() - began, 1),
    }


@rerank_app.command("eval")
def evaluate(
    reranker: Annotated[Path, typer.Argument(help="A reranker's folder.")],
    model: Model,
    data: Annotated[Path, typer.Option(help="Rows it has not seen.")],
    grader: Grader = None,
    samples: Annotated[int, typer.Option(min=2, help="Answers a row to pick from.")] = 16,
    rule: Annotated[str, typer.Option(help="For the vote beside it; see pinetune vote.")] = "text",
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes the samples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    unsafe_python_graders: Unsafe = False,
) -> None:
    """The reranker's pick of several answers beside a single one, the vote and the best of them."""
    from pinetune.cli.vote import vote_command

    vote_command(
        model, data, samples=samples, rules=[rule], grader=grader, reranker=reranker, temperature=1.0, max_tokens=None,
        thinking_budget=None, rows=rows, answer_field=None, seed=seed, unsafe_python=unsafe_python_graders, as_json=as_json,
    )  # fmt: skip


def refuse_held_out(asked: Answering, data: Path, rows: list[Row], held_out: list[Path], allow_answer_overlap: bool) -> None:
    """Raises DataError where the rows are, or share answers with, rows that are kept for evidence."""
    from pinetune.data.leakage import check_disjoint
    from pinetune.data.rows import load_rows
    from pinetune.errors import DataError
    from pinetune.runs.provenance import describe_file

    if asked.run is not None and asked.run.provenance_file.exists():
        files = asked.run.read_provenance().get("data_files", {})
        ours = describe_file(data)["sha256"]
        for role in ("validation_file", "test_file"):
            if files.get(role, {}).get("sha256") == ours and files.get("training_file", {}).get("sha256") != ours:
                raise DataError(f"{data}: is the {role} of {asked.run.path}: evidence, not training rows; give its training_file")
    field, allowed = asked.evidence["answer_field"], allow_answer_overlap or not asked.evidence["cluster_by_answer"]
    for path in held_out:
        held = load_rows(path, max_rows=None)
        check_disjoint(rows, held, field, allow_answer_overlap=allowed, train_file=str(data), valid_file=str(path))


def collect(asked: Answering, rows: list[Row], how: HowTrained, console: Console) -> list[JudgedAnswer]:
    """The run's rollouts, or fresh ones."""
    from pinetune.cli.grader_services import grader_services
    from pinetune.evals.reranking import judged_of_groups, judged_of_run
    from pinetune.rollout.run import derive_seed, run_groups

    if not how.samples:
        assert asked.run is not None
        return judged_of_run(asked.run, rows, how.threshold)
    waiting = f"{len(rows)} rows x {how.samples} samples ..."
    with grader_services(asked.grader, asked.grader_file) as judging, console.status(waiting):
        built = asked.grader.build(unsafe_python=how.unsafe_python, services=judging.services(0))
        try:
            seed = derive_seed(how.seed, "rerank")
            groups = run_groups(rows, asked.sampler(), built, num_samples=how.samples, params=asked.params, seed=seed)
        finally:
            built.close()
    return judged_of_groups(groups, how.threshold)


def fit(
    reranker: Reranker,
    ours: list[JudgedAnswer],
    said: Sequence[str | None],
    chosen_by: list[JudgedAnswer],
    settings: RerankerSettings,
    renaming: Renaming | None,
    progress: Any,
) -> list[RerankerReport]:
    """`said`: what each answer says; with `renaming` the row it answers, for names say nothing then.

    Raises DataError where nothing is said both rightly and wrongly.
    """
    from pinetune.errors import DataError
    from pinetune.training.reranker import JudgedText, train_reranker

    def text(one: JudgedAnswer, says: str | None, order: random.Random) -> JudgedText:
        spelled = (one.row, one.reasoning, one.answer) if renaming is None else renaming(one.row, one.reasoning, one.answer, order)
        token_ids, begins = reranker.text(*spelled)
        return JudgedText(token_ids, one.correct, one.row.index, begins, says)

    first = random.Random(settings.seed)
    texts = [text(one, says, first) for one, says in zip(ours, said, strict=True)]
    held_out = [text(one, None, random.Random(one.row.index)) for one in chosen_by]  # of one row all with the same names
    sources = {id(made): one for made, one in zip(texts, ours, strict=True)}

    def vary(made: JudgedText, order: random.Random) -> JudgedText:
        return text(sources[id(made)], str(made.says), order)

    try:
        return train_reranker(reranker, texts, held_out, settings, progress, vary if renaming else None)
    except ValueError as error:
        raise DataError(f"{error}: nothing is answered both rightly and wrongly; more --samples, or --rule none") from None


def _settings(reranker: Reranker, epochs: int, learning_rate: float | None, seed: int) -> RerankerSettings:
    from pinetune.loop.config import base_learning_rate
    from pinetune.training.reranker import RerankerSettings

    size = sum(parameter.numel() for parameter in reranker.model.parameters())
    return RerankerSettings(epochs=epochs, learning_rate=learning_rate or base_learning_rate(size, lora=False), seed=seed)


def _line(report: RerankerReport) -> str:
    where = f"step {report.step} (epoch {report.epoch}): loss {report.loss:.3f}"
    if report.pair_accuracy != report.pair_accuracy:
        return f"{where}; no held-out row has both right and wrong answers"
    return (
        f"{where}; held out: {report.pair_accuracy:.0%} of pairs in the right order, "
        f"picks a correct answer for {report.picked:.0%} of the rows (at random {report.chance:.0%})"
    )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    from pinetune.runs.files import finite

    return dict(finite(values))
