"""The numbers of a run with their intervals, and the paired comparison of two runs on the same rows.

Beside each criterion stand the ranked-list metrics (top-1, top-5, top-max, MRR) where the answers are ranked lists, so that a run
of any model is judged as a training job's held-out rows are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.data.answers import find_answer_field
from pinetune.evals.evaluate import clusters_of, metric_values, row_reward
from pinetune.evals.power import detectable_share, smallest_difference
from pinetune.evals.ranking import Ranking, detect
from pinetune.evals.statistics import PairedResult, mean_interval, paired_difference
from pinetune.records import Completion, Grade, Group, Interval, Prompt, Rollout, Row

UUID = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
Body = Mapping[str, Any]
Value = Callable[[Body], float | None]  # of an item; None = could not be graded


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a run's rows. None: found by their usual names; see `evals.evaluate`."""

    answer_field: str | None = None
    list_field: str | None = None
    cluster_by_answer: bool = True


@dataclass(frozen=True, slots=True)
class RunMeasures:
    """`measures`: "passed" (all criteria), "<criterion> score", "<criterion> passed", and the ranked-list metrics."""

    measures: Mapping[str, Interval]
    num_rows: int
    num_items: int
    num_errored: int
    num_clusters: int  # rows that count as independent: different right answers, or all rows


@dataclass(frozen=True, slots=True)
class PairedMeasure:
    """`smallest` is the smallest difference that these rows had an 80% chance to show."""

    first: float
    second: float
    paired: PairedResult
    smallest: float


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Second minus first, on the rows for which both have a value."""

    measures: Mapping[str, PairedMeasure]
    num_rows: int
    num_unpaired: int  # rows that only one of the two has
    num_clusters: int


def measure(items: Sequence[Body], reading: Reading | None = None) -> RunMeasures:
    """`items` are output items with `status` and what the API shows. A row's value is the mean over its graded samples.

    Raises ValueError where there are no items.
    """
    if not items:
        raise ValueError("the run has no output items yet")
    how = reading or Reading()
    found: dict[str, Interval] = {}
    for name, value in _values(items).items():
        groups = [group for group in _groups(items, value) if group.graded()]
        if groups:
            found[name] = mean_interval([row_reward(group) for group in groups], _clusters(groups, how))
    answered = _answered(items)
    if answered:
        for name, values in metric_values(answered, _ranking(answered, how)).items():
            found[name] = mean_interval(values, _clusters(answered, how))
    errored, rows = sum(item["status"] == "error" for item in items), _groups(items, lambda _: 0.0)
    return RunMeasures(found, len(rows), len(items), errored, len(set(_clusters(rows, how))))


def compare_runs(first: Sequence[Body], second: Sequence[Body], reading: Reading | None = None) -> RunComparison:
    """Raises ValueError when the two share no row, or a row number means different rows: then they are no pair."""
    how = reading or Reading()
    _check_same_rows(first, second)
    ones, others = _values(first), _values(second)
    found: dict[str, PairedMeasure] = {}
    for name in ones:
        if name in others:
            a, b = (_graded(_groups(items, values[name])) for items, values in ((first, ones), (second, others)))
            pair = _paired(a, b, lambda groups: [row_reward(group) for group in groups], how)
            if pair is not None:
                found[name] = pair
    a, b = _graded(_answered(first)), _graded(_answered(second))
    shared = [*a.values(), *b.values()]
    ranking = _ranking(shared, how) if shared else None
    for name in metric_values([], ranking):
        pair = _paired(a, b, lambda groups, metric=name: metric_values(groups, ranking)[metric], how)  # type: ignore[misc]
        if pair is not None:
            found[name] = pair
    if not found:
        raise ValueError("the two runs have no graded row in common")
    rows, more = {_row(item) for item in first}, {_row(item) for item in second}
    both = _groups([item for item in first if _row(item) in more], lambda _: 0.0)
    return RunComparison(found, len(rows & more), len(rows ^ more), len(set(_clusters(both, how))))


def label(criterion: str) -> str:
    """A criterion's name without the uuid that its id carries.

    >>> label("exact-0e7a1c52-4a6f-4d5e-9a53-0d8f7c1f2b11"), label("exact-1")
    ('exact', 'exact-1')
    """
    return UUID.sub("", criterion)


def _values(items: Sequence[Body]) -> dict[str, Value]:
    ids = dict.fromkeys(result["name"] for item in items for result in item["results"])
    names = [label(id) for id in ids]
    found: dict[str, Value] = {"passed": lambda item: None if item["status"] == "error" else float(item["status"] == "pass")}
    for id, name in zip(ids, names, strict=True):
        shown = name if names.count(name) == 1 else id
        found[f"{shown} score"] = _of_criterion(id, "score")
        found[f"{shown} passed"] = _of_criterion(id, "passed")
    return found


def _of_criterion(id: str, key: str) -> Value:
    def value(item: Body) -> float | None:
        result = next((result for result in item["results"] if result["name"] == id), None)
        found = None if result is None or result.get("error") is not None else result.get(key)
        return None if found is None else float(found)

    return value


def _groups(items: Sequence[Body], value: Value) -> list[Group]:
    """One group a row, its samples in order; the grade is `value`."""
    rows: dict[int, list[Body]] = {}
    for item in items:
        rows.setdefault(_row(item), []).append(item)
    return [_group(index, found, value) for index, found in sorted(rows.items())]


def _group(index: int, items: Sequence[Body], value: Value) -> Group:
    rollouts = []
    for sample, item in enumerate(items):
        number = value(item)
        output = item["sample"].get("output") or []
        answer = str(output[0].get("content") or "") if output else ""
        grade = Grade("error") if number is None else Grade("ok", number)
        rollouts.append(Rollout(index, sample, 0, Completion((), (), (), "stop", answer), grade))
    return Group(Row(index, (), items[0]["datasource_item"]), Prompt(()), tuple(rollouts))


def _answered(items: Sequence[Body]) -> list[Group]:
    """Rows that were answered, graded or not: a ranked list is read without a grader."""
    groups = _groups(items, lambda item: None if item["sample"].get("error") else 0.0)
    return [group for group in groups if group.graded()]


def _graded(groups: Sequence[Group]) -> dict[int, Group]:
    return {group.row.index: group for group in groups if group.graded()}


def _paired(
    a: Mapping[int, Group], b: Mapping[int, Group], values: Callable[[Sequence[Group]], list[float]], how: Reading
) -> PairedMeasure | None:
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    ones, others = [a[index] for index in shared], [b[index] for index in shared]
    clusters = _clusters(ones, how)
    before, after = values(ones), values(others)
    smallest = smallest_difference(before, after, clusters)
    # Where no row differs nothing is known of the scatter: say what that many answers show of a share at best guess.
    smallest = smallest if smallest > 0 else detectable_share(len(set(clusters)))
    return PairedMeasure(sum(before) / len(before), sum(after) / len(after), paired_difference(before, after, clusters), smallest)


def _clusters(groups: Sequence[Group], how: Reading) -> list[Any]:
    return clusters_of(groups, _answer_field(groups, how) if how.cluster_by_answer else None)


def _ranking(groups: Sequence[Group], how: Reading) -> Ranking | None:
    return detect(groups, _answer_field(groups, how), how.list_field)


def _answer_field(groups: Sequence[Group], how: Reading) -> str | None:
    return how.answer_field or find_answer_field([group.row for group in groups])


def _row(item: Body) -> int:
    return int(item["datasource_item_id"])


def _check_same_rows(first: Sequence[Body], second: Sequence[Body]) -> None:
    ours = {_row(item): item["datasource_item"] for item in first}
    shared = [item for item in second if _row(item) in ours]
    if not shared:
        raise ValueError("the two runs have no row in common")
    wrong = next((item for item in shared if ours[_row(item)] != item["datasource_item"]), None)
    if wrong is not None:
        raise ValueError(f"the two runs are of different data: their rows {_row(wrong)} differ")
