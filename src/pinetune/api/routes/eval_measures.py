"""`/v1/pinetune/evals`: a run's numbers with their intervals, and two runs compared row by row."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from pinetune.api.auth import Who
from pinetune.api.context import Context, Here
from pinetune.wire.errors import ApiProblem
from pinetune.wire.eval_measures import IntervalObject, PairedObject, RunComparisonObject, RunMeasuresObject

routes = APIRouter(prefix="/pinetune/evals", tags=["pinetune"])
Field = Annotated[str | None, Query(max_length=200)]
RunId = Annotated[str, Query(max_length=100)]


@routes.get("/compare", operation_id="compareEvalRuns")
def compare(
    first: RunId, second: RunId, here: Here, who: Who, answer_field: Field = None, list_field: Field = None, cluster_by_answer: bool = True
) -> RunComparisonObject:
    """Second minus first on the rows that both have; the runs may be of different models and of different evals."""
    from pinetune.evals.measures import Reading, compare_runs
    from pinetune.evals.run_file import graded_differently

    runs = [here.store.eval_runs.get(id, who.project) for id in (first, second)]
    reading = Reading(answer_field, list_field, cluster_by_answer)
    try:
        found = compare_runs(_items(here, runs[0].id), _items(here, runs[1].id), reading)
    except ValueError as error:
        raise ApiProblem(400, str(error), code="runs_not_comparable", param="second") from None
    metrics = {
        name: PairedObject(
            first=pair.first,
            second=pair.second,
            difference=IntervalObject(**asdict(pair.paired.difference)),
            p_value=pair.paired.p_value,
            smallest_difference=pair.smallest if math.isfinite(pair.smallest) else None,
        )
        for name, pair in found.measures.items()
    }
    graders = [_graders(here, run.eval_id, who.project) for run in runs]
    return RunComparisonObject(
        first=first,
        second=second,
        num_rows=found.num_rows,
        num_clusters=found.num_clusters,
        num_unpaired=found.num_unpaired,
        graded_differently=graded_differently(*graders),
        metrics=metrics,
    )


@routes.get("/{eval_id}/runs/{run_id}/metrics", operation_id="getEvalRunMetrics")
def get_metrics(
    eval_id: str,
    run_id: str,
    here: Here,
    who: Who,
    answer_field: Field = None,
    list_field: Field = None,
    cluster_by_answer: bool = True,
) -> RunMeasuresObject:
    """Pass rates and mean scores with 95% intervals; top-1, top-5, top-max and MRR where the answers are ranked lists."""
    from pinetune.evals.measures import Reading, measure

    run = here.store.eval_runs.get(run_id, who.project, eval_id)
    try:
        found = measure(_items(here, run.id), Reading(answer_field, list_field, cluster_by_answer))
    except ValueError as error:
        raise ApiProblem(400, str(error), code="no_items", param="run_id") from None
    return RunMeasuresObject(
        eval_id=eval_id,
        run_id=run_id,
        status=run.status,
        num_rows=found.num_rows,
        num_clusters=found.num_clusters,
        num_items=found.num_items,
        num_errored=found.num_errored,
        metrics={name: IntervalObject(**asdict(interval)) for name, interval in found.measures.items()},
    )


def _graders(here: Context, eval_id: str, project: str) -> dict[str, dict[str, Any]]:
    """Criterion id -> its definition."""
    return {str(criterion["id"]): criterion for criterion in here.store.evals.get(eval_id, project).body["testing_criteria"]}


def _items(here: Context, run_id: str) -> list[dict[str, Any]]:
    from pinetune.evals.run_items import items_of

    return [{"status": item.status, **item.body} for item in items_of(here.store, run_id)]
