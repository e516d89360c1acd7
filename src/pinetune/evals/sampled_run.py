"""The rows of a run answered by a model in this process: sampled together, graded while the others are still being sampled."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pinetune.errors import GradingFailed
from pinetune.evals.asking import Answer
from pinetune.evals.cases import Case, completion_of
from pinetune.evals.eval_run import CONCURRENCY, Plan, tools_in
from pinetune.evals.items import Item, make_item
from pinetune.records import Completion, Prompt, Row, Sampler, SamplingParams
from pinetune.rollout.run import derive_seed


def run_sampled(
    cases: Sequence[Case],
    plan: Plan,
    sampler: Sampler,
    model: str,
    params: SamplingParams,
    *,
    seed: int,
    keep: Callable[[Sequence[Item]], object],
    done: Container[int] = (),
) -> None:
    """As `run_cases`. `cases` are samples of rows, those of one row next to each other (`cases.repeated`).

    Sample s of row r is seeded by (seed, r, s) alone, so a run that goes on gives what it would have given.
    """
    rows: dict[int, list[Case]] = {}
    for case in cases:
        rows.setdefault(case.position if case.row is None else case.row, []).append(case)
    prompts: list[Prompt] = []
    asked: list[tuple[list[Case], Row]] = []
    for index, samples in rows.items():
        if all(case.position in done for case in samples):
            continue
        try:
            row = Row(index, tuple(plan.messages(samples[0])), samples[0].item, tuple(tools_in(samples[0].item)))
        except GradingFailed as failure:
            answer = Answer(completion_of(None), model, error=("invalid_input_messages", str(failure)))
            keep([make_item(case, answer, [], plan.params) for case in samples if case.position not in done])
            continue
        prompts.append(sampler.render(row))
        asked.append((samples, row))
    if not asked:
        return
    seeds = [[derive_seed(seed, row.index, case.repeat) for case in samples] for samples, row in asked]
    waiting: list[Future[Item]] = []
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="grade") as pool:
        for p, s, completion in sampler.sample(prompts, len(seeds[0]), params, seeds):
            samples, row = asked[p]
            if samples[s].position not in done:
                waiting.append(pool.submit(_graded, samples[s], row, len(prompts[p].token_ids), completion, model, plan))
            waiting = _keep_finished(waiting, keep)
        for future in waiting:
            keep([future.result()])


def _keep_finished(waiting: list[Future[Item]], keep: Callable[[Sequence[Item]], object]) -> list[Future[Item]]:
    finished = [future for future in waiting if future.done()]
    if finished:
        keep([future.result() for future in finished])
    return [future for future in waiting if future not in finished]


def _graded(case: Case, row: Row, prompt: int, completion: Completion, model: str, plan: Plan) -> Item:
    written = len(completion.token_ids)
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written, "cached_tokens": 0}
    given: Mapping[str, Any] = {"model": model, "input": list(row.messages), "input_tools": list(row.tools)}
    answered = replace(completion, given=given)
    finish = "tool_calls" if completion.tool_calls else completion.finish
    results = plan.criteria.grade(answered, case.item, case.position)
    return make_item(case, Answer(answered, model, finish, usage), results, plan.params, row.messages)
