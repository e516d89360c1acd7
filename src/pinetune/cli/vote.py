"""`pinetune vote MODEL`: several answers to each row, one of them taken, beside a single answer: is voting worth its samples?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pinetune.errors import UserError

if TYPE_CHECKING:
    from pinetune.evals.several import SeveralReport
    from pinetune.records import Group, Interval, Row


def vote(
    model: Annotated[str, typer.Argument(help="a run folder (brings its grader and sampling), a model folder, or a hub id")],
    data: Annotated[Path, typer.Option(help="rows to answer")],
    samples: Annotated[int, typer.Option(min=2, help="answers a row")] = 16,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="what counts as the same answer: text (default), json:FIELD, first, number, last_number, choice, program, "
            "borda, reciprocal; several are compared on the same samples"
        ),
    ] = None,
    grader: Annotated[Path | None, typer.Option(help="a grader in OpenAI's JSON, or a job body; default: that of the run")] = None,
    reranker: Annotated[Path | None, typer.Option(help="a folder made by pinetune rerank train: its pick is judged too")] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="of the samples; the single answer they are compared with has 0")
    ] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="longest answer, thinking included; default: the run's, else 512")] = None,
    thinking_budget: Annotated[int | None, typer.Option(min=0, help="most thinking tokens; default: the run's, else 3/4 of them")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="only the first rows")] = None,
    answer_field: Annotated[str | None, typer.Option(help="field of the reference answer; default: found by its usual names")] = None,
    seed: Annotated[int, typer.Option(help="fixes the samples")] = 0,
    unsafe_python_graders: Annotated[bool, typer.Option(help="run python graders and programs unconfined")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, for programs")] = False,
) -> None:
    """Several answers to each row: is a majority vote, or the best by a reranker, better than one answer?"""
    vote_command(
        model, data, samples=samples, rules=rule or ["text"], grader=grader, reranker=reranker, temperature=temperature,
        max_tokens=max_tokens, thinking_budget=thinking_budget, rows=rows, answer_field=answer_field, seed=seed,
        unsafe_python=unsafe_python_graders, as_json=as_json,
    )  # fmt: skip


def vote_command(
    model: str,
    data: Path,
    *,
    samples: int,
    rules: list[str],
    grader: Path | None,
    reranker: Path | None,
    temperature: float,
    max_tokens: int | None,
    thinking_budget: int | None,
    rows: int | None,
    answer_field: str | None,
    seed: int,
    unsafe_python: bool,
    as_json: bool,
) -> None:
    """Sample, grade, vote, compare; print the table or one JSON object."""
    from dataclasses import replace

    from pinetune.cli.answering import answering
    from pinetune.cli.grader_services import grader_services
    from pinetune.data.rows import load_rows
    from pinetune.evals.answer_rules import open_rule
    from pinetune.evals.evaluate import evaluate
    from pinetune.evals.several import GREEDY, judge_several
    from pinetune.rollout.run import derive_seed, run_groups

    found = load_rows(data, max_rows=None)[:rows]
    if not found:
        raise UserError(f"{data}: has no rows")
    asked = answering(model, grader, max_tokens=max_tokens, thinking_budget=thinking_budget, answer_field=answer_field)
    opened = [open_rule(rule, unsafe_python=unsafe_python) for rule in dict.fromkeys(rules)]
    console = Console(stderr=True)
    try:
        with grader_services(asked.grader, asked.grader_file) as judging, console.status(f"{len(found)} rows x {samples} samples ..."):
            built = asked.grader.build(unsafe_python=unsafe_python, services=judging.services(0))
            try:
                scorer = _scorer(reranker, found, data) if reranker else None
                sampler = asked.sampler()
                greedy = evaluate(
                    found, sampler, built, params=replace(asked.params, temperature=0.0), seed=seed, name=GREEDY, **asked.evidence
                )
                params = replace(asked.params, temperature=temperature)
                groups = run_groups(found, sampler, built, num_samples=samples, params=params, seed=derive_seed(seed, "vote"))
                report = judge_several(groups, built, opened, greedy=greedy, scorer=scorer, **asked.evidence)
            finally:
                built.close()
    finally:
        for rule in opened:
            rule.close()
    if as_json:
        typer.echo(json.dumps(as_object(report, groups), ensure_ascii=False))
    else:
        show(report, Console())


def _scorer(folder: Path, rows: list[Row], data: Path) -> Any:
    from pinetune.evals.reranking import refuse_trained_rows
    from pinetune.models.reranker import open_reranker

    reranker = open_reranker(folder, device="auto")
    refuse_trained_rows(reranker.settings, rows, str(data))
    return reranker.score_group


def show(report: SeveralReport, console: Console) -> None:
    """The table, what the paired tests say, and how far agreement can be trusted."""
    from rich.table import Table

    metrics = ["reward", *(name for name in ("top1", "top5", "mrr") if name in report.ways[0].metrics)]
    table = Table(
        title=f"{report.num_samples} samples a row, rule {', '.join(report.rules)}, n={report.ways[0].reward.n}", title_justify="left"
    )
    for head in ("", *metrics):
        table.add_column(head, justify="left" if not head else "right", no_wrap=True)
    for way in report.ways:
        table.add_row(way.name, *(_spread(way.reward if name == "reward" else way.metrics[name]) for name in metrics))
    console.print(table)
    console.print("\n".join(_lines(report)), highlight=False, soft_wrap=True)


def _lines(report: SeveralReport) -> list[str]:
    from pinetune.evals.several import BEST, SINGLE

    lines = [f"Reward minus that of {report.ways[0].name}, paired by row:"]
    for name, found in report.against.items():
        lines.append(f"  {name}: {_spread(found.reward.difference, sign='+')}, p {_p(found.reward.p_value)}")
    tried = sum(name not in (SINGLE, BEST) for name in report.against)
    if tried > 1:
        lines.append(f"  {tried} ways were tried on these rows, and the best of them is in part the luckiest: count its p {tried} times.")
    lines.append("Reward of the vote where")
    lines += [f"  {one.share:.0%} or more agree: {_spread(one.reward)} on {one.reward.n} rows" for one in report.agreement]
    total = report.num_samples * len(report.votes)
    if report.num_read < total:
        lines.append(f"The rule read an answer in {report.num_read} of {total} samples.")
    ungraded = ", ".join(f"{way.name} {way.num_ungraded}" for way in report.ways if way.num_ungraded)
    if ungraded:
        lines.append(f"Could not be graded: {ungraded}.")
    return [*lines, "'best of n' knows the reference: no way of choosing among these samples can pass it."]


def as_object(report: SeveralReport, groups: list[Group]) -> dict[str, Any]:
    """Everything as one JSON object: ways, paired tests, agreement, and each row's vote."""
    rows = [
        {"row": group.row.index, "line": group.row.line, "answer": one.answer, "shown": one.shown, "share": one.share, "votes": one.votes}
        for group, one in zip(groups, report.votes, strict=True)
    ]
    return {
        "rules": report.rules,
        "samples": report.num_samples,
        "num_read": report.num_read,
        "ways": {
            way.name: {
                "reward": _interval(way.reward),
                **{name: _interval(number) for name, number in way.metrics.items()},
                "num_ungraded": way.num_ungraded,
            }
            for way in report.ways
        },
        "baseline": report.ways[0].name,
        "against_baseline": {
            name: {
                metric: {**_interval(paired.difference), "p_value": paired.p_value}
                for metric, paired in {"reward": found.reward, **found.metrics}.items()
            }
            for name, found in report.against.items()
        },
        "agreement": [{"share": one.share, "reward": _interval(one.reward)} for one in report.agreement],
        "rows": rows,
    }


def _interval(number: Interval) -> dict[str, Any]:
    return {"value": number.value, "ci95": [number.low, number.high], "n": number.n}


def _spread(number: Interval, sign: str = "") -> str:
    between = " to " if sign else "-"
    return f"{number.value:{sign}.2f} [{number.low:{sign}.2f}{between}{number.high:{sign}.2f}]"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
