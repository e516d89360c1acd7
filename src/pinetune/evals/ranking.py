"""Answers that are ranked lists: where does the reference answer stand, and top-1, top-5, top-max, MRR.

An answer is a JSON object with a list of strings, best first (`{"genes": ["ACTB", "FLNA"], "explanation": "..."}`).
Whether a job's answers are such lists is read off the data; a job may also name the field.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinetune.data.answers import lookup, normalise
from pinetune.graders.gallery.reading import only_object
from pinetune.records import Completion, Group, Row

PREFERRED_FIELD = "genes"
# Longer lists hit by listing, not by knowing. 50 is as far as published gene rankers are usually judged (top-50).
MAX_LENGTH = 50

METRICS: dict[str, Callable[[int | None], float]] = {
    "top1": lambda rank: float(rank == 1),
    "top5": lambda rank: float(rank is not None and rank <= 5),
    "topmax": lambda rank: float(rank is not None),
    "mrr": lambda rank: 1.0 / rank if rank else 0.0,
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """How to read a job's ranked lists. `list_field` None: the field "genes", else the only list of strings."""

    answer_field: str
    list_field: str | None = None
    max_length: int = MAX_LENGTH

    def rank(self, completion: Completion, row: Row) -> int | None:
        """Place of the row's reference answer in the completion's list, from 1; None where it is absent."""
        return rank_of(completion.answer, str(lookup(row.item, self.answer_field)), self.list_field, self.max_length)

    def row_values(self, group: Group) -> dict[str, float]:
        """Each metric of one row: the mean over its graded samples."""
        ranks = [self.rank(rollout.completion, group.row) for rollout in group.graded()]
        return {name: statistics.fmean(map(value, ranks)) for name, value in METRICS.items()}


def ranked_list(answer_text: str, list_field: str | None = None) -> tuple[str, ...] | None:
    """The list of strings in an answer's JSON object, or None where there is none (no object or several, no list or two).

    Prose or a code fence around the object is forgiven.

    >>> ranked_list('{"genes": ["ACTB", "FLNA"], "explanation": "..."}')
    ('ACTB', 'FLNA')
    """
    answer = only_object(answer_text)
    if answer is None:
        return None
    field = list_field or (PREFERRED_FIELD if PREFERRED_FIELD in answer else None)
    if field is not None:
        return tuple(answer[field]) if _is_list_of_strings(answer.get(field)) else None
    lists = [value for value in answer.values() if _is_list_of_strings(value)]
    return tuple(lists[0]) if len(lists) == 1 else None


def rank_of(answer_text: str, reference: str, list_field: str | None = None, max_length: int = MAX_LENGTH) -> int | None:
    """Place of `reference` in the answer's list, from 1; None where absent.

    Compared without regard to case and white space. A list that names anything twice or has more than `max_length`
    entries counts as absent: padding must not pay.

    >>> rank_of('{"genes": ["FLNA", " actb"]}', "ACTB")
    2
    """
    listed = ranked_list(answer_text, list_field)
    if listed is None or len(listed) > max_length:
        return None
    names = [normalise(name) for name in listed]
    if len(set(names)) < len(names):
        return None
    wanted = normalise(reference)
    return names.index(wanted) + 1 if wanted in names else None


def detect(groups: Sequence[Group], answer_field: str | None, list_field: str | None = None) -> Ranking | None:
    """The Ranking of these groups, or None where the task has no ranked lists.

    With `list_field` told, the task has them even if no answer is readable yet. Otherwise every reference answer must
    be a string and at least one answer must hold a list.
    """
    if answer_field is None or not groups or not all(isinstance(lookup(g.row.item, answer_field), str) for g in groups):
        return None
    if list_field is not None:
        return Ranking(answer_field, list_field)
    answers = (rollout.completion.answer for group in groups for rollout in group.rollouts)
    return Ranking(answer_field) if any(ranked_list(answer) is not None for answer in answers) else None


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
