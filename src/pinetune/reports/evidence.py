"""What a finished run has to show: the reports on the same rows, their paired comparisons, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pinetune.data.answers import find_answer_field
from pinetune.evals.evaluate import Comparison, align, clusters_of, compare, metric_values, row_reward
from pinetune.evals.power import smallest_difference
from pinetune.evals.ranking import Ranking, detect
from pinetune.evals.selection import Selection
from pinetune.evals.statistics import PairedResult
from pinetune.records import EvalReport, Interval
from pinetune.reports.charts import METRIC_NAMES, interval_of

SIGNIFICANT = 0.05
Outcome = Literal["better", "unclear", "worse"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """`base`, `tuned` and `ranker` have the same metrics; comparisons are tuned minus the other."""

    base: EvalReport
    tuned: EvalReport
    ranker: EvalReport | None
    gain: Comparison
    edge: Comparison | None  # over the ranker
    curve: Sequence[Mapping[str, Any]]  # rows of metrics.jsonl
    model: str
    held_out: str  # what the rows are called: "held-out cases of genes never trained on"
    overlap_of_answers: int | None  # held-out rows whose answer occurs in training; None = rows without answers
    seconds: float
    steps: int
    step_chosen_on_these_rows: bool
    answer_field: str | None
    cluster_by_answer: bool
    ranking: Ranking | None
    smallest_difference: float  # of `metric`, that these rows had an 80% chance to show
    selection: Selection | None  # what the choice of the step adds; None where it was made on other rows

    @property
    def metric(self) -> str:
        """The one that the verdict is about."""
        return "top1" if "top1" in self.tuned.metrics else "reward"

    @property
    def metrics(self) -> list[str]:
        return [*self.tuned.metrics, "reward"]


def gather(
    *,
    base: EvalReport,
    tuned: EvalReport,
    ranker: EvalReport | None,
    curve: Sequence[Mapping[str, Any]],
    model: str,
    held_out: str,
    overlap_of_answers: int | None,
    seconds: float,
    step_chosen_on_these_rows: bool,
    answer_field: str | None,
    list_field: str | None,
    cluster_by_answer: bool,
    selection: Selection | None = None,
) -> Evidence:
    """Raises ValueError where the reports are not of the same rows."""
    fields: dict[str, Any] = {"answer_field": answer_field, "list_field": list_field, "cluster_by_answer": cluster_by_answer}
    aligned = align([base, tuned, *([ranker] if ranker else [])], **fields)
    base, tuned, ranker = aligned[0], aligned[1], aligned[2] if ranker else None
    groups = [group for report in aligned for group in report.groups]
    answer_field = answer_field or find_answer_field([group.row for group in groups])
    ranking = detect(groups, answer_field, list_field)
    trained = [int(row["step"]) for row in curve if "train_reward_mean" in row]
    return Evidence(
        base=base,
        tuned=tuned,
        ranker=ranker,
        gain=compare(base, tuned, **fields),
        edge=compare(ranker, tuned, **fields) if ranker else None,
        curve=curve,
        model=model.rstrip("/").rpartition("/")[2] if model.startswith((".", "/", "~")) else model,  # a folder's name, not its place
        held_out=held_out or ("held-out rows whose answers never occur in training" if overlap_of_answers == 0 else "held-out rows"),
        overlap_of_answers=overlap_of_answers,
        seconds=seconds,
        steps=max(trained, default=tuned.step),
        step_chosen_on_these_rows=step_chosen_on_these_rows,
        answer_field=answer_field,
        cluster_by_answer=cluster_by_answer,
        ranking=ranking,
        smallest_difference=_smallest_difference(base, tuned, ranking, answer_field if cluster_by_answer else None),
        selection=selection,
    )


def _smallest_difference(base: EvalReport, tuned: EvalReport, ranking: Ranking | None, cluster_field: str | None) -> float:
    """Of the metric that the verdict is about."""
    ours, theirs = ({group.row.index: group for group in report.groups if group.graded()} for report in (base, tuned))
    shared = sorted(ours.keys() & theirs.keys())
    a, b = [ours[i] for i in shared], [theirs[i] for i in shared]
    if ranking is not None and "top1" in tuned.metrics:
        before, after = (metric_values(groups, ranking)["top1"] for groups in (a, b))
    else:
        before, after = ([row_reward(group) for group in groups] for groups in (a, b))
    return smallest_difference(before, after, clusters_of(a, cluster_field))


def paired(comparison: Comparison, metric: str) -> PairedResult:
    return comparison.reward if metric == "reward" else comparison.metrics[metric]


def outcome(evidence: Evidence) -> Outcome:
    """ "better" takes both: a paired p of at most 0.05 and intervals that do not overlap; "worse" takes the p alone."""
    result = paired(evidence.gain, evidence.metric)
    if result.p_value > SIGNIFICANT or result.difference.value == 0:
        return "unclear"
    if result.difference.value < 0:
        return "worse"
    before, after = interval_of(evidence.base, evidence.metric), interval_of(evidence.tuned, evidence.metric)
    return "better" if after.low > before.high else "unclear"


def verdict(evidence: Evidence) -> str:
    """One sentence that a reader who knows no statistics can rely on."""
    metric, kind = evidence.metric, outcome(evidence)
    before, after = interval_of(evidence.base, metric), interval_of(evidence.tuned, metric)
    result = paired(evidence.gain, metric)
    name = METRIC_NAMES[metric]
    rows = f"on {after.n} {evidence.held_out}"
    change = f"from {with_interval(before, metric)} to {with_interval(after, metric)} {rows}"
    if kind == "better":
        return f"{capital(name)} rose {change} (paired {p_text(result.p_value)})."
    if kind == "worse":
        return f"The tuned model is worse: {name} fell {change} (paired {p_text(result.p_value)})."
    difference = f"{name} went {change} (difference {difference_text(result.difference, metric)}, paired {p_text(result.p_value)})"
    if result.p_value > SIGNIFICANT:
        return f"The tuned model is not shown to be better: {difference}. So small a difference on so few rows may be chance."
    return (
        f"The tuned model is not clearly shown to be better: {difference}. "
        "The paired test favours it, but the two intervals overlap; more held-out rows would settle it."
    )


def ranker_verdict(evidence: Evidence) -> str:
    """How the tuned model stands against the classical ranker; "" where there is none."""
    if evidence.ranker is None or evidence.edge is None:
        return ""
    metric = evidence.metric
    result = paired(evidence.edge, metric)
    there = (
        f"The classical ranker, which learns nothing, has {with_interval(interval_of(evidence.ranker, metric), metric)} on the same rows"
    )
    numbers = f"({difference_text(result.difference, metric)}, paired {p_text(result.p_value)})"
    if result.p_value > SIGNIFICANT:
        return f"{there}: the tuned model is not shown to differ from it {numbers}."
    return f"{there}: the tuned model is {'ahead of' if result.difference.value > 0 else 'behind'} it {numbers}."


def cautions(evidence: Evidence) -> list[str]:
    """What a careful reader should know before believing the numbers."""
    tuned, found = evidence.tuned, []
    if evidence.overlap_of_answers:
        found.append(
            f"{evidence.overlap_of_answers} of the held-out rows have an answer that training rewards too: part of a gain may be memory."
        )
    if evidence.step_chosen_on_these_rows and tuned.step > 0:
        count = sum(row.get("valid_reward_mean") is not None for row in evidence.curve)
        found.append(
            f"The kept step was chosen as the best of {count} evaluations on these same rows, which flatters the tuned model"
            f"{_by_how_much(evidence.selection)}. Numbers on a test_file are free of that."
        )
    if tuned.step == 0:
        found.append("No step did better on held-out rows than the base model, so the base weights were kept.")
    elif tuned.step == evidence.steps:
        found.append("The last step was the best one: more steps may bring more.")
    for report in [evidence.base, tuned]:
        total = sum(len(group.rollouts) for group in report.groups)
        if report.num_ungraded:
            found.append(f"{report.name}: {report.num_ungraded} of {total} answers could not be graded and are left out.")
        if report.truncated_fraction > 0.1:
            found.append(f"{report.name}: {report.truncated_fraction:.0%} of answers hit the token limit before they ended.")
    if evidence.gain.num_unpaired:
        found.append(f"{evidence.gain.num_unpaired} rows have a grade for one of the two models only and are not compared.")
    if outcome(evidence) == "unclear" and 0 < evidence.smallest_difference < math.inf:
        points = evidence.smallest_difference
        shown = f"{points:.2f}" if evidence.metric == "reward" else f"{100 * points:.0f} points"
        found.append(f"These rows can show a difference of about {shown} or more (80% power); a smaller one would mostly go unseen.")
    if tuned.reward.n < 50:
        found.append(f"{tuned.reward.n} rows are few: the intervals are wide, and 200 or more would say much more.")
    return found


def _by_how_much(selection: Selection | None) -> str:
    """By the bootstrap; answers that are drawn anew for the final comparison carry less of it."""
    return f" by up to about {selection.flattery:.2f} of reward" if selection is not None and selection.flattery >= 0.005 else " a little"


def with_interval(interval: Interval, metric: str, decimals: int = 0) -> str:
    """ "68% [62–74]" for shares, "0.68 [0.62–0.74]" for rewards."""
    if metric in ("reward", "mrr"):
        return f"{interval.value:.2f} [{interval.low:.2f}–{interval.high:.2f}]"
    return f"{100 * interval.value:.{decimals}f}% [{100 * interval.low:.{decimals}f}–{100 * interval.high:.{decimals}f}]"


def difference_text(interval: Interval, metric: str) -> str:
    """ "+49.3 points [+41.2, +57.0]" for shares, "+0.42 [+0.36, +0.48]" for rewards."""
    if metric in ("reward", "mrr"):
        return _signs(f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]")
    return _signs(f"{100 * interval.value:+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]")


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.1 else f"p = {p_value:.2f}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _signs(text: str) -> str:
    return text.replace("-", "−")  # a true minus sign stands apart from the dash of a range
