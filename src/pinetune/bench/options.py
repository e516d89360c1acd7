"""What a bench run needs besides the grader and the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.records import Grader, Row

Price = Callable[[str, Mapping[str, int]], float]  # (model, its prompt_tokens, completion_tokens, ...) -> US dollars


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer an expert has judged: `label` in 0..1. `marked`: it came up in a run, and the grader must get it right from then on."""

    row: Row
    answer: str
    label: float
    marked: bool = False


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """`definition` and `schema` (of the job's response_format) only help to find the form of the answer."""

    num_rows: int = 20
    threshold: float = 0.5  # a gaming probe with a higher mean fails the bench; also pass or fail against labels
    seed: int = 0
    answer_field: str | None = None  # None: found by its usual names
    answer_template: str | None = None  # the reference answer's form: '{"genes": ["{{ item.reference_answer }}"]}'
    definition: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None
    labelled: Sequence[Labelled] = ()
    repeats: int = 5
    again: Callable[[int], Grader] | None = None  # the grader with its judge asked anew: then the spread is measured
    workers: int = 1  # grades at once; more than one where each waits for a judge
    price: Price | None = None  # what a judge's answer costs, where that is known
    told: Callable[[str], None] = lambda _: None  # progress: what is being done, a few words
