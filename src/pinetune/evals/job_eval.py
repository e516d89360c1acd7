"""A fine-tuning job's own eval: its grader as the criterion, and each held-out report as a run "Step N" with every answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinetune.evals.asking import Answer
from pinetune.evals.cases import Case
from pinetune.evals.criteria import Criterion, result_of, with_ids
from pinetune.evals.items import Item, make_item, tally
from pinetune.graders.build import parse_definition
from pinetune.graders.verdict import pass_threshold
from pinetune.records import EvalReport, Group, Rollout

ANY_ITEM = {"type": "object"}


def job_eval_body(grader: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the eval of a job with this grader: rows of any shape, its grader as the only criterion."""
    schema = {"type": "object", "properties": {"item": ANY_ITEM, "sample": ANY_ITEM}, "required": ["item", "sample"]}
    return {"data_source_config": {"type": "custom", "schema": schema}, "testing_criteria": with_ids([grader])}


def job_run_body(validation_file: str, model: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The run's data source: made again with another `model`, it asks that one the same rows."""
    source = {
        "type": "completions",
        "source": {"type": "file_id", "id": validation_file},
        "model": model,
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        "sampling_params": dict(params),
    }
    return {"data_source": source}


def report_to_run(
    report: EvalReport, criterion: Mapping[str, Any], *, model: str = "", params: Mapping[str, Any] | None = None
) -> tuple[list[Item], dict[str, Any]]:
    """Output items and results of a held-out report. `criterion` is that of the job's eval; positions run through rows and samples.

    An item's id is its row's number, so the samples of one row share it.
    """
    plain = {key: value for key, value in criterion.items() if key != "id"}
    judged = Criterion(str(criterion["id"]), str(plain["type"]), pass_threshold(parse_definition(plain)), None)
    items: list[Item] = []
    for group in report.groups:
        for rollout in group.rollouts:
            items.append(_item(len(items), group, rollout, judged, model, params or {}))
    return items, tally(((item.status, item.body) for item in items), [judged.id])


def _item(position: int, group: Group, rollout: Rollout, criterion: Criterion, model: str, params: Mapping[str, Any]) -> Item:
    completion = rollout.completion
    prompt, written = len(group.prompt.token_ids), len(completion.token_ids)
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written, "cached_tokens": 0}
    answer = Answer(completion, model, completion.finish, usage)
    case = Case(position, group.row.item, line=group.row.line, row=group.row.index, repeat=rollout.sample_index)
    return make_item(case, answer, [result_of(criterion, rollout.grade)], {**params, "seed": rollout.seed}, group.row.messages)
