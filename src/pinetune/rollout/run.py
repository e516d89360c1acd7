"""Rows + sampler + grader to groups: the one path that training and evaluation share.

Grading overlaps sampling: each completion goes to a thread as soon as it is finished, while the sampler works on the
others. The result does not depend on how fast grading is: groups come back in row order, rollouts in sample order.
When the budget for judges is spent the whole call ends with BudgetSpent: what was graded is in the judges' cache.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pinetune.errors import BudgetSpent
from pinetune.records import Completion, Grade, Grader, Group, Prompt, Rollout, Row, Sampler, SamplingParams

# Graders wait (a child process, a judge), so many more than there are cores; how many of them work at once is capped where
# they wait: `sandbox.pool` by cores, `judges` by judge_concurrency.
GRADING_THREADS = 64
LARGEST = 1e100  # beyond it the means and squares of a step overflow, and with them the job


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, stable across processes and versions (unlike `hash`).

    >>> derive_seed(1, "train", 2) == derive_seed(1, "train", 2) != derive_seed(12, "train")
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def run_groups(
    rows: Sequence[Row],
    sampler: Sampler,
    grader: Grader,
    *,
    num_samples: int,
    params: SamplingParams,
    seed: int,
    on_group: Callable[[Group], None] | None = None,
) -> list[Group]:
    """Sample `num_samples` completions of each row, grade them, and return one Group a row, in row order.

    Rollout s of row r is seeded by (seed, r.index, s) alone. `on_group` hears of each group when its last grade is in.
    A grader that raises is a Grade with status "error", never a lost rollout. Raises BudgetSpent as judges do.
    """
    prompts = [sampler.render(row) for row in rows]
    seeds = [[derive_seed(seed, row.index, s) for s in range(num_samples)] for row in rows]
    completions: list[dict[int, Completion]] = [{} for _ in rows]
    grades: list[dict[int, Future[Grade]]] = [{} for _ in rows]
    groups: list[Group | None] = [None] * len(rows)
    spent: list[BudgetSpent] = []

    def finish_groups() -> None:
        for p, row in enumerate(rows):
            if not spent and groups[p] is None and len(grades[p]) == num_samples and all(f.done() for f in grades[p].values()):
                groups[p] = group = _group(row, prompts[p], seeds[p], completions[p], grades[p])
                if on_group is not None:
                    on_group(group)

    with ThreadPoolExecutor(GRADING_THREADS, thread_name_prefix="grade") as pool:
        try:
            for p, s, completion in sampler.sample(prompts, num_samples, params, seeds):
                completions[p][s] = completion
                grades[p][s] = pool.submit(_grade, grader, completion, rows[p], spent)
                if spent:
                    break
                if on_group is not None:
                    finish_groups()
        except BaseException:  # Ctrl-C above all: nobody wants to wait for judges any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if spent:
        raise spent[0]
    finish_groups()
    return [group for group in groups if group is not None]


def _grade(grader: Grader, completion: Completion, row: Row, spent: list[BudgetSpent]) -> Grade:
    """`spent` hears of a spent budget; the grades that are still waiting then ask nobody."""
    try:
        if not spent:
            grade = grader.grade(completion, row)
            if grade.status == "error" or abs(grade.value) <= LARGEST:  # False for NaN
                return grade
            text = f"the grader gave {grade.value:g}: a reward is a number that can be added up, and belongs between 0 and 1"
            return Grade(status="error", error_kind="other_error", explanation=text)
    except BudgetSpent as error:
        spent.append(error)
    except Exception:  # the boundary to foreign code: whatever it raised, this answer could not be graded
        return Grade(status="error", error_kind="other_error", explanation=traceback.format_exc(limit=5))
    return Grade(status="error", error_kind="other_error", explanation="not graded: the judges' budget is spent")


def _group(row: Row, prompt: Prompt, seeds: Sequence[int], completions: dict[int, Completion], grades: dict[int, Future[Grade]]) -> Group:
    rollouts = tuple(
        Rollout(row_index=row.index, sample_index=s, seed=seeds[s], completion=completions[s], grade=grades[s].result())
        for s in range(len(seeds))
    )
    return Group(row=row, prompt=prompt, rollouts=rollouts)
