"""The rows of a run, answered and graded several at a time; each finished item is handed over at once.

Nothing is kept here: whoever calls stores the items and says which positions are done, so a run can be ended at any moment
and go on somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from pinetune.errors import GradingFailed
from pinetune.evals.asking import Answer
from pinetune.evals.cases import Case, Prompter, completion_of
from pinetune.evals.criteria import Criteria
from pinetune.evals.items import Item, make_item
from pinetune.records import Message
from pinetune.rollout.run import derive_seed

CONCURRENCY = 16  # rows at once: both models and judges answer over a network
TICK = 0.5  # seconds between looks at whether to go on


class Asks(Protocol):
    def ask(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, seed: int | None = None) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How each row becomes an item. Without `asker` rows are graded as they are.

    `prompter` None: the messages stand in the item, under `messages` or `input`.
    """

    criteria: Criteria
    asker: Asks | None = None
    prompter: Prompter | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def item(self, case: Case) -> Item:
        """Ask and grade one row. Raises BudgetSpent."""
        if self.asker is None:
            answer, messages = _brought(case), _said_before(case.sample)
        else:
            answer, messages = self._asked(case)
        results = [] if answer.error else self.criteria.grade(answer.completion, case.item, case.position)
        return make_item(case, answer, results, {**self.params, "seed": seed_of(self.params, case)} if self.asker else {}, messages)

    def messages(self, case: Case) -> Sequence[Message]:
        """What the model is asked. Raises GradingFailed where the item has none."""
        return self.prompter.messages(case.item) if self.prompter else _messages_in(case.item)

    def _asked(self, case: Case) -> tuple[Answer, Sequence[Message]]:
        assert self.asker is not None
        try:
            messages = self.messages(case)
        except GradingFailed as failure:
            return Answer(completion_of(None), error=("invalid_input_messages", str(failure))), ()
        return self.asker.ask(messages, tools_in(case.item), seed=seed_of(self.params, case)), messages


def run_cases(
    cases: Sequence[Case],
    plan: Plan,
    *,
    keep: Callable[[Sequence[Item]], object],
    go_on: Callable[[], object] = lambda: None,
    done: Container[int] = (),
    concurrency: int = CONCURRENCY,
) -> None:
    """Hand every item whose position is not `done` to `keep`, in the order in which they finish.

    `go_on` is called at least every half second and ends the run by raising; so does `keep`. Rows in flight are then dropped.
    """
    waiting = iter(case for case in cases if case.position not in done)
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="eval")
    try:
        flying = _submit(pool, plan, waiting, concurrency)
        while flying:
            go_on()
            finished, flying = wait(flying, timeout=TICK, return_when=FIRST_COMPLETED)
            if finished:
                keep(sorted((future.result() for future in finished), key=lambda item: item.position))
                flying |= _submit(pool, plan, waiting, len(finished))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def seed_of(params: Mapping[str, Any], case: Case) -> int | None:
    """The seed of one sample of one row, below 2^31 so that every server takes it; None where the run has none.

    One seed for all rows would give all of them the same random numbers: they would stop thinking, say, at the same place, and rows
    that err together make the interval too narrow.
    """
    seed = params.get("seed")
    return None if seed is None else derive_seed(seed, case.position if case.row is None else case.row, case.repeat) >> 32


def tools_in(item: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The tools that a row of a fine-tuning file offers."""
    tools = item.get("tools")
    return tools if isinstance(tools, list) else ()


def _submit(pool: ThreadPoolExecutor, plan: Plan, waiting: Iterator[Case], count: int) -> set[Future[Item]]:
    return {pool.submit(plan.item, case) for case in islice(waiting, count)}


def _brought(case: Case) -> Answer:
    sample = case.sample or {}
    choices = sample.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    return Answer(completion_of(case.sample), str(sample.get("model") or ""), str(first.get("finish_reason") or "stop"))


def _said_before(sample: Mapping[str, Any] | None) -> Sequence[Message]:
    said = (sample or {}).get("input")
    return [message for message in said if isinstance(message, Mapping)] if isinstance(said, list) else ()


def _messages_in(item: Mapping[str, Any]) -> Sequence[Message]:
    for key in ("messages", "input"):
        found = item.get(key)
        if isinstance(found, list) and found and all(isinstance(message, Mapping) for message in found):
            return found
        if isinstance(found, str):
            return [{"role": "user", "content": found}]
    raise GradingFailed(
        "invalid_variable_error", "the item has no messages; give input_messages, such as a template with {{ item.question }}"
    )
