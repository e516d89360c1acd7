"""One answer, again and again, paid well on rows that have different right answers: the grader has a hole and the model found it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.data.answers import as_text, find_answer_field, lookup, normalise
from pinetune.loop.alarms.history import Alarm, History
from pinetune.records import Group, Rollout, Row

NAME = "gaming"
HIGH = 0.5  # a reward worth having
SHARE = 0.25  # of the step's graded answers
ROWS = 3  # different ones at least
ALIKE = 0.9  # share of words in common (Jaccard)
ONE_ANSWER = 0.8  # where most of the rows have one right answer ("yes"), saying it often is no trick
SHOWN_CHARS, TOLD_CHARS = 300, 80  # of a text in `data`, and in the message
NOT_ANSWERS = {"messages", "tools", "id", "parallel_tool_calls"}


@dataclass(slots=True)
class Alike:
    """Answers that are the same but for a word in ten."""

    words: frozenset[str]
    found: list[tuple[Group, Rollout]]


def check(history: History) -> Alarm | None:
    graded = [(group, rollout) for group in history.groups for rollout in group.graded()]
    paid = [(group, rollout) for group, rollout in graded if rollout.grade.value >= HIGH]
    if len(paid) < SHARE * max(1, len(graded)) or len({group.row.index for group, _ in paid}) < ROWS:
        return None
    rows = [group.row for group in history.groups]
    field = history.answer_field or find_answer_field(rows)
    right = {row.index: _right_answer(row, field) for row in rows}
    largest = max(_alike(paid, right), key=lambda alike: len(alike.found))
    of_rows = {group.row.index: right[group.row.index] for group, _ in largest.found}
    commonest = Counter(of_rows.values()).most_common(1)[0][1]
    if len(largest.found) < SHARE * len(graded) or len(of_rows) < ROWS or commonest > ONE_ANSWER * len(of_rows):
        return None
    share = len(largest.found) / len(graded)
    examples = _examples(largest.found, field)
    return Alarm(
        NAME,
        f"{share:.0%} of the answers are nearly the same text and get {HIGH:g} or more, on {len(of_rows)} rows with different right "
        f"answers: the grader has a hole. {_told(examples[0])} Close it (pinetune grader test finds such holes) and start from an "
        "earlier checkpoint.",
        {"share": share, "rows": len(of_rows), "examples": examples},
    )


def _right_answer(row: Row, field: str | None) -> str:
    """The row's reference answer; where no field has the usual name, all that the grader may look at."""
    return _beside_the_prompt(row) if field is None else normalise(lookup(row.item, field))


def _beside_the_prompt(row: Row) -> str:
    kept = {key: value for key, value in row.item.items() if key not in NOT_ANSWERS}
    return json.dumps(kept, sort_keys=True, default=str) if kept else f"row {row.index}"


def _alike(paid: Sequence[tuple[Group, Rollout]], right: Mapping[int, str]) -> list[Alike]:
    """Same text, or nearly so; an answer that holds its own row's reference is only like its exact copies."""
    exact: dict[str, Alike] = {}
    for group, rollout in paid:
        text = normalise(rollout.completion.answer)
        exact.setdefault(text, Alike(frozenset(re.findall(r"\w+", text)), [])).found.append((group, rollout))
    merged: list[Alike] = []
    for text, alike in sorted(exact.items(), key=lambda pair: -len(pair[1].found)):
        knows = any(len(right[group.row.index]) > 1 and right[group.row.index] in text for group, _ in alike.found)
        near = None if knows else next((other for other in merged if _near(alike.words, other.words)), None)
        if near is None:
            merged.append(alike)
        else:
            near.found += alike.found
    return merged


def _near(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) >= ALIKE * max(1, len(a | b))


def _examples(found: Sequence[tuple[Group, Rollout]], field: str | None) -> list[dict[str, Any]]:
    """Two, of different rows."""
    of_row = {group.row.index: (group, rollout) for group, rollout in reversed(found)}
    return [
        {
            "line": group.row.line,
            "prompt": str(group.row.messages[-1].get("content", ""))[:SHOWN_CHARS] if group.row.messages else "",
            "answer": rollout.completion.answer[:SHOWN_CHARS],
            "right_answer": None if field is None else as_text(lookup(group.row.item, field))[:SHOWN_CHARS],
            "reward": rollout.grade.value,
        }
        for group, rollout in list(of_row.values())[-2:]
    ]


def _told(example: Mapping[str, Any]) -> str:
    """An example in a sentence; the prompt is left to `data`, where it has room."""
    answer = repr(example["answer"][:TOLD_CHARS]) if example["answer"].strip() else "an empty answer"
    right = "" if example["right_answer"] is None else f", where {example['right_answer'][:TOLD_CHARS]!r} is right"
    return f"Example: line {example['line']} gets {example['reward']:.2f} for {answer}{right}."
