"""Several answers to one prompt, one of them taken: by majority, or with ranked lists put together.

Majority voting over samples at temperature 1 is self-consistency (Wang et al., ICLR 2023; ReFT section 4.4 votes over 100). What two
samples must share to count as the same answer is a rule's business (answer_rules.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinetune.data.answers import normalise
from pinetune.evals.answer_rules import AGGREGATES, Rule
from pinetune.evals.ranking import PREFERRED_FIELD, ranked_list
from pinetune.graders.gallery.reading import only_object


@dataclass(frozen=True, slots=True)
class Voted:
    """`answer` is a whole answer, ready for a grader: the first sample that says what most say, or one with the merged list.

    `share` = votes for it / n. `index` is the sample it comes from. `merged`: it is no sample's own text.
    Where nothing could be read, the answer is the first sample's and the share 0.
    """

    answer: str
    shown: str  # what it says, as the rule read it; "" where nothing could be read
    share: float
    n: int
    num_read: int
    index: int
    merged: bool = False
    votes: tuple[tuple[str, int], ...] = ()  # (what was said, how often), most first


def vote(answers: Sequence[str], rule: Rule, weights: Sequence[float] | None = None) -> Voted:
    """The answer most samples give; of equally frequent ones the one that was seen first. Raises ValueError for no answers.

    `weights`: what each sample's vote counts (a reranker's scores: Li et al. 2022, arXiv:2206.02336); `votes` and `share` stay counts.

    >>> from pinetune.evals.answer_rules import open_rule
    >>> voted = vote(["The answer is 4", "The answer is 5", "#### 4.0"], open_rule("number"))
    >>> (voted.answer, voted.share, voted.n)
    ('The answer is 4', 0.6666666666666666, 3)
    """
    if not answers:
        raise ValueError("a vote needs at least one answer")
    name, _, field = rule.name.partition(":")
    counted = [1.0] * len(answers) if weights is None else weights
    if name in AGGREGATES:
        return _merge(answers, POINTS[name], field or None, counted)
    counts: dict[str, int] = {}
    sums: dict[str, float] = {}
    first: dict[str, tuple[int, str]] = {}
    for index, answer in enumerate(answers):
        reading = rule.read(answer)
        if reading is not None:
            counts[reading.key] = counts.get(reading.key, 0) + 1
            sums[reading.key] = sums.get(reading.key, 0.0) + counted[index]
            first.setdefault(reading.key, (index, reading.shown))
    if not counts:
        return Voted(answers[0], "", 0.0, len(answers), 0, 0)
    order = sorted(counts, key=lambda key: -sums[key])  # stable: ties stay as first seen
    index, shown = first[order[0]]
    votes = tuple((first[key][1], counts[key]) for key in order)
    return Voted(answers[index], shown, counts[order[0]] / len(answers), len(answers), sum(counts.values()), index, votes=votes)


def _borda(place: int, longest: int) -> float:
    return float(longest - place)


def _reciprocal(place: int, _: int) -> float:
    return 1.0 / (place + 1)


# (place from 0, length of the longest list) -> points; what a list does not name gets none from it.
POINTS: dict[str, Callable[[int, int], float]] = {"borda": _borda, "reciprocal": _reciprocal}


def _merge(answers: Sequence[str], points: Callable[[int, int], float], field: str | None, weights: Sequence[float]) -> Voted:
    """Ranked lists put together: entries by their points, ties by first seen, no longer than the longest sampled list.

    A longer list would hit more by listing more. The share is that of the samples with the winner in first place. A list that names
    something twice, which every grader of lists refuses, is left out.
    """
    lists: dict[int, tuple[str, ...]] = {}
    for index, answer in enumerate(answers):
        listed = ranked_list(answer, field)
        if listed and len({normalise(entry) for entry in listed}) == len(listed):
            lists[index] = listed
    if not lists:
        return Voted(answers[0], "", 0.0, len(answers), 0, 0)
    longest = max(map(len, lists.values()))
    scores: dict[str, float] = {}
    shown: dict[str, str] = {}
    leads: dict[str, int] = {}
    for index, listed in lists.items():
        for place, entry in enumerate(listed):
            key = normalise(entry)
            scores[key] = scores.get(key, 0.0) + weights[index] * points(place, longest)
            shown.setdefault(key, entry.strip())
        leads[normalise(listed[0])] = leads.get(normalise(listed[0]), 0) + 1
    order = sorted(scores, key=lambda key: -scores[key])[:longest]
    # Its explanation stands beside the list: the first sample that led with the winner, else the first with a list.
    index = next((i for i, listed in lists.items() if normalise(listed[0]) == order[0]), next(iter(lists)))
    votes = tuple((shown[key], leads[key]) for key in sorted(leads, key=lambda key: -leads[key]))
    return Voted(
        answer=_with_list(answers[index], [shown[key] for key in order], field),
        shown=shown[order[0]],
        share=leads.get(order[0], 0) / len(answers),
        n=len(answers),
        num_read=len(lists),
        index=index,
        merged=True,
        votes=votes,
    )


def _with_list(answer: str, merged: Sequence[str], field: str | None) -> str:
    """The answer's JSON object with another ranked list; what stood around the object is dropped."""
    body = only_object(answer) or {}
    name = field or (PREFERRED_FIELD if PREFERRED_FIELD in body else next(key for key, value in body.items() if isinstance(value, list)))
    return json.dumps({**body, name: list(merged)}, ensure_ascii=False)
