"""`/v1/pinetune/evals/...`: the numbers of runs with their intervals, and comparisons. Ours; shapes only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class IntervalObject(BaseModel):
    """A number, its 95% interval, and how many rows stand behind it."""

    value: float
    low: float
    high: float
    n: int


class RunMeasuresObject(BaseModel):
    """`num_clusters`: rows that count as independent, one for each different right answer."""

    object: Literal["eval.run.metrics"] = "eval.run.metrics"
    eval_id: str
    run_id: str
    status: str
    num_rows: int
    num_clusters: int
    num_items: int
    num_errored: int
    metrics: dict[str, IntervalObject]


class PairedObject(BaseModel):
    """`smallest_difference` is what these rows had an 80% chance to show; null where that is unbounded."""

    first: float
    second: float
    difference: IntervalObject
    p_value: float
    smallest_difference: float | None


class RunComparisonObject(BaseModel):
    """Second minus first. `graded_differently`: criteria of one name with two definitions: their numbers do not compare."""

    object: Literal["eval.run.comparison"] = "eval.run.comparison"
    first: str
    second: str
    num_rows: int
    num_clusters: int
    num_unpaired: int
    graded_differently: list[str]
    metrics: dict[str, PairedObject]
