"""A model on held-out rows: the report with its intervals, and the comparison of two models on the same rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from pinetune.data.answers import find_answer_field, lookup, normalise
from pinetune.errors import GraderError
from pinetune.evals.ranking import METRICS, Ranking, detect
from pinetune.evals.statistics import PairedResult, mean_interval, paired_difference
from pinetune.records import Completion, EvalReport, Grader, Group, Prompt, Rollout, Row, Sampler, SamplingParams
from pinetune.rollout.run import run_groups


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports on the rows that both have a grade for: differences are second minus first."""

    reward: PairedResult
    metrics: Mapping[str, PairedResult]
    num_rows: int
    num_unpaired: int  # rows that only one of the two has a grade for


def evaluate(
    rows: Sequence[Row],
    sampler: Sampler,
    grader: Grader,
    *,
    params: SamplingParams,
    num_samples: int = 1,
    seed: int = 0,
    step: int = 0,
    name: str = "",
    answer_field: str | None = None,
    list_field: str | None = None,
    cluster_by_answer: bool = True,
    on_group: Callable[[Group], None] | None = None,
) -> EvalReport:
    """Sample and grade every row (`num_samples` each) with the code that training uses, and report."""
    began = time.monotonic()
    groups = run_groups(rows, sampler, grader, num_samples=num_samples, params=params, seed=seed, on_group=on_group)
    seconds = time.monotonic() - began
    name = name or f"step {step}"
    return build_report(step, name, groups, answer_field, seconds, list_field=list_field, cluster_by_answer=cluster_by_answer)


def grade_answers(rows: Sequence[Row], answers: Sequence[str], grader: Grader) -> list[Group]:
    """Groups for answers that no model sampled (a classical tool's), graded as a model's would be: no tokens, no thinking."""
    groups = []
    for row, answer in zip(rows, answers, strict=True):
        completion = Completion(token_ids=(), logprobs=(), forced=(), finish="stop", answer=answer)
        rollout = Rollout(row.index, 0, 0, completion, grader.grade(completion, row))
        groups.append(Group(row, Prompt(()), (rollout,)))
    return groups


def build_report(
    step: int,
    name: str,
    groups: Sequence[Group],
    answer_field: str | None,
    seconds: float,
    *,
    list_field: str | None = None,
    cluster_by_answer: bool = True,
) -> EvalReport:
    """Reward and, for ranked lists, top-1, top-5, top-max and MRR, each with a 95% interval.

    A row's value is the mean over its graded samples; rows that share the answer in `answer_field` (None: found by its
    usual names) form one cluster, and rows without an answer stand alone. `cluster_by_answer` False: every row stands
    alone, right where answers are a closed set or worked out from the prompt (yes/no, a number), as there the few
    answers are no sample of many. `list_field` tells the field of a ranked list (None: read off the answers).
    What could not be graded is left out and counted in `num_ungraded`.
    Raises GraderError, with the first reason, when nothing at all could be graded.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    graded = [group for group in groups if group.graded()]
    if not graded:
        reason = next((r.grade.explanation for r in rollouts), "there are no rows")
        raise GraderError(f"eval {name!r}: none of {len(rollouts)} answers could be graded. The first reason:\n{reason}")
    answer_field = answer_field or find_answer_field([group.row for group in groups])
    clusters = clusters_of(graded, answer_field if cluster_by_answer else None)
    values = metric_values(graded, detect(groups, answer_field, list_field))
    return EvalReport(
        step=step,
        name=name,
        reward=mean_interval([row_reward(group) for group in graded], clusters),
        metrics={metric: mean_interval(of_rows, clusters) for metric, of_rows in values.items()},
        num_ungraded=sum(rollout.grade.status != "ok" for rollout in rollouts),
        completion_tokens_mean=statistics.fmean(len(r.completion.token_ids) for r in rollouts),
        reasoning_tokens_mean=statistics.fmean(r.completion.reasoning_tokens for r in rollouts),
        truncated_fraction=statistics.fmean(r.completion.finish == "length" for r in rollouts),
        seconds=seconds,
        groups=tuple(groups),
    )


def compare(
    first: EvalReport,
    second: EvalReport,
    *,
    answer_field: str | None = None,
    list_field: str | None = None,
    cluster_by_answer: bool = True,
) -> Comparison:
    """`second` minus `first`, paired by row index, for the reward and each ranking metric; fields as in `build_report`.

    Raises ValueError when the two share no graded row or a row index means different rows: then they are no pair.
    """
    ours, theirs = ({g.row.index: g for g in report.groups if g.graded()} for report in (first, second))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError(f"evals {first.name!r} and {second.name!r} have no graded row in common")
    for index in shared:
        if ours[index].row.item != theirs[index].row.item:
            raise ValueError(f"evals {first.name!r} and {second.name!r} are of different data: their rows {index} differ")
    a, b = [ours[i] for i in shared], [theirs[i] for i in shared]
    answer_field = answer_field or find_answer_field([group.row for group in a])
    clusters = clusters_of(a, answer_field if cluster_by_answer else None)
    ranking = detect([*a, *b], answer_field, list_field)
    before, after = metric_values(a, ranking), metric_values(b, ranking)
    return Comparison(
        reward=paired_difference([row_reward(g) for g in a], [row_reward(g) for g in b], clusters),
        metrics={metric: paired_difference(before[metric], after[metric], clusters) for metric in before},
        num_rows=len(shared),
        num_unpaired=len(ours.keys() ^ theirs.keys()),
    )


def align(
    reports: Sequence[EvalReport], *, answer_field: str | None = None, list_field: str | None = None, cluster_by_answer: bool = True
) -> list[EvalReport]:
    """The reports with the same metrics: if one model's answers are ranked lists, a model that wrote none has a top-1 of 0."""
    groups = [group for report in reports for group in report.groups]
    answer_field = answer_field or find_answer_field([group.row for group in groups])
    ranking = detect(groups, answer_field, list_field)
    cluster_field = answer_field if cluster_by_answer else None
    return [report if report.metrics else _with_metrics(report, ranking, cluster_field) for report in reports]


def _with_metrics(report: EvalReport, ranking: Ranking | None, cluster_field: str | None) -> EvalReport:
    graded = [group for group in report.groups if group.graded()]
    clusters = clusters_of(graded, cluster_field)
    return replace(report, metrics={m: mean_interval(v, clusters) for m, v in metric_values(graded, ranking).items() if v})


def clusters_of(groups: Sequence[Group], answer_field: str | None) -> list[Hashable]:
    """Rows with the same reference answer are one cluster; a row without one is a cluster of its own."""
    answers = [None if answer_field is None else lookup(group.row.item, answer_field) for group in groups]
    return [group.row.index if answer is None else normalise(answer) for group, answer in zip(groups, answers, strict=True)]


def row_reward(group: Group) -> float:
    return statistics.fmean(group.rewards())


def metric_values(groups: Sequence[Group], ranking: Ranking | None) -> dict[str, list[float]]:
    """Per ranking metric one value a row; nothing where the task has no ranked lists."""
    if ranking is None:
        return {}
    rows = [ranking.row_values(group) for group in groups]
    return {metric: [row[metric] for row in rows] for metric in METRICS}
