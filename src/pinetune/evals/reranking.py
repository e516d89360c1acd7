"""What a reranker is trained on: graded answers to training rows, from a finished run or freshly sampled, never to held-out rows."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.data.answers import find_answer_field, lookup, normalise, prompt_key
from pinetune.errors import DataError
from pinetune.evals.answer_rules import open_rule
from pinetune.evals.ranking import ranked_list
from pinetune.records import Group, Row
from pinetune.runs.folder import RunFolder

HELD_OUT_SHARE = 0.2
AUTO, NO_RULE = "auto", "none"
NAMED_OFTEN = 5
CHOOSING_PER_ROW = 8  # answers of a held-out row that choose the step: they are scored again and again
PER_ROW = 32  # answers of one row: more of them repeat themselves


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer to a row and whether its grade reached the threshold."""

    row: Row
    reasoning: str
    answer: str
    correct: bool


def judged_of_groups(groups: Iterable[Group], threshold: float) -> list[JudgedAnswer]:
    """What could not be graded teaches nothing."""
    return [
        JudgedAnswer(group.row, rollout.completion.reasoning, rollout.completion.answer, rollout.grade.value >= threshold)
        for group in groups
        for rollout in group.graded()
    ]


def judged_of_run(run: RunFolder, rows: Sequence[Row], threshold: float) -> list[JudgedAnswer]:
    """The run's graded rollouts of these rows, newest step first: late rollouts are most like what the tuned model says.

    Rows are found again by their messages. Raises DataError where the run holds no rollout of any of them.
    """
    import polars as pl

    by_prompt = {prompt_key(row.messages): row for row in rows}
    found = []
    columns = ["messages", "reasoning", "answer", "grade_value"]
    for path in sorted(run.rollouts.glob("step-*.parquet"), reverse=True):
        graded = pl.scan_parquet(path).filter(pl.col("grade_status") == "ok").select(columns).collect()
        for messages, reasoning, answer, value in graded.iter_rows():
            row = by_prompt.get(prompt_key(json.loads(messages)))
            if row is not None:
                found.append(JudgedAnswer(row, reasoning, answer, value >= threshold))
    if not found:
        raise DataError(f"{run.rollouts}: holds no graded rollout of these rows; give the file that the run was trained on")
    return found


def thinned(judged: Iterable[JudgedAnswer], per_row: int = PER_ROW) -> list[JudgedAnswer]:
    """Each answer once, and of each row at most half of `per_row` right and half wrong, the first ones given."""
    seen: set[tuple[int, str, str]] = set()
    counts: dict[tuple[int, bool], int] = defaultdict(int)
    kept = []
    for one in judged:
        name, kind = (one.row.index, one.reasoning, one.answer), (one.row.index, one.correct)
        if name not in seen and counts[kind] < max(1, per_row // 2):
            seen.add(name)
            counts[kind] += 1
            kept.append(one)
    return kept


def said_by(judged: Iterable[JudgedAnswer], written: str, *, unsafe_python: bool = False) -> list[str | None]:
    """What each answer says by a rule, "" where the rule reads nothing; None for all where nothing is to be read.

    `written`: a rule as in answer_rules, "none", or "auto": "first" where most answers are ranked lists, else "none".
    Raises UserError for an unknown rule.
    """
    answers = [one.answer for one in judged]
    if written == AUTO:
        written = "first" if sum(ranked_list(answer) is not None for answer in answers) > len(answers) / 2 else NO_RULE
    if written == NO_RULE:
        return [None] * len(answers)
    rule = open_rule(written, unsafe_python=unsafe_python)
    try:
        return [reading.key if (reading := rule.read(answer)) is not None else "" for answer in answers]
    finally:
        rule.close()


def names_in(judged: Iterable[JudgedAnswer], least: int = NAMED_OFTEN) -> list[str]:
    """The entries of ranked lists that occur in `least` answers or more, sorted: rarer ones are slips.

    Raises DataError for fewer than two.
    """
    lists = [{entry.strip() for entry in ranked_list(one.answer) or ()} for one in judged]
    counts = Counter(name for listed in lists for name in listed)
    names = sorted(name for name, count in counts.items() if count >= least and len(name) > 1)
    if len(names) < 2:
        raise DataError(f"--rename: these answers hold no ranked lists whose entries occur {least} times; leave it out")
    return names


def telling(judged: Sequence[JudgedAnswer], per_row: int = CHOOSING_PER_ROW) -> list[JudgedAnswer]:
    """The first answers of the rows that these answer both rightly and wrongly: no other row tells how well a reranker orders."""
    rows: dict[int, list[JudgedAnswer]] = defaultdict(list)
    for one in judged:
        if len(rows[one.row.index]) < per_row:
            rows[one.row.index].append(one)
    return [one for answers in rows.values() if len({answer.correct for answer in answers}) == 2 for one in answers]


def split_rows(
    judged: Sequence[JudgedAnswer], *, answer_field: str | None = None, share: float = HELD_OUT_SHARE, seed: int = 0
) -> tuple[list[JudgedAnswer], list[JudgedAnswer]]:
    """(to train on, to choose the epoch by): whole answer groups, so that a reranker that knows answers by heart gains nothing."""
    rows = list({one.row.index: one.row for one in judged}.values())
    field = answer_field or find_answer_field(rows)
    name_of = {row.index: normalise(lookup(row.item, field)) if field else str(row.index) for row in rows}
    names = sorted(set(name_of.values()))
    if len(names) < 2:  # a closed set of one answer, or one row
        return list(judged), []
    random.Random(seed).shuffle(names)
    held = set(names[: max(1, round(share * len(names)))])
    return [one for one in judged if name_of[one.row.index] not in held], [one for one in judged if name_of[one.row.index] in held]


def require_both_kinds(judged: Sequence[JudgedAnswer], threshold: float) -> None:
    """Raises DataError saying which kind is missing and what to do."""
    right = sum(one.correct for one in judged)
    if not right:
        raise DataError(f"none of {len(judged)} answers reaches a reward of {threshold:g}: lower --threshold, or sample more: --samples")
    if right == len(judged):
        raise DataError(
            f"all {right} answers reach a reward of {threshold:g}, so none is wrong: raise --threshold, or sample more: --samples"
        )


def fingerprints(rows: Iterable[Row]) -> list[str]:
    """Short names of the rows' prompts: what a reranker keeps of its training rows, to refuse them as evidence."""
    return sorted({hashlib.sha256(prompt_key(row.messages).encode()).hexdigest()[:16] for row in rows})


def refuse_trained_rows(settings: dict[str, Any], rows: Sequence[Row], file: str) -> None:
    """Raises DataError where the reranker was trained on some of these rows: it has seen which answers to them are right."""
    known = set(settings.get("rows", ()))
    shared = [row for row in rows if not known.isdisjoint(fingerprints([row]))]
    if shared:
        lines = ", ".join(str(row.line or row.index + 1) for row in shared[:5]) + (", ..." if len(shared) > 5 else "")
        raise DataError(
            f"{file}: the reranker was trained on {len(shared)} of these {len(rows)} rows (lines {lines}); "
            "give rows it has not seen, as the run's test file"
        )
